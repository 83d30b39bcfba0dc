"""A film of a reconstruction as it forms."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import av
import numpy as np

FPS = 15
SMALLEST_SIDE = 256  # pixels; smaller pictures are enlarged by repeating theirs


def encode(frames: list[np.ndarray], fps: int = FPS) -> bytes:
    """Frames, uint8 [R, R, 3] each and one at least, as an MP4 file that browsers play: H.264 where it is available."""
    scale = math.ceil(SMALLEST_SIDE / frames[0].shape[0])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=fps)
        stream.height = stream.width = frames[0].shape[0] * scale
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.time_base = Fraction(1, fps)
        stream.options = {"crf": "16", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        for pixels in [*frames, *[frames[-1]] * fps]:  # the end stays for a second
            large = pixels.repeat(scale, 0).repeat(scale, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
