"""The cache folder, for files that are downloaded or computed once and kept between starts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def folder() -> Path:
    """The cache folder, which may not exist yet.

    It is `ILO_CACHE` if set; else ilo-studio in `HF_HOME`, which a Space keeps; else ilo-studio/models in the user's
    cache folder.
    """
    if own := os.environ.get("ILO_CACHE"):
        return Path(own)
    if hub := os.environ.get("HF_HOME"):
        return Path(hub) / "ilo-studio"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilo-studio" / "models"


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size, as hex digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
