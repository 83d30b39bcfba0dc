"""Reading files of `torch.save` (zip and legacy format) without executing anything in them."""

from __future__ import annotations

import os
import struct
import zipfile
from typing import Any

from ilo.text.words import shown
from ilo.weights.budget import Budget
from ilo.weights.lazy import DTYPES, Extent, ReadError, Storage
from ilo.weights.pickled import TENSORS, Name
from ilo.weights.unpickle import run

MOST_FILES = 10_000  # maximum number of files in a zip
LONGEST_READ = 1_000_000  # maximum bytes of a zip's directory
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ENCRYPTED = 0x1 | 0x40  # bits of an entry's flags
ZIP_MAGIC = b"PK\x03\x04"


def read_torch(data: Extent, budget: Budget) -> Any:
    """Read a file of `torch.save`. Tensors are lazy, and objects of training programs become `Record`s.

    Raises:
        ReadError: the file is damaged, refers to anything but tensors and training programs, exceeds the budget, or
            is a zip with compressed entries.
    """
    return _read_zip(data, budget) if is_zip(data) else _read_legacy(data, budget)


def is_zip(data: Extent) -> bool:
    """Whether a file begins with the signature of a zip."""
    return len(data) > 4 and bytes(data.read(0, 4)) == ZIP_MAGIC


def _described(identity: Any) -> tuple[str, Storage]:
    """Key and storage of a persistent id in a torch pickle."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise ReadError("it refers to something that is not a storage")
    _, kind, key, _, count = identity[:5]
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in DTYPES:
        raise ReadError(f"it holds numbers of an unknown kind{f' ({kind})' if isinstance(kind, Name) else ''}")
    if not isinstance(key, (str, int)) or type(count) is not int or not 0 <= count < 2**40:
        raise ReadError("the description of a storage is not valid")
    if len(identity) > 5 and identity[5] is not None:
        raise ReadError("it has a view of a storage, which is not supported")
    return str(key), Storage(DTYPES[kind.name], count)


def _read_zip(data: Extent, budget: Budget) -> Any:
    entries = _entries(data)
    main = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(main) != 1:
        raise ReadError("it is a zip, but was not written by torch.save")
    root = main[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(order.read(0, min(len(order), 8))) != b"little":
        raise ReadError("its numbers are big-endian, which is not supported")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        key, storage = _described(identity)
        if key not in storages:
            if f"{root}data/{key}" not in entries:
                raise ReadError("a tensor's numbers are missing")
            storage.fill(entries[f"{root}data/{key}"])
            storages[key] = storage
        return storages[key]

    found, end = run(entries[main[0]], 0, TENSORS, budget, True, persistent)
    if end != len(entries[main[0]]):
        raise ReadError("it has data after its end")
    return found


def _entries(data: Extent) -> dict[str, Extent]:
    """The entries of an uncompressed zip, by name."""
    found: dict[str, Extent] = {}
    try:
        with zipfile.ZipFile(_Reader(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_FILES:
                raise ReadError("it is a zip with more entries than any network has")
            for info in infos:
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise ReadError("it is a zip with compressed entries, which torch.save never writes")
                if info.flag_bits & ENCRYPTED:
                    raise ReadError("it is a zip with encrypted entries, which torch.save never writes")
                names, extras = struct.unpack("<HH", data.read(info.header_offset + 26, 4))
                name = bytes(data.read(info.header_offset + 30, names)).decode(errors="replace")
                if bytes(data.read(info.header_offset, 4)) != ZIP_MAGIC or name != info.orig_filename:
                    raise ReadError("it is not a complete zip")
                found[info.filename] = data.part(info.header_offset + 30 + names + extras, info.file_size)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, OSError, ValueError) as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"it is not a complete zip ({shown(str(error))})") from None
    return found


class _Reader:
    """A seekable file over an extent, with a limit on single reads, because `zipfile` reads the directory at once."""

    def __init__(self, data: Extent):
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise OSError("a position before the beginning")
        self._at = base + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        left = max(0, len(self._data) - self._at)
        count = left if count < 0 else min(left, count)
        if count > LONGEST_READ:
            raise ReadError("it is a zip with more entries than any network has")
        part = bytes(self._data.read(self._at, count)) if count else b""
        self._at += count
        return part

    def close(self) -> None:
        return


def _read_legacy(data: Extent, budget: Budget) -> Any:
    magic, at = run(data, 0, {}, budget)
    if magic != LEGACY_MAGIC:
        raise ReadError("it was not written by torch.save")
    _, at = run(data, at, {}, budget)
    system, at = run(data, at, {}, budget)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ReadError("its numbers are big-endian, which is not supported")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        key, storage = _described(identity)
        return storages.setdefault(key, storage)

    found, at = run(data, at, TENSORS, budget, True, persistent)
    keys, at = run(data, at, {}, budget)
    plain = isinstance(keys, list) and all(isinstance(key, (str, int)) for key in keys)
    if not plain or sorted(map(str, keys)) != sorted(storages):
        raise ReadError("its list of storages does not match its tensors")
    for key in keys:
        storage = storages[str(key)]
        size = storage.count * storage.dtype.itemsize
        count = struct.unpack("<q", data.read(at, 8))[0]
        if count != storage.count:
            raise ReadError("a storage differs in size from what the file says")
        storage.fill(data.part(at + 8, size))
        at += 8 + size
    return found
