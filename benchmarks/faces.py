"""The validation photographs that the benchmarks measure on: a tar of pictures, given by its path."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import torch
from torch import Tensor

from ilo.pictures import read_picture, to_tensor

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "utkface128-val.tar"


def path() -> Path:
    """`ILO_VALIDATION`, or the shared data folder beside the checkout."""
    return Path(os.environ.get("ILO_VALIDATION", DEFAULT))


def read(first: int, last: int, resolution: int) -> Tensor:
    """Pictures number first … last − 1 in the order of their names: [B, 3, R, R] in [−1, 1]."""
    with tarfile.open(path()) as tar:
        members = sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name)[first:last]
        pictures = [read_picture(tar.extractfile(m).read()) for m in members]  # type: ignore[union-attr]
    return torch.cat([to_tensor(picture, resolution) for picture in pictures])
