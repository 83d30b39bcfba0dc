"""The folder of what visitors upload and download. It goes with the page, however that ends."""

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

FOLDER = "GRADIO_TEMP_DIR"  # where Gradio looks for it
PREFIX, LOCK = "ilo-studio-", ".lock"
DOWNLOADS = "downloads"  # the folder in it that holds them


@contextmanager
def files() -> Iterator[Path]:
    """Gradio's temporary folder, while a page is served; an empty one inside of `GRADIO_TEMP_DIR` or the system's.

    It is deleted at the end. What a killed page has left is deleted by the next one: a process holds its folder's lock
    as long as it lives.
    """
    before = os.environ.get(FOLDER)
    parent = Path(before or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{PREFIX}*"):
        _delete_if_left(folder)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    lock = FileLock(made / LOCK)
    lock.acquire()
    folder = made.rename(parent / made.name[1:])  # where others look, and find it locked
    os.environ[FOLDER] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(FOLDER)
        os.environ.update({} if before is None else {FOLDER: before})
        lock.release()
        rmtree(folder, ignore_errors=True)


def outside() -> dict[str, str]:
    """The environment without this page's own folder, for a page that takes its place."""
    return {**os.environ, FOLDER: str(Path(os.environ[FOLDER]).parent)} if FOLDER in os.environ else {**os.environ}


def is_upload(path: Path, folder: Path) -> bool:
    """Whether a file is one that Gradio has received for a visitor: FOLDER/<sha256>/<name>, and nothing else there."""
    try:
        place, *name = path.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return False
    return len(name) == 1 and re.fullmatch("[0-9a-f]{64}", place) is not None


def delete_later(path: Path, seconds: float, limits: Limits) -> None:
    """Let `tidy` delete a file after some seconds, unless it has been written again by then. It may be gone already.

    Its time of change is moved to where `tidy` takes it for old then, so that nothing needs to be remembered.
    """
    with suppress(OSError):
        when = time.time() - limits.kept_seconds + seconds
        os.utime(path, (when, min(when, path.stat().st_mtime)))


def tidy(folder: Path, limits: Limits) -> None:
    """Delete what is too old in the folder of uploads and downloads, and the oldest of what is too much.

    Whatever is no download counts as an upload, a broken one or the state behind a deep link included.
    """
    lock, apart = folder / LOCK, folder / DOWNLOADS
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    downloads = [path for path in found if path.is_relative_to(apart)]
    uploads = [path for path in found if path != lock and not path.is_relative_to(apart)]
    _keep_newest(downloads, limits.kept_seconds, limits.downloads_bytes, limits.downloads_files)
    _keep_newest(uploads, limits.kept_seconds, limits.uploads_bytes, limits.uploads_files)


def _keep_newest(paths: list[Path], seconds: float, most_bytes: int, most_files: int) -> None:
    """Delete the files older than some seconds, and the oldest of more than so many bytes or files."""
    found = []
    for path in paths:
        with suppress(OSError):  # it has just been deleted
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total, oldest = 0, time.time() - seconds
    for count, (changed, size, path) in enumerate(sorted(found, reverse=True), 1):
        total += size
        if changed < oldest or total > most_bytes or count > most_files:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # each file has a folder of its own; the page's has its lock, and stays


def end_as_by_hand() -> None:
    """Let SIGTERM, which services and containers send, end the page as ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _delete_if_left(folder: Path) -> None:
    if not os.path.isfile(folder / LOCK):  # no page's, or one of another user
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # its page is alive, or somebody else's
        return
    lock.release()
    rmtree(folder, ignore_errors=True)
