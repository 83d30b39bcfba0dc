"""The validation photographs of the benchmarks, read from a tar of pictures."""

from __future__ import annotations

import os
import random
import tarfile
from pathlib import Path

import torch
from torch import Tensor

from ilo.photos.pictures import read_picture, to_tensor

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "utkface128-val.tar"
TUNED_ON = slice(50, 58)  # pictures, sorted by name, of the first searches of benchmarks/tune.py
TUNING = 16  # number of pictures at the end of the seeded order, for its later searches


def path() -> Path:
    """`ILO_VALIDATION`, or the shared data folder beside the checkout."""
    return Path(os.environ.get("ILO_VALIDATION", DEFAULT))


def for_tuning(count: int, resolution: int) -> Tensor:
    """Up to 16 pictures for tuning, which are never used for measuring: [B, 3, R, R] in [−1, 1]."""
    return read(_order()[-TUNING:][:count], resolution)


def for_measuring(count: int, resolution: int) -> Tensor:
    """Pictures for measuring, of all ages: [B, 3, R, R] in [−1, 1]."""
    return read(_order()[:-TUNING][:count], resolution)


def _order() -> list[str]:
    """Names in a seeded random order, because sorted names would be ordered by age."""
    found = names()
    del found[TUNED_ON]
    random.Random(0).shuffle(found)
    return found


def names() -> list[str]:
    """Names of all pictures, sorted."""
    with tarfile.open(path()) as tar:
        return sorted(member.name for member in tar.getmembers() if member.isfile())


def read(names: list[str], resolution: int) -> Tensor:
    """Read pictures as [B, 3, R, R] in [−1, 1]."""
    with tarfile.open(path()) as tar:
        pictures = [read_picture(tar.extractfile(name).read()) for name in names]  # type: ignore[union-attr]
    return torch.cat([to_tensor(picture, resolution) for picture in pictures])
