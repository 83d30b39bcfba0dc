"""The validation photographs that the benchmarks measure on: a tar of pictures, given by its path."""

from __future__ import annotations

import os
import random
import tarfile
from pathlib import Path

import torch
from torch import Tensor

from ilo.photos.pictures import read_picture, to_tensor

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "utkface128-val.tar"
TUNED_ON = slice(50, 58)  # in the order of their names: the first searches of benchmarks/tune.py
TUNING = 16  # at the end of the seeded order: its later ones


def path() -> Path:
    """`ILO_VALIDATION`, or the shared data folder beside the checkout."""
    return Path(os.environ.get("ILO_VALIDATION", DEFAULT))


def for_tuning(count: int, resolution: int) -> Tensor:
    """Up to 16 pictures, which are never measured on: [B, 3, R, R] in [−1, 1]."""
    return read(_order()[-TUNING:][:count], resolution)


def for_measuring(count: int, resolution: int) -> Tensor:
    """Pictures [B, 3, R, R] in [−1, 1], of all ages."""
    return read(_order()[:-TUNING][:count], resolution)


def _order() -> list[str]:
    """A seeded order: by name they would be sorted by age."""
    found = names()
    del found[TUNED_ON]
    random.Random(0).shuffle(found)
    return found


def names() -> list[str]:
    """All of them, sorted."""
    with tarfile.open(path()) as tar:
        return sorted(member.name for member in tar.getmembers() if member.isfile())


def read(names: list[str], resolution: int) -> Tensor:
    """[B, 3, R, R] in [−1, 1]."""
    with tarfile.open(path()) as tar:
        pictures = [read_picture(tar.extractfile(name).read()) for name in names]  # type: ignore[union-attr]
    return torch.cat([to_tensor(picture, resolution) for picture in pictures])
