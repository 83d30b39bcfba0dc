"""The folder of what is fetched or made once and kept between starts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def folder() -> Path:
    """`ILO_CACHE`; else ilo-studio in `HF_HOME`, which a Space keeps; else ilo-studio/models in the user's cache.

    It may not exist yet.
    """
    if own := os.environ.get("ILO_CACHE"):
        return Path(own)
    if hub := os.environ.get("HF_HOME"):
        return Path(hub) / "ilo-studio"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilo-studio" / "models"


def sha256(path: Path) -> str:
    """Hash of a file of any size."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
