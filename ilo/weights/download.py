"""Downloading the registry's files: resumable, one process at a time, verified before use.

A file gets its final name only after its hash has been verified. If the hash is not published, the hash of the first
download is stored beside the file (`<file>.sha256`, in the format of `sha256sum -c`) and later ones must match it.

A file that is already in huggingface_hub's cache, for example through a Space's `preload_from_hub`, is linked instead
of downloaded.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout

from ilo.weights import cache
from ilo.weights.registry import Embedded, Entry, Hub

ATTEMPTS = 3  # consecutive attempts without progress before giving up
WAIT = 1.0  # seconds after the first attempt; each later wait is twice as long
STALL = 20.0  # seconds without data before a connection counts as broken
OFFLINE = ("ILO_OFFLINE", "HF_HUB_OFFLINE")  # setting either to 1 forbids downloads
RESUMABLE = "The part downloaded so far is kept, and the next attempt continues from there"

Progress = Callable[[int, "int | None"], None]  # bytes received, and bytes in total if known


class DownloadError(Exception):
    """A file could not be obtained; the message says why and what to do."""


def fetch(entry: Entry, progress: Progress = lambda done, total: None, say: Callable[[str], None] = print) -> Path:
    """Return a model's file; link it from huggingface_hub's cache or download it if necessary.

    Args:
        entry: the model's registry entry.
        progress: called with the number of bytes received, and the total if known.
        say: called with messages for the user, such as that another process is already downloading the file.

    Raises:
        DownloadError: there is no network, the server fails, the disk is full, the hash is wrong, or downloads are
            switched off.
    """
    if entry.here:
        return checked(entry)
    if isinstance(entry.source, Embedded):
        raise DownloadError(_missing(entry))
    if _linked(entry, say):
        return entry.path
    switch = next((name for name in OFFLINE if os.environ.get(name, "0") not in ("", "0")), None)
    if switch:
        raise DownloadError(f"{entry.id} is not downloaded, and {switch} forbids downloads. {by_hand(entry)}")
    try:
        with _only_one(entry, say):
            if not entry.here:  # another process may have downloaded it meanwhile
                entry.path.parent.mkdir(parents=True, exist_ok=True)
                stated, headers = _on_hub(entry.source) if isinstance(entry.source, Hub) else ("", {})
                _accept(entry, _receive(entry, headers, progress), stated)
    except (httpx2.HTTPError, OSError) as error:
        raise DownloadError(f"{entry.id} could not be downloaded: {_reason(error, entry)}. {by_hand(entry)}") from error
    return entry.path


def checked(entry: Entry) -> Path:
    """Return a model's local file; its hash is checked once if it was put there by hand or has changed.

    Raises:
        DownloadError: the file is not here, or fails its hash check.
    """
    if not entry.here and isinstance(entry.source, Embedded):
        raise DownloadError(_missing(entry))
    if not entry.here:
        raise DownloadError(f"{entry.id} is not downloaded yet. Fetch it: python -m ilo models fetch {entry.id}")
    if not isinstance(entry.source, Embedded) and _read(_mark(entry)) != _state(entry.path):
        _check(entry, entry.path, f"Remove it: python -m ilo models remove {entry.id}")
    return entry.path


def verify(entry: Entry) -> str:
    """Check the hash of a model's local file, and return it.

    Raises:
        DownloadError: the hash is wrong.
    """
    return _check(entry, entry.path, f"Fetch it again: python -m ilo models remove {entry.id}, then fetch {entry.id}")


def remove(entry: Entry) -> list[Path]:
    """Delete a model's file, any partial download and its converted copy. Returns the deleted paths.

    The stored hash is kept. If the file is in huggingface_hub's cache, only the link to it is deleted.

    Raises:
        DownloadError: the model is embedded, or the file cannot be deleted.
    """
    if isinstance(entry.source, Embedded):
        raise DownloadError(f"{entry.id} is part of the studio and cannot be removed.")
    gone: list[Path] = []
    files = (entry.path, _partial(entry), _tag(entry))
    if not any(path.is_file() or path.is_symlink() for path in files):
        return gone
    try:
        with _only_one(entry, None):
            for path in (*files, *_converted(entry)):
                if path.is_file() or path.is_symlink():
                    path.unlink()
                    gone.append(path)
            _mark(entry).unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(f"{entry.file} cannot be removed: {_reason(error, entry)}.") from error
    return gone


def preloaded(entry: Entry) -> Path | None:
    """A model's file in huggingface_hub's cache, or None."""
    if not isinstance(entry.source, Hub):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(entry.source.repository, entry.source.file, revision=entry.source.revision)
    return Path(found).resolve() if isinstance(found, str) else None


def _linked(entry: Entry, say: Callable[[str], None]) -> bool:
    """Link a model's file from huggingface_hub's cache. Returns False if it is not there or its hash is wrong."""
    found = preloaded(entry)
    if found is None:
        return False
    try:
        with _only_one(entry, say):
            if not entry.here:
                # huggingface_hub names the blob of a large file by its hash.
                _check(entry, found, "It is downloaded instead", _hash_or_nothing(found.name))
                entry.path.unlink(missing_ok=True)  # a dangling link
                try:
                    entry.path.symlink_to(found)
                except OSError:  # the disk or the system does not support links
                    shutil.copy2(found, entry.path)
    except DownloadError as error:
        say(f"In the Hugging Face cache, {error}")
        return False
    except OSError:  # the download that follows reports what is wrong with the folder
        return False
    say(f"{entry.id} is used from the Hugging Face cache.")
    return True


def _converted(entry: Entry) -> list[Path]:
    """The converted safetensors copies of a published generator, which are named by its hash."""
    if entry.kind == "generator":
        with suppress(OSError):
            return list(cache.folder().glob(f"{cache.sha256(entry.path)}.*"))
    return []


def _missing(entry: Entry) -> str:
    return f"{entry.file} is missing from the studio's folder assets; install the studio again."


def by_hand(entry: Entry) -> str:
    """Instructions for downloading a file without this program."""
    return f"By hand: save {entry.source.address} as {entry.path}"


def known_hash(entry: Entry) -> str:
    """The published hash or its beginning, else the hash of the first download, else an empty string."""
    if entry.sha256:
        return entry.sha256
    return (_read(_pin(entry)).split() or [""])[0]


def _pin(entry: Entry) -> Path:
    return cache.folder() / f"{entry.file}.sha256"


def _mark(entry: Entry) -> Path:
    """File recording the size and time of the model's file when its hash was last verified."""
    return cache.folder() / f".{entry.file}.checked"


def _state(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _partial(entry: Entry) -> Path:
    return cache.folder() / f"{entry.file}.part"


def _tag(entry: Entry) -> Path:
    """File recording the server's ETag for the version that was partly downloaded."""
    return cache.folder() / f"{entry.file}.part.etag"


def _check(entry: Entry, path: Path, cure: str, stated: str = "") -> str:
    """Compare a file's hash with the known one, else with the one stated by the server. Stores and returns it."""
    found, wanted = cache.sha256(path), known_hash(entry) or stated
    if not found.startswith(wanted):
        raise DownloadError(
            f"{entry.file} is not the expected file: its sha256 is {found[:16]}…, not {wanted[:16]}…. {cure}."
        )
    if not isinstance(entry.source, Embedded):
        with suppress(OSError):  # the cache may be read-only
            _pin(entry).write_text(f"{found}  {entry.file}\n")
            _mark(entry).write_text(_state(path))
    return found


def _accept(entry: Entry, arrived: Path, stated: str) -> None:
    """Verify a complete download and give it its final name."""
    try:
        _check(entry, arrived, "The download was deleted; try again, later or from another network", stated)
    except DownloadError:
        arrived.unlink()
        raise
    else:
        os.replace(arrived, entry.path)
    finally:
        _tag(entry).unlink(missing_ok=True)


@contextmanager
def _only_one(entry: Entry, say: Callable[[str], None] | None) -> Iterator[None]:
    """Per-file lock: one process downloads, the others wait; released if the holder dies.

    Raises:
        DownloadError: another process holds the lock and `say` is None.
    """
    cache.folder().mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache.folder() / f".{entry.file}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if say is None:
            raise DownloadError(
                f"{entry.id} is being downloaded; wait for the download to end, or stop it first."
            ) from None
        say(f"Another process is downloading {entry.id}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _receive(entry: Entry, extra: dict[str, str], progress: Progress) -> Path:
    """Download to the partial file, continuing where it ends, until it is complete."""
    failures, partial = 0, _partial(entry)
    headers = {**extra, "Accept-Encoding": "identity"}
    with httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(STALL), headers=headers) as client:
        while True:
            before = _size(partial)
            try:
                _stream(client, entry, progress)
                return partial
            except (httpx2.TransportError, httpx2.HTTPStatusError) as error:
                if isinstance(error, httpx2.HTTPStatusError) and not _passing(error.response.status_code):
                    raise
                failures = 1 if _size(partial) > before else failures + 1
                if failures >= ATTEMPTS:
                    raise
                time.sleep(WAIT * 2 ** (failures - 1))


def _stream(client: httpx2.Client, entry: Entry, progress: Progress) -> None:
    """Request the missing part of the file once."""
    partial, have, headers = _partial(entry), _size(_partial(entry)), {}
    tag = _read(_tag(entry))
    if have and tag:
        headers = {"Range": f"bytes={have}-", "If-Range": tag}
    elif have and entry.sha256:  # the final hash check would reveal a part of another version
        headers = {"Range": f"bytes={have}-"}
    with client.stream("GET", entry.source.address, headers=headers) as response:
        if response.status_code == 416:  # the partial file is complete already, or belongs to another version
            partial.unlink()
            raise httpx2.RemoteProtocolError("the server does not have this range", request=response.request)
        response.raise_for_status()
        have = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _make_room(partial.parent, (total or 0) - have)
        strong = response.headers.get("ETag", "")
        _tag(entry).write_text("" if strong.startswith("W/") else strong)
        with partial.open("ab" if have else "wb") as file:
            progress(have, total)
            for chunk in response.iter_raw():
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
    if total is not None and have != total:
        raise httpx2.RemoteProtocolError(f"only {have:,} of {total:,} bytes arrived")


def _on_hub(source: Hub) -> tuple[str, dict[str, str]]:
    """Ask the Hub for a file's SHA-256 (empty if it states none) and the request headers for downloading it.

    huggingface_hub's own download cannot resume after its process was killed.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.utils import build_hf_headers

    about = get_hf_file_metadata(source.address, timeout=STALL, endpoint=source.endpoint)
    return _hash_or_nothing(about.etag or ""), build_hf_headers()


def _hash_or_nothing(name: str) -> str:
    """The Hub's ETag if it is a SHA-256, else an empty string; small files have another kind of ETag."""
    return name if re.fullmatch("[0-9a-f]{64}", name) else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def _make_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OSError(errno.ENOSPC, f"{wanted / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free")


def _passing(status: int) -> bool:
    """Whether an HTTP status is temporary, so that a retry may succeed."""
    return status in (408, 429) or status >= 500


def _reason(error: BaseException, entry: Entry) -> str:
    """Describe a network, server or disk error in words."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    responses = [getattr(e, "response", None) for e in causes]
    response = next((r for r in responses if r is not None), None)
    host = httpx2.URL(entry.source.address).host
    if response is not None:
        status = response.status_code
        meaning = {401: "a login is required", 403: "access is denied", 404: "the file is no longer there"}
        other = "a server error" if status >= 500 else "the request was refused"
        return f"{host} answered {status} ({meaning.get(status, other)})"
    if any(isinstance(e, httpx2.ConnectError) for e in causes):
        nameless = any(isinstance(e, socket.gaierror) or "name" in str(e).lower() for e in causes)
        what = f"the address of {host} was not found" if nameless else f"{host} cannot be reached"
        return f"{what}; there may be no network"
    if any(isinstance(e, httpx2.TimeoutException) for e in causes):
        return f"{host} sent nothing for {STALL:.0f} s. {RESUMABLE}"
    if any(isinstance(e, httpx2.HTTPError) for e in causes):
        return f"the connection to {host} broke. {RESUMABLE}"
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.args[1]}). Make room; the part downloaded so far is kept"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return f"{cache.folder()} cannot be written. Set ILO_CACHE to a writable folder"
    return f"{error}"
