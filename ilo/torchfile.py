"""Reading files, and what `torch.save` has written (its zip format and the older one), without executing any of it."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ilo.unpickle import DTYPES, MOST_OPCODES, MOST_TEXT, TENSORS, Name, Storage, UnpickleError, run

MOST_FILES = 20_000  # inside a zip
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def mapped(path: Path) -> memoryview:
    """The bytes of a file, without reading them all; the map is closed when nothing refers to it any more.

    Raises:
        UnpickleError: the file is empty.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise UnpickleError("it is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_torch(view: memoryview) -> Any:
    """What `torch.save` has written, in its zip format or the older one. Objects of training programs are `Record`s.

    Raises:
        UnpickleError: as for `read_official`; a zip whose entries are compressed.
    """
    budget = [MOST_OPCODES, MOST_TEXT]
    return _read_zip(view, budget) if bytes(view[:4]) == b"PK\x03\x04" else _read_legacy(view, budget)


def _described(identity: Any) -> tuple[str, str, int]:
    """Kind, key and number of elements of a storage that a torch pickle refers to."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise UnpickleError("it refers to something that is no storage")
    _, kind, key, _, count = identity[:5]
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in DTYPES:
        raise UnpickleError(f"it holds numbers of an unknown kind{f' ({kind})' if isinstance(kind, Name) else ''}")
    if not isinstance(key, (str, int)) or not isinstance(count, int) or not 0 <= count < 2**40:
        raise UnpickleError("a storage is not described as one")
    if len(identity) > 5 and identity[5] is not None:
        raise UnpickleError("it has a view of a storage, which is not supported")
    return kind.name, str(key), count


def _fill(storage: Storage, data: memoryview) -> None:
    if len(data) != storage.count * np.dtype(DTYPES[storage.kind][0]).itemsize:
        raise UnpickleError("a storage has another size than is said")
    storage.data = data


def _read_zip(view: memoryview, budget: list[int]) -> Any:
    entries = _entries(view)
    main = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(main) != 1:
        raise UnpickleError("it is a zip, but not of torch.save")
    root = main[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(order[:8]) != b"little":
        raise UnpickleError("its numbers are big-endian, which is not supported")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        kind, key, count = _described(identity)
        if key not in storages:
            if f"{root}data/{key}" not in entries:
                raise UnpickleError("a tensor's numbers are missing")
            storages[key] = Storage(kind, count)
            _fill(storages[key], entries[f"{root}data/{key}"])
        return storages[key]

    return run(entries[main[0]], 0, TENSORS, budget, True, persistent)[0]


def _entries(view: memoryview) -> dict[str, memoryview]:
    """The entries of a zip, none of them compressed."""
    content = view.obj
    find = content.find if isinstance(content, mmap.mmap) and len(content) == len(view) else bytes(view).find
    at = count = 0
    while (at := find(b"PK\x01\x02", at) + 4) > 3:
        count += 1
        if count > MOST_FILES:
            raise UnpickleError("it is a zip with more entries than any network has")
    source: Any = _Reader(view)
    found = {}
    try:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise UnpickleError("it is a zip with compressed entries, which torch.save never writes")
                names, extras = struct.unpack("<HH", view[info.header_offset + 26 : info.header_offset + 30])
                begin = info.header_offset + 30 + names + extras
                if begin + info.file_size > len(view):
                    raise UnpickleError("it ends too early")
                found[info.filename] = view[begin : begin + info.file_size]
    except (zipfile.BadZipFile, struct.error, NotImplementedError, OSError, ValueError) as error:
        if isinstance(error, UnpickleError):
            raise
        raise UnpickleError(f"it is not a complete zip ({error})") from None
    return found


class _Reader:
    """A seekable file over a view, for `zipfile`; nothing is copied but what is read."""

    def __init__(self, view: memoryview):
        self._view, self._at = view, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        if base + offset < 0:
            raise OSError("a position before its beginning")
        self._at = base + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = len(self._view) if count < 0 else min(len(self._view), self._at + count)
        part = bytes(self._view[self._at : end])
        self._at = max(self._at, end)
        return part

    def close(self) -> None:
        return


def _read_legacy(view: memoryview, budget: list[int]) -> Any:
    magic, at = run(view, 0, {}, budget)
    if magic != LEGACY_MAGIC:
        raise UnpickleError("it was not written by torch.save")
    _, at = run(view, at, {}, budget)
    system, at = run(view, at, {}, budget)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnpickleError("its numbers are big-endian, which is not supported")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        kind, key, count = _described(identity)
        return storages.setdefault(key, Storage(kind, count))

    found, at = run(view, at, TENSORS, budget, True, persistent)
    keys, at = run(view, at, {}, budget)
    plain = isinstance(keys, list) and all(isinstance(key, (str, int)) for key in keys)
    if not plain or {str(key) for key in keys} != storages.keys():
        raise UnpickleError("its list of storages is not that of its tensors")
    for key in keys:
        storage = storages[str(key)]
        size = storage.count * np.dtype(DTYPES[storage.kind][0]).itemsize
        if at + 8 + size > len(view):
            raise UnpickleError("it ends too early")
        if struct.unpack("<q", view[at : at + 8])[0] != storage.count:
            raise UnpickleError("a storage has another size than is said")
        _fill(storage, view[at + 8 : at + 8 + size])
        at += 8 + size
    return found
