"""The folder of what visitors upload and download. It goes with the page, however that ends."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from filelock import FileLock, Timeout

FOLDER = "GRADIO_TEMP_DIR"  # where Gradio looks for it
PREFIX, LOCK = "ilo-studio-", ".lock"


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


def delete_later(path: Path, seconds: float) -> None:
    """Delete a file after some seconds, unless it has been written again by then. It may be gone already."""

    def delete() -> None:
        with suppress(OSError):
            if path.stat().st_mtime <= written:
                path.unlink()

    with suppress(OSError):
        written = path.stat().st_mtime
        timer = threading.Timer(seconds, delete)
        timer.daemon = True
        timer.start()


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
