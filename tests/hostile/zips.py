"""Torch files with a false container: zips with impossible directories, and torch's legacy format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests import published as files
from tests.hostile import parts
from tests.hostile.generators import wide
from tests.hostile.parts import NASTY, Entry, Table, Write, mapping, number, program, raw, sequence, text, zip_bytes

HUGE = 2**32 - 1


@cache
def _genuine() -> tuple[Entry, ...]:
    """The entries of a genuine rosinality checkpoint."""
    state = {key: value.clone() for key, value in files.rosinality_state(parts.small()).items()}
    whole = parts.torch_bytes({"g_ema": state, "latent_avg": parts.small().mapping.w_avg.clone()})
    found, at = [], 0
    while whole[at : at + 4] == b"PK\x03\x04":
        size, names, extras = struct.unpack("<IHH", whole[at + 22 : at + 30])
        begin = at + 30 + names + extras
        found.append(Entry(whole[at + 30 : at + 30 + names].decode(), whole[begin : begin + size]))
        at = begin + size
    return tuple(found)


def _changed(change: Callable[[list[Entry]], Any], **options: Any) -> Write:
    """A genuine checkpoint whose zip entries are modified by `change`."""

    def write(path: Path) -> None:
        entries = [Entry(entry.name, entry.data) for entry in _genuine()]
        replaced = change(entries)
        path.write_bytes(zip_bytes(replaced if isinstance(replaced, tuple) else entries, **options))

    return write


def _set(index: int, **fields: Any) -> Write:
    """A genuine checkpoint in which some fields of one entry are replaced."""
    return _changed(lambda entries: [setattr(entries[index], key, value) for key, value in fields.items()])


def genuine() -> Write:
    return _changed(lambda entries: None)


def entries() -> Table:
    """Entries that are compressed, encrypted, overlapping, or with a wrong position or size."""
    deflated = zlib.compress(bytes(40_000_000), 9)[2:-4]
    made: Table = {}
    for index, kind in ((0, "pickle"), (3, "storage")):
        made |= {
            f"{kind}-deflated.pt": _set(index, method=8, packed_data=deflated, size=40_000_000),
            f"{kind}-deflated-but-says-stored.pt": _set(index, packed_data=deflated, size=40_000_000),
            f"{kind}-stored-but-says-deflated.pt": _set(index, method=8),
            f"{kind}-bzip2.pt": _set(index, method=12),
            f"{kind}-method-99.pt": _set(index, method=99),
            f"{kind}-encrypted.pt": _set(index, flags=1),
            f"{kind}-strongly-encrypted.pt": _set(index, flags=0x41),
            f"{kind}-patched.pt": _set(index, flags=0x20),
            f"{kind}-size-0.pt": _set(index, size=0, packed=0),
            f"{kind}-size-one-more.pt": _changed(lambda e, i=index: _resize(e[i], 1)),
            f"{kind}-size-one-less.pt": _changed(lambda e, i=index: _resize(e[i], -1)),
            f"{kind}-size-huge.pt": _set(index, size=HUGE - 1, packed=HUGE - 1),
            f"{kind}-size-64-without-extra.pt": _set(index, size=HUGE, packed=HUGE),
            f"{kind}-size-64.pt": _set(index, size=HUGE, packed=HUGE, extra=struct.pack("<HHQQ", 1, 16, 2**62, 2**62)),
            f"{kind}-size-64-negative.pt": _set(
                index, size=HUGE, packed=HUGE, extra=struct.pack("<HHqq", 1, 16, -1, -1)
            ),
            f"{kind}-size-64-too-short.pt": _set(index, size=HUGE, packed=HUGE, extra=struct.pack("<HHI", 1, 4, 5)),
            f"{kind}-packed-differs.pt": _set(index, packed=3),
            f"{kind}-offset-huge.pt": _set(index, offset=HUGE - 1),
            f"{kind}-offset-64.pt": _set(index, offset=HUGE, extra=struct.pack("<HHQ", 1, 8, 2**63 + 5)),
            f"{kind}-offset-in-the-directory.pt": _changed(
                lambda e, i=index: setattr(e[i], "offset", len(zip_bytes(e)) - 60)
            ),
            f"{kind}-offset-of-another.pt": _set(index, offset=0 if index else 200),
            f"{kind}-offset-inside.pt": _set(index, offset=37),
            f"{kind}-local-name-differs.pt": _set(index, local_name=b"archive/other"),
            f"{kind}-local-extra-64KB.pt": _set(index, local_extra=bytes(65535)),
            f"{kind}-without-a-local-header.pt": _set(index, local=False),
            f"{kind}-wrong-crc.pt": _set(index, crc=0x12345678),
            f"{kind}-extra-of-no-kind.pt": _set(index, extra=b"\xff" * 7),
            f"{kind}-comment-64KB.pt": _set(index, comment=b"x" * 65535),
            f"{kind}-twice.pt": _changed(lambda e, i=index: e.append(Entry(e[i].name, e[i].data))),
            f"{kind}-twice-with-other-content.pt": _changed(
                lambda e, i=index: e.append(Entry(e[i].name, b"\x80\x02}."))
            ),
            f"{kind}-missing.pt": _changed(lambda e, i=index: e.pop(i)),
            f"{kind}-empty.pt": _set(index, data=b""),
        }
    made["two-roots.pt"] = _changed(lambda e: e.append(Entry("other/data.pkl", e[0].data)))
    made["root-in-a-root.pt"] = _changed(lambda e: e.append(Entry("archive/archive/data.pkl", e[0].data)))
    made["two-roots-one-empty.pt"] = _changed(lambda e: e.append(Entry("data.pkl", b"\x80\x02}.")))
    made["case-differs.pt"] = _changed(lambda e: e.append(Entry("ARCHIVE/DATA.PKL", b"\x80\x02}.")))
    made["backslashes.pt"] = _changed(lambda e: [setattr(x, "name", x.name.replace("/", "\\")) for x in e])
    made["null-in-a-name.pt"] = _changed(lambda e: e.append(Entry("archive/data.pkl\0.txt", b"\x80\x02}.")))
    made["upwards.pt"] = _changed(lambda e: [setattr(x, "name", f"../../../../tmp/{x.name}") for x in e])
    made["absolute.pt"] = _changed(lambda e: [setattr(x, "name", f"/tmp/{x.name}") for x in e])
    for kind, order in (
        ("big", b"big"),
        ("empty", b""),
        ("long", b"little" * 10**6),
        ("escape", b"\x1b[2J"),
        ("twice", b"little"),
    ):
        change = {"twice": lambda e, order=order: e.append(Entry("archive/byteorder", b"big"))}.get(
            kind, lambda e, order=order: setattr(e[1], "data", order)
        )
        made[f"byteorder-{kind}.pt"] = _changed(change)
    for kind, nasty in NASTY.items():
        short = nasty[:60_000]
        made[f"name-{kind}.pt"] = _changed(lambda e, n=short: e.append(Entry(f"archive/{n}", b"")))
        made[f"root-{kind}.pt"] = _changed(lambda e, n=short: [setattr(x, "name", n + x.name) for x in e[:3]])
        made[f"storage-{kind}.pt"] = _changed(lambda e, n=short: setattr(e[3], "name", f"archive/data/{n}"))
    return made


def _resize(entry: Entry, by: int) -> None:
    entry.size = entry.packed = len(entry.data) + by


def amplified() -> Table:
    """Many zip entries over the same bytes: a generator ten times as large as the file."""

    def overlapping(path: Path) -> None:
        state = {key: value.clone() for key, value in files.rosinality_state(wide()).items()}
        whole = parts.torch_bytes({"g_ema": state, "latent_avg": wide().mapping.w_avg.clone()})
        size = struct.unpack("<I", whole[22:26])[0]
        found = [Entry("archive/data.pkl", whole[46 : 46 + size])]
        largest = max(v.numel() for v in state.values()) * 4
        body = Entry("archive/data/0", bytes(largest))
        first = len(zip_bytes([found[0]])) - len(_directory([found[0]]))
        found.append(body)
        values = [*state.values(), wide().mapping.w_avg]
        for i, value in enumerate(values[1:], 1):
            entry = Entry(f"archive/data/{i}", b"", local=False, offset=first)
            entry.size = entry.packed = value.numel() * 4
            found.append(entry)
        _resize(body, values[0].numel() * 4 - largest)
        path.write_bytes(zip_bytes(found))

    return {"all-storages-over-the-same-bytes.pt": overlapping}


def _directory(entries: list[Entry]) -> bytes:
    whole = zip_bytes(entries)
    return whole[whole.index(b"PK\x01\x02") :]


def directories() -> Table:
    """Directories that are too long, missing, or with a wrong position or length."""
    made: Table = {}
    same: Callable[[list[Entry]], Any] = lambda entries: None  # noqa: E731
    for kind, options in {
        "count-0": {"count": 0},
        "count-1": {"count": 1},
        "count-65535": {"count": 65535},
        "size-0": {"size": 0},
        "size-huge": {"size": HUGE},
        "size-one-less": {"size": 300},
        "offset-0": {"offset": 0},
        "offset-huge": {"offset": HUGE},
        "offset-beyond": {"offset": 10**8},
        "comment-64KB": {"comment": b"x" * 65535},
        "comment-that-is-an-end": {"comment": b"PK\x05\x06" + bytes(18)},
        "comment-with-another-directory": {"comment": b"PK\x01\x02" + bytes(42) + b"PK\x05\x06" + bytes(18)},
        "comment-of-ends": {"comment": b"PK\x05\x06" * 16_000},
        "ends-after-the-end": {"after": (b"PK\x05\x06" + bytes(18)) * 2_000},
        "trailing-bytes": {"after": b"x" * 100},
        "trailing-megabytes": {"after": b"x" * 1_000_000},
        "trailing-zip": {"after": zip_bytes([Entry("archive/data.pkl", b"\x80\x02}.")])},
        "trailing-pickle": {"after": program(parts.call(parts.name("os", "system"), text("touch executed")))},
        "signatures-between": {"between": b"PK\x01\x02" * 1_000_000},
        "hole-between": {"between": bytes(1_000_000)},
        "64-bit-end-that-lies": {"after": b"", "between": _end64(2**60, 2**60, 2**60)},
    }.items():
        made[f"{kind}.pt"] = _changed(same, **options)
    for kind, numbers in {
        "count": (2**60, 0, 0), "size": (1, 2**63, 0), "offset": (1, 46, 2**63),
        "all": (2**64 - 1, 2**64 - 1, 2**64 - 1)
    }.items():  # fmt: skip
        made[f"64-bit-{kind}.pt"] = raw(lambda numbers=numbers: _zip64(*numbers))
    made["before.pt"] = _changed(same, before=b"PK\x03\x04" + bytes(100))
    made["another-zip-before.pt"] = _changed(same, before=zip_bytes([Entry("archive/data.pkl", b"\x80\x02}.")]))
    made["60000-entries.pt"] = _changed(lambda e: (*e, *[Entry(f"archive/data/{i}") for i in range(100, 60_100)]))
    made["60000-entries-without-headers.pt"] = _changed(
        lambda e: (*e, *[Entry(f"archive/x{i}", local=False) for i in range(60_000)])
    )
    made["100000-entries.pt"] = _changed(lambda e: (*e, *[Entry(f"x{i}", local=False) for i in range(100_000)]))
    made["700-names-of-60KB.pt"] = _changed(
        lambda e: (*e, *[Entry(str(i) + "x" * 60_000, local=False) for i in range(700)]), count=720
    )
    made["700-entries-over-64KB-extras.pt"] = _changed(
        lambda e: (
            *e,
            *[Entry(f"x{i}", extra=struct.pack("<HH", 9, 65531) + bytes(65531), local=False) for i in range(700)],
        )
    )
    made["empty-zip.pt"] = raw(zip_bytes([]))
    made["empty-zip-behind-a-header.pt"] = raw(b"PK\x03\x04" + bytes(26) + zip_bytes([]))
    made["header-alone.pt"] = raw(b"PK\x03\x04" + bytes(26))
    made["headers-alone.pt"] = raw(b"PK\x03\x04" * 1_000_000)
    made["end-alone.pt"] = raw(b"PK\x03\x04" + b"PK\x05\x06" + b"\xff" * 18)
    made["signature-alone.pt"] = raw(b"PK\x03\x04")
    made["spanned.pt"] = raw(b"PK\x07\x08" + zip_bytes(_genuine()))
    made["zip-in-a-zip.pt"] = _changed(lambda e: setattr(e[0], "data", zip_bytes(list(e))))
    made["zip-called.pkl"] = raw(lambda: zip_bytes(_genuine()))
    made["zip-called.ckpt"] = raw(lambda: zip_bytes(_genuine()))
    made["zip-called.safetensors"] = raw(lambda: zip_bytes(_genuine()))
    made["zip-in-a-pickle.pkl"] = raw(
        lambda: program(
            parts.generator_of(
                parameters=mapping([(text("w"), parts.call(parts.LOAD, parts.blob(zip_bytes(_genuine()))))])
            )
        )
    )
    storage = parts.torch_zip(parts.stored())
    one = parts.tensor(parts.call(parts.LOAD, parts.get(1)), number(0), parts.numbers(4), parts.numbers(1))
    made["20000-zips-in-a-pickle.pkl"] = parts.raw_program(
        parts.blob(storage), parts.put(1), b"0",
        lambda: parts.generator_of(parameters=mapping((text(f"p{i}"), one) for i in range(20_000))),
    )  # fmt: skip
    many = zip_bytes(
        [
            Entry("a/data.pkl", program(parts.stored())),
            Entry("a/data/0", bytes(16)),
            *(Entry(f"a/{i}") for i in range(15_000)),
        ]
    )
    made["zips-of-15000-entries-in-a-pickle.pkl"] = parts.raw_program(
        parts.blob(many), parts.put(1), b"0",
        lambda: parts.generator_of(parameters=mapping((text(f"p{i}"), one) for i in range(2_000))),
    )  # fmt: skip
    return made


def _end64(count: int, size: int, offset: int) -> bytes:
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, offset)
    return record + b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 1)


def _zip64(count: int, size: int, offset: int) -> bytes:
    """A genuine checkpoint whose end record refers to a false 64-bit end record."""
    plain = zip_bytes(_genuine())
    body, at = plain[:-22], len(plain) - 22
    record = _end64(count, size, offset)
    record = record[:-20] + b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
    return body + record + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, HUGE, HUGE, 0)


def older() -> Table:
    """Torch's legacy format: five pickles in a row, then the numbers."""
    good: dict[str, bytes] = {
        "magic": number(parts.MAGIC),
        "protocol": number(1001),
        "system": mapping([(text("little_endian"), b"\x88")]),
        "content": mapping(
            [
                (
                    text("g_ema"),
                    mapping(
                        [
                            (
                                text("style.1.bias"),
                                parts.tensor(parts.stored(), number(0), parts.numbers(4), parts.numbers(1)),
                            )
                        ]
                    ),
                )
            ]
        ),
        "keys": sequence(text("0")),
    }
    numbers = struct.pack("<q", 4) + bytes(16)

    def file(data: bytes = numbers, **changed: bytes) -> Write:
        return raw(b"".join(program(code) for code in (good | changed).values()) + data)

    made = {
        f"without-{name}.pt": raw(b"".join(program(c) for k, c in good.items() if k != name) + numbers) for name in good
    }
    wrong = {
        "none": b"N",
        "text": text("x"),
        "list": b"]",
        "dict": b"}",
        "true": b"\x88",
        "float": parts.real(1.5),
        "large": number(2**100),
    }
    for name in good:
        for kind, code in wrong.items():
            made[f"{name}-is-{kind}.pt"] = file(**{name: code})
    for kind, keys in {
        "twice": (text("0"), text("0")),
        "million": (text("0"),) * 1_000_000,
        "int": (number(0),),
        "int-and-text": (number(0), text("0")),
        "unknown": (text("0"), text("1")),
        "4000-digits": (number(10**4000),),
        "tuple": (parts.several(text("0")),),
        "bytes": (b"C\x010",),
        "float": (parts.real(0.0),),
    }.items():
        made[f"keys-{kind}.pt"] = file(numbers * min(len(keys), 2), keys=sequence(*keys))
    for count in (-1, 0, 3, 5, 2**31, 2**40, 2**61, 2**62, 2**63 - 1):
        made[f"count-{count}.pt"] = file(struct.pack("<q", count) + bytes(16))
    made["numbers-missing.pt"] = file(b"")
    made["numbers-cut.pt"] = file(numbers[:-1])
    made["more-numbers.pt"] = file(numbers + bytes(100))
    made["old-little-endian-1.pt"] = file(system=mapping([(text("little_endian"), number(1))]))
    views = {
        "view": parts.several(text("1"), number(0), number(2)),
        "view-beyond": parts.several(text("1"), number(2**40), number(2**40)),
        "view-of-itself": parts.several(text("0"), number(0), number(4)),
        "view-text": text("x"),
        "view-doubled": parts.doubled(b")", 60),
    }
    for kind, view in views.items():
        identity = (
            parts.several(text("storage"), parts.name("torch", "FloatStorage"), text("0"), text("cpu"), number(4), view)
            + b"Q"
        )
        tensor = parts.tensor(identity, number(0), parts.numbers(4), parts.numbers(1))
        made[f"{kind}.pt"] = file(content=mapping([(text("g_ema"), mapping([(text("style.1.bias"), tensor)]))]))
    other = parts.tensor(parts.stored("DoubleStorage"), number(0), parts.numbers(4), parts.numbers(1))
    first = parts.tensor(parts.stored(), number(0), parts.numbers(4), parts.numbers(1))
    both = mapping([(text("g_ema"), mapping([(text("style.1.bias"), first), (text("style.1.weight"), other)]))])
    made["one-key-two-kinds.pt"] = file(content=both)
    more = parts.stored(count=number(2**39))
    made["one-key-two-counts.pt"] = file(
        content=mapping(
            [
                (
                    text("g_ema"),
                    mapping(
                        [
                            (text("a"), first),
                            (text("b"), parts.tensor(more, number(0), parts.numbers(2**38), parts.numbers(1))),
                        ]
                    ),
                )
            ]
        )
    )
    made["tar.pt"] = raw(b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(10_000))
    made["many-magics.pt"] = raw(program(good["magic"]) * 100_000)
    return made


HARMLESS = (
    # Read correctly or refused: their changes have no effect.
    "*-wrong-crc.pt", "*-comment-64KB.pt", "comment-*.pt", "*-local-extra-64KB.pt", "*-extra-of-no-kind.pt",
    "*-local-name-differs.pt", "*-patched.pt", "ends-after-the-end.pt", "trailing-*.pt", "signatures-between.pt",
    "hole-between.pt", "64-bit-end-that-lies.pt", "before.pt", "another-zip-before.pt", "case-differs.pt",
    "null-in-a-name.pt", "upwards.pt", "absolute.pt", "name-*.pt", "root-*.pt", "60000-entries*.pt",
    "byteorder-empty.pt",
    "byteorder-long.pt", "size-one-less.pt", "root-in-a-root.pt", "count-*.pt", "*-size-64-*.pt", "offset-*.pt",
    "700-*.pt", "pickle-twice.pt", "storage-twice.pt", "old-little-endian-1.pt", "spanned.pt", "backslashes.pt",
)  # fmt: skip


def table() -> Table:
    return entries() | amplified() | directories() | {f"old-{name}": write for name, write in older().items()}
