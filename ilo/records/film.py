"""Encoding a film of a reconstruction."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import av
import numpy as np

FPS = 15
SMALLEST_SIDE = 256  # minimum side of the film in pixels; smaller pictures are enlarged by repeating pixels


def encode(frames: list[np.ndarray], fps: int = FPS) -> bytes:
    """Encode at least one frame, uint8 [R, R, 3] each, as an MP4 that browsers play: H.264 where available."""
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
        for pixels in [*frames, *[frames[-1]] * fps]:  # hold the last frame for a second
            large = pixels.repeat(scale, 0).repeat(scale, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
