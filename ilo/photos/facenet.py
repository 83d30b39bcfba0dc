"""The embedded face network: is a face in the middle of a window of 64 pixels, and where are its five landmarks?

There is no padding, so the network also takes whole pictures: it then looks at one window every 8 pixels.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ilo.settings import SettingsError
from ilo.weights.description import Description
from ilo.weights.find import find, reading
from ilo.weights.lazy import Extent
from ilo.weights.safefile import read_header

WINDOW, STRIDE = 64, 8  # pixels
# Convolutions: channels, kernel, stride. A window of 64 pixels shrinks to 31, 29, 14, 12, 5, 3, 1.
LAYERS = ((24, 4, 2), (24, 3, 1), (48, 3, 2), (48, 3, 1), (96, 4, 2), (128, 3, 1), (128, 3, 1))
# Landmarks of an upright face as fractions of its square, which is tight: from the hairline to the chin.
FACE = np.array([(0.308, 0.287), (0.692, 0.287), (0.5, 0.506), (0.338, 0.672), (0.662, 0.672)])


class FaceNet(nn.Module):
    """Plain convolutions with ReLU.

    Args:
        norm: batch normalisation after every convolution but the last, for training; `folded` removes it.
    """

    def __init__(self, norm: bool = False):
        super().__init__()
        parts: list[nn.Module] = []
        inputs = 3
        for channels, kernel, stride in LAYERS:
            parts.append(nn.Conv2d(inputs, channels, kernel, stride, bias=not norm))
            parts += [nn.BatchNorm2d(channels)] * norm
            parts.append(nn.ReLU())
            inputs = channels
        self.layers = nn.Sequential(*parts, nn.Conv2d(inputs, 11, 1))

    def folded(self) -> FaceNet:
        """The same network for inference, without batch normalisation."""
        made, parts = FaceNet(), list(self.eval().layers)
        plain = [
            fuse_conv_bn_eval(part, after) if isinstance(after, nn.BatchNorm2d) else part
            for part, after in zip(parts, [*parts[1:], None], strict=True)
            if isinstance(part, nn.Conv2d)
        ]
        theirs = [part for part in made.layers if isinstance(part, nn.Conv2d)]
        for own, part in zip(theirs, plain, strict=True):
            own.load_state_dict(part.state_dict())
        return made.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Look at pictures [B, 3, H, W] in [−1, 1], H and W ≥ 64.

        Returns:
            logits [B, h, w] of a face in each window, and the landmarks [B, h, w, 5, 2], (x, y) as fractions of the
            window. Window (i, j) begins at row 8i and column 8j; h = (H − 64) // 8 + 1, and likewise w.
        """
        y = self.layers(x).permute(0, 2, 3, 1)
        return y[..., 0], y[..., 1:].unflatten(-1, (5, 2)) + 0.5


def to_input(pictures: np.ndarray) -> Tensor:
    """Convert uint8 [B, H, W, 3] to float [B, 3, H, W] in [−1, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def save(network: FaceNet, path: Path, about: dict[str, Any]) -> None:
    """Write a folded network in float16, with `about` as JSON metadata."""
    tensors = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, {"about": json.dumps(about, ensure_ascii=False)})


@lru_cache(maxsize=1)
def load() -> FaceNet:
    """The embedded network, frozen.

    Raises:
        SettingsError: its file is missing or damaged.
    """
    return read(find("facenet64", "detector", (), SettingsError))


def read(path: Path) -> FaceNet:
    """Read a file written by `save`.

    Raises:
        SettingsError: it is missing, or does not hold this network.
    """
    with reading(path, SettingsError):
        data = Extent.of_file(path)
        found = Description("safetensors in the studio's own format", len(data), read_header(data)[0])
        network = FaceNet().requires_grad_(False).eval()
        found.compare(network.state_dict())
        network.load_state_dict(found.weights())
        return network.to(memory_format=torch.channels_last)
