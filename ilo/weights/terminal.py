"""What people are told about a model's file: where it is, how large it is, how far its download has come."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from ilo.weights import download
from ilo.weights.download import Progress
from ilo.weights.registry import Embedded, Entry


def bring(entry: Entry) -> Path:
    """A model's file, downloaded under a progress bar if it is not here. Raises `DownloadError`."""
    if not entry.here:
        print(f"{entry.title}. {entry.terms}.")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc=entry.id, disable=entry.here, leave=False) as bar:
        return download.fetch(entry, _onto(bar), bar.write)


def state(entry: Entry) -> str:
    """Whether a model is here, and how large it is."""
    if isinstance(entry.source, Embedded):
        return "Part of the studio"
    if entry.here:
        return f"Here, {megabytes(entry.path.stat().st_size)}"
    return f"Not here, {megabytes(entry.size)}" if entry.size else "Not here"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def _onto(bar: tqdm) -> Progress:
    def tell(done: int, total: int | None) -> None:
        if total is not None:
            bar.total = total
        bar.update(done - bar.n)

    return tell
