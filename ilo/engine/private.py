"""A folder that nobody else can write to, for files that will be executed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(Exception):
    """Somebody else could have written a file; the message says which part of its path allows that."""


def make(folder: Path) -> None:
    """Create a folder that only this user can enter, and check it and all folders above it.

    Raises:
        NotPrivateError: somebody else could put files there.
        OSError: the folder cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check(folder)


def check(path: Path) -> None:
    """Make sure that nobody but this user and root could have written a file, or could replace it.

    The path must lead there without symbolic links in its last part, it must belong to this user, and so must every
    folder above, or to root. None of them may be writable by others, unless the folder lets them change only what is
    their own (as /tmp does).

    Raises:
        NotPrivateError: one of these conditions does not hold.
        OSError: there is no such path.
    """
    if not hasattr(os, "geteuid"):
        raise NotPrivateError("this system does not tell who may write to a file")
    user = os.geteuid()
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != user or found.st_mode & WRITABLE_BY_OTHERS:
        raise NotPrivateError(f"{path} does not belong to this user alone")
    for parent in path.resolve().parents:
        found = parent.stat()
        shared = found.st_mode & WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (user, 0) or shared:
            raise NotPrivateError(f"others can write to {parent}")
