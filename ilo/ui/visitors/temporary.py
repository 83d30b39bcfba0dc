"""The folder of uploads and downloads. It is deleted with the page, however the page ends."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from filelock import FileLock, Timeout

from ilo.ui.visitors.limits import Limits

FOLDER = "GRADIO_TEMP_DIR"  # the variable that Gradio reads
PREFIX, LOCK = "ilo-studio-", ".lock"
DOWNLOADS = "downloads"  # its subfolder for downloads


@contextmanager
def files() -> Iterator[Path]:
    """Gradio's temporary folder while a page is served: a new one inside `GRADIO_TEMP_DIR` or the system's folder.

    It is deleted at the end. The next page deletes the folder of a killed one, because a process holds the lock of its
    folder as long as it lives.
    """
    before = os.environ.get(FOLDER)
    parent = Path(before or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{PREFIX}*"):
        _delete_if_left(folder)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    lock = FileLock(made / LOCK)
    lock.acquire()
    folder = made.rename(parent / made.name[1:])  # other pages look for this name, and find it locked
    os.environ[FOLDER] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(FOLDER)
        os.environ.update({} if before is None else {FOLDER: before})
        lock.release()
        rmtree(folder, ignore_errors=True)


def outside() -> dict[str, str]:
    """The environment without this page's folder, for the page that replaces it."""
    return {**os.environ, FOLDER: str(Path(os.environ[FOLDER]).parent)} if FOLDER in os.environ else {**os.environ}


def is_upload(path: Path, folder: Path) -> bool:
    """Whether Gradio stored this file for a visitor: FOLDER/<sha256>/<name>, and no other path."""
    try:
        place, *name = path.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return False
    return len(name) == 1 and re.fullmatch("[0-9a-f]{64}", place) is not None


def delete_later(path: Path, seconds: float, limits: Limits) -> None:
    """Let `tidy` delete a file after `seconds`, unless it is written again before. The file need not exist.

    The function sets the modification time so that `tidy` then considers the file old; no other record is needed.
    """
    with suppress(OSError):
        when = time.time() - limits.kept_seconds + seconds
        os.utime(path, (when, min(when, path.stat().st_mtime)))


def tidy(folder: Path, limits: Limits) -> None:
    """Delete files that are too old from the folder of uploads and downloads, and the oldest files beyond the limits.

    Every file that is not a download counts as an upload, including partial uploads and the state of deep links.
    """
    lock, apart = folder / LOCK, folder / DOWNLOADS
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    downloads = [path for path in found if path.is_relative_to(apart)]
    uploads = [path for path in found if path != lock and not path.is_relative_to(apart)]
    _keep_newest(downloads, limits.kept_seconds, limits.downloads_bytes, limits.downloads_files)
    _keep_newest(uploads, limits.kept_seconds, limits.uploads_bytes, limits.uploads_files)


def _keep_newest(paths: list[Path], seconds: float, most_bytes: int, most_files: int) -> None:
    """Delete files older than `seconds`, and the oldest files beyond the given bytes or number of files."""
    found = []
    for path in paths:
        with suppress(OSError):  # deleted in the meantime
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total, oldest = 0, time.time() - seconds
    for count, (changed, size, path) in enumerate(sorted(found, reverse=True), 1):
        total += size
        if changed < oldest or total > most_bytes or count > most_files:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # each file has its own folder; the page's folder contains the lock and stays


def end_as_by_hand() -> None:
    """Make SIGTERM, which services and containers send, end the page like ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _delete_if_left(folder: Path) -> None:
    if not os.path.isfile(folder / LOCK):  # not the folder of a page, or that of another user
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # its page is still running, or belongs to another user
        return
    lock.release()
    rmtree(folder, ignore_errors=True)
