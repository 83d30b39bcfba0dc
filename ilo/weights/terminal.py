"""Showing the state and download progress of model files in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from ilo.weights import download, registry
from ilo.weights.download import DownloadError, Progress
from ilo.weights.registry import Embedded, Entry


def bring(entry: Entry) -> Path:
    """Return a model's file; if necessary, download it with a progress bar. Raises `DownloadError`."""
    if not entry.here:
        print(f"{entry.title}. {entry.terms}.")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc=entry.id, disable=entry.here, leave=False) as bar:
        return download.fetch(entry, _onto(bar), bar.write)


def bring_preloaded() -> None:
    """Link all models that a Space's `preload_from_hub` put into the Hugging Face cache, and report damaged ones."""
    for entry in registry.ENTRIES:
        if not entry.here and download.preloaded(entry):
            try:
                bring(entry)
            except DownloadError as error:
                print(error, file=sys.stderr)


def state(entry: Entry) -> str:
    """Where a model's file is, and its size, in words."""
    if isinstance(entry.source, Embedded):
        return "Part of the studio"
    if entry.here:
        size = megabytes(entry.path.stat().st_size)
        return f"Downloaded, {size}, in the Hugging Face cache" if entry.path.is_symlink() else f"Downloaded, {size}"
    return f"Not downloaded, {megabytes(entry.size)}" if entry.size else "Not downloaded"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def _onto(bar: tqdm) -> Progress:
    def tell(done: int, total: int | None) -> None:
        if total is not None:
            bar.total = total
        bar.update(done - bar.n)

    return tell
