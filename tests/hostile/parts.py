"""Building blocks of hostile files: pickle instructions, genuine files with one change, zips with false headers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file

from ilo.priors.stylegan2.network import Generator
from tests import published as files

Write = Callable[[Path], object]
Table = dict[str, Write]
MAGIC = 0x1950A86A20F9469CFC6C  # magic number of torch's legacy format
PRIME = 2**61 - 1  # all multiples of it have hash 0

# Texts that a message must not contain unescaped.
NASTY = {
    "escape": "\x1b[2J\x1b[31mred\x07",
    "newlines": "one\r\ntwo\nthree\u2028four",
    "10MB": "x" * 10_000_000,
    "turned": "\u202egnp.exe\u2066",
    "surrogate": "half \ud800 a letter",
    "null": "nothing\0after",
}


# Pickle instructions as bytes, to be concatenated.


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def blob(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return (b"\x8a" + bytes([len(data)]) if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data))) + data


def real(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def several(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def sequence(*parts: bytes) -> bytes:
    return b"](" + b"".join(parts) + b"e"


def mapping(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def call(what: bytes, *arguments: bytes) -> bytes:
    return what + several(*arguments) + b"R"


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def doubled(start: bytes, times: int) -> bytes:
    """Nested tuples that each hold the same object twice: 2^times objects for a reader that visits them all."""
    return start + b"2\x86" * times


ORDERED = name("collections", "OrderedDict")
LOAD = name("torch.storage", "_load_from_bytes")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
PARAMETER = name("torch._utils", "_rebuild_parameter")
MODULE = name("torch_utils.persistence", "_reconstruct_persistent_obj")


def program(*code: bytes, protocol: int = 2) -> bytes:
    """A complete pickle."""
    return (b"\x80" + bytes([protocol]) if protocol >= 2 else b"") + b"".join(code) + b"."


def stored(kind: str = "FloatStorage", key: bytes | None = None, count: bytes | None = None) -> bytes:
    """A reference to a storage in a torch file."""
    key, count = text("0") if key is None else key, number(4) if count is None else count
    return several(text("storage"), name("torch", kind), key, text("cpu"), count) + b"Q"


def tensor(storage: bytes, offset: bytes, shape: bytes, strides: bytes) -> bytes:
    return call(REBUILD, storage, offset, shape, strides, b"\x89", call(ORDERED))


def numbers(*values: int) -> bytes:
    return several(*(number(n) for n in values))


def module(class_name: bytes, state: bytes, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A module in an official pickle."""
    pairs = [(text("type"), text("class")), (text("version"), number(6)), (text("module_src"), text(files.SOURCE))]
    return call(MODULE, mapping([*pairs, (text("class_name"), class_name), (text("state"), state), *more]))


def generator_of(modules: bytes = b"}", parameters: bytes = b"}", buffers: bytes = b"}") -> bytes:
    """The content of an official pickle whose generator has these dicts."""
    state = [(text("_parameters"), parameters), (text("_buffers"), buffers), (text("_modules"), modules)]
    return mapping([(text("G_ema"), module(text("Generator"), mapping(state)))])


# Files.


def raw(content: bytes | Callable[[], bytes]) -> Write:
    return lambda path: path.write_bytes(content() if callable(content) else content)


def raw_program(*code: bytes | Callable[[], bytes], protocol: int = 2) -> Write:
    """A pickle; functions among its code are called only when it is written, because their code is large."""
    return raw(lambda: program(*(part() if callable(part) else part for part in code), protocol=protocol))


@dataclass(eq=False)
class Raw:
    """Instructions in place of a value; they leave one value on the stack and do not use the memo."""

    code: bytes


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]  # the Python implementation can be extended
    """Writes `Raw` instructions unchanged and, with `storages`, tensors in the format of torch files."""

    def __init__(self, file: io.BytesIO, protocol: int, storages: dict[str, Any] | None = None):
        super().__init__(file, protocol)
        self.storages, self.keys = storages, {}

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Raw):
            self.write(obj.code)
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj: Any) -> Any:
        if self.storages is None or not isinstance(obj, torch.storage.TypedStorage):
            return None
        key = self.keys.setdefault(obj._untyped_storage._cdata, str(len(self.keys)))
        self.storages[key] = obj
        return "storage", getattr(torch, obj._pickle_storage_type()), key, "cpu", obj._size()


def dumped(content: Any, protocol: int = 4) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(content)
    return stream.getvalue()


@cache
def small() -> Generator:
    """The smallest generator."""
    return files.generator(8, layers=2, width=4, channels=4)


def official(change: Callable[[dict[str, Any]], Any], made: Generator | None = None, protocol: int = 4) -> Write:
    """A genuine official pickle, whose content `change` modifies before writing."""

    def write(path: Path) -> None:
        def dumps(content: Any, *_: Any, **__: Any) -> bytes:
            replaced = change(content)
            return dumped(replaced if isinstance(replaced, Raw) else content, protocol)

        with mock.patch.object(files.pickle, "dumps", dumps):
            files.official(path, made or small())

    return write


def inner(content: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The state of a module in G_ema, by its dotted name."""
    found = content["G_ema"]
    for part in path.split(".") if path else ():
        found = found._modules[part]
    return found.__dict__


class Persisted:
    """A module of an official pickle that is written with changes, for example to its state or class name."""

    def __init__(self, module: Any, **changes: Any):
        self.module, self.changes = module, changes

    def __reduce__(self) -> tuple[Any, ...]:
        reconstruct, (meta,), *_ = self.module.__reduce__()
        return reconstruct, ({**meta, **self.changes},)


def rewritten(content: dict[str, Any], **changes: Any) -> None:
    """Write the generator of an official pickle with these changes."""
    content["G_ema"] = Persisted(content["G_ema"], **changes)


def torch_bytes(content: Any, zipped: bool = True) -> bytes:
    """A file of `torch.save` with plain data, tensors and `Raw`."""
    stream, storages = io.BytesIO(), {}
    if not zipped:
        for value in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
            stream.write(pickle.dumps(value, 2))
    _Pickler(stream, 2, storages).dump(content)
    data = {}
    for key, storage in storages.items():
        whole = torch.empty(0, dtype=torch.uint8).set_(storage._untyped_storage)
        data[key] = whole.numpy().tobytes()
    if zipped:
        entries = [Entry("archive/data.pkl", stream.getvalue()), Entry("archive/byteorder", b"little")]
        return zip_bytes(entries + [Entry(f"archive/data/{key}", part) for key, part in data.items()])
    stream.write(pickle.dumps(list(data), 2))
    for key, part in data.items():
        stream.write(struct.pack("<q", storages[key]._size()) + part)
    return stream.getvalue()


def saved(make: Callable[[], Any], zipped: bool = True) -> Write:
    """A torch file with the result of `make`."""
    return lambda path: path.write_bytes(torch_bytes(make(), zipped))


def torch_zip(code: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """A torch file around a pickle's code."""
    data = [Entry(f"archive/data/{key}", part) for key, part in (storages or {"0": bytes(16)}).items()]
    return zip_bytes([Entry("archive/data.pkl", program(code)), Entry("archive/byteorder", b"little"), *data])


def rosinality(change: Callable[[dict[str, Any]], Any], made: Callable[[], Generator] = small, zipped: bool = True):
    """A genuine rosinality checkpoint, whose content `change` modifies before writing."""

    def content() -> Any:
        state = {key: value.clone() for key, value in files.rosinality_state(made()).items()}
        found = {"g": {}, "d": {}, "g_ema": state, "latent_avg": made().mapping.w_avg.clone()}
        replaced = change(found)
        return replaced if isinstance(replaced, Raw) else found

    return saved(content, zipped)


# Zips in which every field can be set.


@dataclass
class Entry:
    """A file in a zip; fields that are None get their correct values."""

    name: str | bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    size: int | None = None  # size stated in the directory
    packed: int | None = None  # compressed size stated in the directory
    crc: int | None = None
    local_name: bytes | None = None
    local_extra: bytes = b""
    extra: bytes = b""
    comment: bytes = b""
    offset: int | None = None  # offset of the local header stated in the directory
    local: bool = True  # whether there is a local header
    packed_data: bytes | None = None


def zip_bytes(
    entries: Iterable[Entry],
    comment: bytes = b"",
    count: int | None = None,
    size: int | None = None,
    offset: int | None = None,
    before: bytes = b"",
    between: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A zip; `count`, `size` and `offset` are the values for the directory in its end record."""
    body, directory = bytearray(before), bytearray()
    total = 0
    for entry in entries:
        given = entry.name if isinstance(entry.name, bytes) else entry.name.encode("utf-8", "surrogatepass")
        given, flags = given[:65535], entry.flags | (0x800 if isinstance(entry.name, str) else 0)
        data = entry.data if entry.packed_data is None else entry.packed_data
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        at = len(body) if entry.offset is None else entry.offset
        claimed = len(entry.data) if entry.size is None else entry.size
        packed = len(data) if entry.packed is None else entry.packed
        common = struct.pack("<HHHHIII", flags, entry.method, 0, 33, crc, packed, claimed)
        if entry.local:
            local = given if entry.local_name is None else entry.local_name
            body += b"PK\x03\x04" + struct.pack("<H", 20) + common
            body += struct.pack("<HH", len(local), len(entry.local_extra)) + local + entry.local_extra + data
        directory += b"PK\x01\x02" + struct.pack("<HH", 20, 20) + common
        directory += struct.pack("<HHHHHII", len(given), len(entry.extra), len(entry.comment), 0, 0, 0, at)
        directory += given + entry.extra + entry.comment
        total += 1
    count, begin = min(total, 65535) if count is None else count, len(body) + len(between)
    size, begin = len(directory) if size is None else size, begin if offset is None else offset
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, size, begin, len(comment) & 0xFFFF)
    return bytes(body + between + directory + end + comment + after)


# Safetensors.


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (bytes unchanged, other values as JSON) and this stated header length."""
    given = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(given) if length is None else length) + given + data


CONFIG = {"z_dim": 4, "w_dim": 4, "img_resolution": 8, "channels": {"4": 4, "8": 4}, "mapping_layers": 2}
CONFIG |= {"mapping_lr_multiplier": 0.01, "conv_clamp": None, "img_channels": 3}


def generator_file(
    config: Any = None,
    metadata: dict[str, str] | None = None,
    change: Callable[[dict[str, torch.Tensor]], Any] = lambda tensors: None,
) -> Write:
    """A genuine file of the small generator except for its configuration (text unchanged), metadata or tensors."""

    def write(path: Path) -> None:
        tensors = {key: value.contiguous().clone() for key, value in small().state_dict().items()}
        change(tensors)
        described = config if isinstance(config, str) else json.dumps({**CONFIG, **(config or {})})
        save_file(tensors, path, {"config": described, **(metadata or {})})

    return write
