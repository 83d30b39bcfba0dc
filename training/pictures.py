"""Training pictures from tar files, decoded once into one uint8 array that is kept outside the project."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm


def read_tars(
    paths: Sequence[Path], size: int, cache: Path, label: Callable[[str], int]
) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of some tar files in the order of their names, and their labels.

    Args:
        paths: the tar files.
        size: pixels per side; others are resized (bicubic with antialiasing).
        cache: a .npz file; read if it is there, written otherwise.
        label: a member's name → its label.

    Returns:
        uint8 [N, size, size, 3], int64 [N].
    """
    if cache.exists():
        with np.load(cache) as stored:
            return stored["pictures"], stored["labels"]
    found: list[tuple[str, np.ndarray]] = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tqdm(tar, desc=path.name, mininterval=5):
                if member.isfile():
                    with Image.open(io.BytesIO(tar.extractfile(member).read())) as opened:  # type: ignore[union-attr]
                        image = opened.convert("RGB")
                        if image.size != (size, size):
                            image = image.resize((size, size), Image.Resampling.BICUBIC)
                        found.append((member.name, np.asarray(image)))
    found.sort(key=lambda pair: pair[0])
    pictures = np.stack([pixels for _, pixels in found])
    labels = np.array([label(name) for name, _ in found], np.int64)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npz")
    np.savez(partial, pictures=pictures, labels=labels)
    partial.rename(cache)
    return pictures, labels


def read_classes(path: Path) -> list[tuple[str, str]]:
    """(WordNet id, name) of classes.tsv, in the order of the labels."""
    with path.open(newline="") as file:
        return [(row["wnid"], row["name"]) for row in csv.DictReader(file, delimiter="\t")]
