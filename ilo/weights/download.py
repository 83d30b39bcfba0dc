"""Fetching the registry's files: resumed where it broke off, one process at a time, checked before it is used.

A file has its final name only once its hash is right. Of files whose hash is not published, the first one's is kept
beside it (`<file>.sha256`, as `sha256sum -c` reads it), and every later one must be the same.

A file of the Hub that huggingface_hub has in its own cache, as a Space's `preload_from_hub` puts it there, is not
downloaded again: it gets its name here as a link.
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

ATTEMPTS = 3  # in a row without anything new, before giving up
WAIT = 1.0  # seconds after the first of them; each later wait is twice as long
STALL = 20.0  # seconds without a byte
OFFLINE = ("ILO_OFFLINE", "HF_HUB_OFFLINE")  # either, set to 1, forbids downloads

Progress = Callable[[int, "int | None"], None]  # bytes that are here, bytes in all if it is known


class DownloadError(Exception):
    """A file that could not be had; the message says why, and what to do."""


def fetch(entry: Entry, progress: Progress = lambda done, total: None, say: Callable[[str], None] = print) -> Path:
    """The file of a model, which is linked from huggingface_hub's cache or downloaded if it is not here.

    Args:
        entry: of the registry.
        progress: called with the bytes that have come and those to come.
        say: told, in a sentence, what else a user should know: that another process is fetching the same file.

    Raises:
        DownloadError: no network, an error of the server, a full disk, a wrong hash, or downloads are switched off.
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
            if not entry.here:  # unless the other process has brought it
                entry.path.parent.mkdir(parents=True, exist_ok=True)
                stated, headers = _on_hub(entry.source) if isinstance(entry.source, Hub) else ("", {})
                _accept(entry, _receive(entry, headers, progress), stated)
    except (httpx2.HTTPError, OSError) as error:
        raise DownloadError(f"{entry.id} could not be downloaded: {_reason(error, entry)}. {by_hand(entry)}") from error
    return entry.path


def checked(entry: Entry) -> Path:
    """The file of a model that is here; one put there by hand, or changed since, is checked once.

    Raises:
        DownloadError: it is not here, or not the file that it should be.
    """
    if not entry.here and isinstance(entry.source, Embedded):
        raise DownloadError(_missing(entry))
    if not entry.here:
        raise DownloadError(f"{entry.id} is not downloaded yet. Fetch it: python -m ilo models fetch {entry.id}")
    if not isinstance(entry.source, Embedded) and _read(_mark(entry)) != _state(entry.path):
        _check(entry, entry.path, f"Remove it: python -m ilo models remove {entry.id}")
    return entry.path


def verify(entry: Entry) -> str:
    """Compute the hash of a file that is here, and compare it. Returns the hash.

    Raises:
        DownloadError: it is another one.
    """
    return _check(entry, entry.path, f"Fetch it again: python -m ilo models remove {entry.id}, then fetch {entry.id}")


def remove(entry: Entry) -> list[Path]:
    """Delete a model's file, and what had come of it; its known hash is kept. Returns what was deleted.

    Of a file in huggingface_hub's cache the link is deleted; the file itself is that library's.

    Raises:
        DownloadError: it is embedded, or cannot be deleted.
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
    """The file of a model in huggingface_hub's own cache, if it is there."""
    if not isinstance(entry.source, Hub):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(entry.source.repository, entry.source.file, revision=entry.source.revision)
    return Path(found).resolve() if isinstance(found, str) else None


def _linked(entry: Entry, say: Callable[[str], None]) -> bool:
    """Give a file of huggingface_hub's cache its name here, if there is one and its hash is right."""
    found = preloaded(entry)
    if found is None:
        return False
    try:
        with _only_one(entry, say):
            if not entry.here:
                # That library names a large file's blob by its hash.
                _check(entry, found, "It is downloaded instead", _hash_or_nothing(found.name))
                entry.path.unlink(missing_ok=True)  # a link to what has been deleted
                try:
                    entry.path.symlink_to(found)
                except OSError:  # a disk or a system without links
                    shutil.copy2(found, entry.path)
    except DownloadError as error:
        say(f"In the Hugging Face cache, {error}")
        return False
    except OSError:  # the download tells what is wrong with the folder
        return False
    say(f"{entry.id} is used from the Hugging Face cache.")
    return True


def _converted(entry: Entry) -> list[Path]:
    """A published generator is also kept as safetensors, named after its hash."""
    if entry.kind == "generator":
        with suppress(OSError):
            return list(cache.folder().glob(f"{cache.sha256(entry.path)}.*"))
    return []


def _missing(entry: Entry) -> str:
    return f"{entry.file} is missing from the studio's folder assets; install the studio again."


def by_hand(entry: Entry) -> str:
    """How to get a file without this program."""
    return f"By hand: save {entry.source.address} as {entry.path}"


def known_hash(entry: Entry) -> str:
    """The published hash, or how it begins; otherwise the one of the first download; empty if there is neither."""
    if entry.sha256:
        return entry.sha256
    return (_read(_pin(entry)).split() or [""])[0]


def _pin(entry: Entry) -> Path:
    return cache.folder() / f"{entry.file}.sha256"


def _mark(entry: Entry) -> Path:
    """Says in what state the file was when its hash was right."""
    return cache.folder() / f".{entry.file}.checked"


def _state(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _partial(entry: Entry) -> Path:
    return cache.folder() / f"{entry.file}.part"


def _tag(entry: Entry) -> Path:
    """The server's name for the version of which a part is here."""
    return cache.folder() / f"{entry.file}.part.etag"


def _check(entry: Entry, path: Path, cure: str, stated: str = "") -> str:
    """Compare a file's hash with the known one, or else the one stated by the server; keep it where none is known."""
    found, wanted = cache.sha256(path), known_hash(entry) or stated
    if not found.startswith(wanted):
        raise DownloadError(
            f"{entry.file} is not the expected file: its sha256 is {found[:16]}…, not {wanted[:16]}…. {cure}."
        )
    if not isinstance(entry.source, Embedded):
        with suppress(OSError):  # a cache that cannot be written
            _pin(entry).write_text(f"{found}  {entry.file}\n")
            _mark(entry).write_text(_state(path))
    return found


def _accept(entry: Entry, arrived: Path, stated: str) -> None:
    """Give what has come its final name, if it is right."""
    try:
        _check(entry, arrived, "What had come was deleted; try again, later or from another network", stated)
    except DownloadError:
        arrived.unlink()
        raise
    else:
        os.replace(arrived, entry.path)
    finally:
        _tag(entry).unlink(missing_ok=True)


@contextmanager
def _only_one(entry: Entry, say: Callable[[str], None] | None) -> Iterator[None]:
    """Of all processes, one fetches a file; the others wait, or fail without `say`. A killed one lets go of the lock.

    Raises:
        DownloadError: without `say`, where another process has the lock.
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
    """Download to the partial file, going on where it ends, until it is complete."""
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
    """One request for what is still missing."""
    partial, have, headers = _partial(entry), _size(_partial(entry)), {}
    tag = _read(_tag(entry))
    if have and tag:
        headers = {"Range": f"bytes={have}-", "If-Range": tag}
    elif have and entry.sha256:  # a part of another version would be found out at the end
        headers = {"Range": f"bytes={have}-"}
    with client.stream("GET", entry.source.address, headers=headers) as response:
        if response.status_code == 416:  # all of it is here already, or another version
            partial.unlink()
            raise httpx2.RemoteProtocolError("the server has no such part", request=response.request)
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
        raise httpx2.RemoteProtocolError(f"{have:,} of {total:,} bytes came")


def _on_hub(source: Hub) -> tuple[str, dict[str, str]]:
    """What the Hub says of a file: its hash, if it is one, and the headers with which to ask for it.

    huggingface_hub itself would not go on with the download of a process that was killed.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.utils import build_hf_headers

    about = get_hf_file_metadata(source.address, timeout=STALL, endpoint=source.endpoint)
    return _hash_or_nothing(about.etag or ""), build_hf_headers()


def _hash_or_nothing(name: str) -> str:
    """The Hub's name for a content, where it is a sha256; small files have another kind of name."""
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
    """Whether the same request may succeed a little later."""
    return status in (408, 429) or status >= 500


def _reason(error: BaseException, entry: Entry) -> str:
    """An error of the network, the server or the disk in words."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    responses = [getattr(e, "response", None) for e in causes]
    response = next((r for r in responses if r is not None), None)
    host = httpx2.URL(entry.source.address).host
    if response is not None:
        status = response.status_code
        meaning = {401: "it wants a login", 403: "access is not allowed", 404: "the file is not there any more"}
        return f"{host} answered {status} ({meaning.get(status, 'a fault of the server' if status >= 500 else 'no')})"
    if any(isinstance(e, httpx2.ConnectError) for e in causes):
        nameless = any(isinstance(e, socket.gaierror) or "name" in str(e).lower() for e in causes)
        what = f"the address of {host} is not found" if nameless else f"{host} cannot be reached"
        return f"{what}; there may be no network"
    if any(isinstance(e, httpx2.TimeoutException) for e in causes):
        return f"nothing came from {host} for {STALL:.0f} s. What has come is kept, and the next try goes on from there"
    if any(isinstance(e, httpx2.HTTPError) for e in causes):
        return f"the connection to {host} broke. What has come is kept, and the next try goes on from there"
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.args[1]}). Make room; what has come is kept"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return f"{cache.folder()} cannot be written. Set ILO_CACHE to a folder that can"
    return f"{error}"
