"""Identify a weights file: its format, how the studio can use it, and the reasons if it cannot."""

from __future__ import annotations

from pathlib import Path

from ilo.classifiers import classifier, resnet
from ilo.priors.stylegan2 import checkpoint, official, rosinality
from ilo.weights.budget import Budget
from ilo.weights.description import Description
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.safefile import read_header
from ilo.weights.torchfile import read_torch

FORMATS = (".safetensors", ".pkl", ".pt", ".pth", ".ckpt")


def describe(path: Path) -> Description:
    """Describe a weights file without reading its numbers.

    Args:
        path: a network pickle (`.pkl`), a file of `torch.save` (`.pt`, `.pth`, `.ckpt`), or `.safetensors`.

    Raises:
        ReadError: the file is damaged, has another suffix, names anything but the parts of a network, or contains no
            network that the studio knows.
        OSError: the file cannot be read.
    """
    if path.suffix not in FORMATS:
        raise ReadError(f"its name does not end in {', '.join(FORMATS)}")
    data = Extent.of_file(path)
    if path.suffix == ".pkl":
        return official.describe(data)
    if path.suffix == ".safetensors":
        return classifier.describe(data) if "about" in read_header(data)[1] else checkpoint.describe(data)
    content = read_torch(data, Budget.of(data))
    if isinstance(content, dict) and "g_ema" in content:
        return rosinality.describe(content, len(data))
    return resnet.describe(content, len(data))
