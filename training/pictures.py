"""Reading training pictures from tar files, decoded once into a cached uint8 array."""

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
    """Read all pictures of tar files, sorted by name, with their labels.

    Args:
        paths: the tar files.
        size: pixels per side; other sizes are resized (bicubic with antialiasing).
        cache: .npz file; read if it exists, otherwise written.
        label: function from a member's name to its label.

    Returns:
        Pictures uint8 [N, size, size, 3] and labels int64 [N].
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


def read_faces(data: Path, size: int, work: Path) -> np.ndarray:
    """The faces that generators are trained with, uint8 [N, size, size, 3]; decoded once, then kept in `work`.

    Args:
        data: folder with utkface128-train-*.tar.

    Raises:
        ValueError: the folder holds none of them.
    """
    paths, cache = sorted(data.glob("utkface128-train-*.tar")), work / f"faces{size}.npz"
    if not paths and not cache.exists():
        raise ValueError(f"{data} holds no pictures to train with; expected are files utkface128-train-*.tar")
    return read_tars(paths, size, cache, lambda name: 0)[0]


def read_classes(path: Path) -> list[tuple[str, str]]:
    """Read (WordNet id, name) pairs from classes.tsv, in the order of the labels."""
    with path.open(newline="") as file:
        return [(row["wnid"], row["name"]) for row in csv.DictReader(file, delimiter="\t")]
