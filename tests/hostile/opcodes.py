"""Pickles with false, truncated, endlessly repeated or unusual instructions."""

from __future__ import annotations

import pickletools
import struct

from tests.hostile import parts
from tests.hostile.parts import NASTY, Raw, Table, doubled, name, number, program, raw, raw_program, text

MANY = 3_000_000


def lone() -> Table:
    """Every instruction alone on an empty stack, without its argument, and with a truncated one."""
    made = {}
    for opcode in pickletools.opcodes:
        code = opcode.code.encode("latin-1")
        made[f"lone-{opcode.name}.pkl"] = raw(b"\x80\x04" + code)
        made[f"zeros-{opcode.name}.pkl"] = raw(b"\x80\x04" + code + bytes(16) + b"\n\n.")
        if opcode.arg is not None:
            made[f"ones-{opcode.name}.pkl"] = raw(b"\x80\x04" + code + b"\xff" * 16 + b"\n\n.")
    return made


def floods() -> Table:
    """A few bytes that cost far more memory or time than their size."""
    repeated = {
        "NONE": b"N",
        "MARK": b"(",
        "MARK-POP_MARK": b"(1",
        "MARK-POP": b"(0",
        "EMPTY_DICT": b"}",
        "EMPTY_LIST": b"]",
        "EMPTY_TUPLE": b")",
        "EMPTY_SET": b"\x8f",
        "FROZENSET": b"(\x91",
        "DICT": b"(d",
        "LIST": b"(l",
        "TUPLE": b"(t",
        "BININT2": b"M\xff\xff",
        "SHORT_BINUNICODE": b"\x8c\x01a",
        "EMPTY_BINUNICODE": b"\x8c\x00",
        "SHORT_BINBYTES": b"C\x00",
        "BINFLOAT": parts.real(1.5),
        "LONG1": b"\x8a\x09" + bytes(8) + b"\x01",
        "PROTO": b"\x80\x02",
        "FRAME": b"\x95" + struct.pack("<Q", 1),
        "GLOBAL": parts.ORDERED,
        "REDUCE": parts.ORDERED + b")R",
        "NEWOBJ": parts.ORDERED + b")\x81",
        "BINPERSID": b"NQ",
        "STOP": b"N.",
    }
    made = {}
    for kind, code in repeated.items():
        count = min(MANY, 6_000_000 // len(code))
        made[f"flood-{kind}.pkl"] = raw_program(lambda code=code, count=count: code * count)
    after_one = {
        "DUP": b"2",
        "MEMOIZE": b"\x94",
        "BINPUT": b"q\x01",
        "TUPLE1": b"\x85",
        "DUP-TUPLE2": b"2\x86",
        "DUP-APPEND": b"]2a",
        "LIST-in-LIST": b"(2e",
        "BUILD": b"Nb",
    }
    for kind, code in after_one.items():
        made[f"flood-after-one-{kind}.pkl"] = raw_program(b"]", lambda code=code: code * (MANY // len(code)))
    made["flood-LONG_BINPUT.pkl"] = raw_program(b"N", lambda: b"".join(parts.put(i * 997) for i in range(600_000)))
    made["flood-BINGET.pkl"] = raw_program(b"]q\x00", lambda: b"h\x00" * 1_500_000)
    made["flood-LONG_BINGET.pkl"] = raw_program(b"]", parts.put(2**32 - 1), lambda: parts.get(2**32 - 1) * 900_000)
    made["flood-ADDITEMS.pkl"] = raw_program(b"\x8f", lambda: b"(NNN\x90" * 600_000)
    made["flood-APPENDS.pkl"] = raw_program(b"]", lambda: b"(NNNe" * 600_000)
    made["flood-SETITEM.pkl"] = raw_program(b"}", lambda: b"NNs" * 1_000_000)
    made["flood-one-MARK.pkl"] = raw_program(b"](", lambda: b"N" * MANY, b"e")
    made["flood-names.pkl"] = raw_program(lambda: b"".join(name("torch", f"n{i}") for i in range(300_000)))
    made["flood-numpy-names.pkl"] = raw_program(lambda: name("numpy", "dtype") * 300_000)
    made["marks-never-closed.pkl"] = raw_program(lambda: b"(N" * 1_000_000)
    return made


def sizes() -> Table:
    """Lengths that exceed the file."""
    made = {}
    lengths = {
        "<I": (2**31 - 1, 2**31, 2**32 - 1),
        "<Q": (2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1),
        "<i": (-1, -(2**31)),
    }
    codes = {"X": "<I", "B": "<I", "\x8d": "<Q", "\x8e": "<Q", "\x96": "<Q", "T": "<i", "\x8b": "<i"}
    names = {o.code: o.name for o in pickletools.opcodes}
    for code, kind in codes.items():
        for length in lengths[kind]:
            content = code.encode("latin-1") + struct.pack(kind, length) + b"abc"
            made[f"length-{names[code]}-{length}.pkl"] = raw(program(content, protocol=5))
    for count in (2**31 - 1, 3_000_000):
        made[f"LONG4-{count}.pkl"] = raw_program(b"\x8b" + struct.pack("<i", count), lambda: b"\x01" * 3_000_000)
    made["LONG1-255.pkl"] = raw_program(b"\x8a\xff" + b"\x7f" * 255)
    for frame in (0, 1, 3, 2**31, 2**63, 2**64 - 1):
        made[f"frame-{frame}.pkl"] = raw_program(b"\x95", struct.pack("<Q", frame), b"}", protocol=4)
    made["frame-in-a-frame.pkl"] = raw_program(
        b"\x95", struct.pack("<Q", 20), b"\x95", struct.pack("<Q", 2), b"}", protocol=4
    )
    for protocol in (6, 127, 255):
        made[f"protocol-{protocol}.pkl"] = raw(b"\x80" + bytes([protocol]) + b"}.")
    return made


def frames_in_genuine_files() -> Table:
    """A genuine file with wrong frame lengths: reading or refusing it are both harmless."""

    def changed(length: int):
        def write(path):
            parts.official(lambda content: None)(path)
            whole = bytearray(path.read_bytes())
            whole[3:11] = struct.pack("<Q", length)
            path.write_bytes(whole)

        return write

    return {f"genuine-with-frame-{n}.pkl": changed(n) for n in (0, 5, 10**6, 2**63 - 1, 2**64 - 1)}


def lines() -> Table:
    """Instructions of protocols 0 and 1, whose arguments are text."""
    wide = 1_000_000
    arguments: dict[str, dict[str, bytes]] = {
        "I": {
            "digits": b"9" * wide,
            "hex": b"0x10",
            "empty": b"",
            "spaces": b" 5 ",
            "underscore": b"1_0",
            "bool": b"02",
        },
        "L": {"digits": b"9" * wide + b"L", "no-L": b"5", "two-L": b"5LL", "unicode": "٣L".encode(), "minus": b"-" * 9},
        "F": {"nan": b"nan", "inf": b"-inf", "digits": b"1" * wide, "large": b"1e999999999", "hex": b"0x1p3"},
        "S": {"bare": b"abc", "one": b"'", "escape": rb"'\x", "octal": rb"'\777'", "long": b"'" + b"a" * wide + b"'"},
        "V": {"escape": rb"\ud800", "bad": rb"\u12", "long": rb"\u0041" * (wide // 6), "name": rb"\N{DIGIT ONE}"},
        "P": {"plain": b"1", "long": b"x" * wide, "empty": b"", "escape": b"\x1b[2J"},
        "g": {"none": b"7", "minus": b"-1", "text": b"abc", "huge": b"9" * 5000, "many": b"9" * wide},
        "p": {"minus": b"-1", "text": b"abc", "huge": b"9" * 5000, "float": b"1.5"},
        "c": {
            "long": b"x" * wide,
            "no-newline": b"os",
            "empty": b"\n",
            "latin": b"\xe9\n\xe9",
            "bom": b"\xef\xbb\xbfos\nsystem",
        },
        "i": {"long": b"x" * wide, "plain": b"os\nsystem", "no-mark": b"collections\nOrderedDict"},
    }
    names = {o.code: o.name for o in pickletools.opcodes}
    made = {}
    for code, kinds in arguments.items():
        for kind, argument in kinds.items():
            content = b"(N" + code.encode() + argument + b"\n"
            made[f"line-{names[code]}-{kind}.pkl"] = raw_program(content, protocol=0)
            if kind in ("digits", "plain", "nan", "escape", "huge"):
                value = Raw(content if code != "i" else b"(i" + argument + b"\n")
                made[f"line-in-a-genuine-file-{names[code]}-{kind}.pkl"] = parts.official(
                    lambda content, value=value: parts.inner(content).__setitem__("x", value),
                    protocol=2 if code == "p" else 4,
                )
    # Memo indices with the same hash.
    made["put-of-one-hash.pkl"] = raw_program(
        b"N", lambda: b"".join(b"p%d\n" % (i * parts.PRIME) for i in range(1, 120_000)), protocol=0
    )
    made["global-without-an-end.pkl"] = raw_program(lambda: b"c" + b"x" * 10_000_000)
    made["string-without-an-end.pkl"] = raw_program(lambda: b"S'" + b"x" * 10_000_000)
    return made


def odd() -> Table:
    """Instructions that network files do not use: extensions, buffers, byte arrays, names that are not text."""
    made = {
        "byte-array.pkl": raw_program(b"\x96", struct.pack("<Q", 3), b"abc", protocol=5),
        "byte-arrays.pkl": raw_program(lambda: (b"\x96" + struct.pack("<Q", 0)) * 600_000, protocol=5),
        "next-buffer.pkl": raw_program(b"\x97", protocol=5),
        "read-only-buffer.pkl": raw_program(b"]\x98", protocol=5),
        "buffers.pkl": raw_program(lambda: b"\x97\x98" * 1_000_000, protocol=5),
        "dict-of-three.pkl": raw_program(b"(NNNd"),
        "setitems-of-three.pkl": raw_program(b"}(NNNu"),
        "stop-twice.pkl": raw_program(b"}.}"),
        "stop-inside-a-mark.pkl": raw_program(b"}(N"),
        "items-of-a-name.pkl": raw_program(parts.ORDERED, b"NNs"),
        "append-to-a-tuple.pkl": raw_program(b")Na"),
        "append-to-a-text.pkl": raw_program(text("a"), b"Na"),
        "set-in-a-genuine-file.pkl": parts.official(
            lambda content: parts.inner(content).__setitem__("x", Raw(b"\x8f(" + text("a") + b"\x8f\x90")), protocol=4
        ),
    }
    for code, form in ((0x82, "<B"), (0x83, "<H"), (0x84, "<i")):
        for value in (0, 1, 127, -1) if form == "<i" else (0, 1, 127):
            made[f"extension-{code:x}-{value}.pkl"] = raw_program(bytes([code]), struct.pack(form, value))
    things = {
        "number": number(1),
        "bytes": b"C\x02os",
        "none": b"N",
        "dict": b"}",
        "list": b"]",
        "tuple": b")",
        "doubled": doubled(b")", 60),
        "name": parts.ORDERED,
        "text": text("x"),
    }
    for kind, thing in things.items():
        made[f"stack-global-module-{kind}.pkl"] = raw_program(thing, text("system"), b"\x93", protocol=4)
        made[f"stack-global-name-{kind}.pkl"] = raw_program(text("os"), thing, b"\x93", protocol=4)
        made[f"persistent-{kind}.pkl"] = raw_program(thing, b"Q")
        made[f"persistent-{kind}.pt"] = raw(parts.torch_zip(thing + b"Q"))
        made[f"reduce-of-{kind}.pkl"] = raw_program(thing, b")R")
        made[f"reduce-with-{kind}.pkl"] = raw_program(parts.ORDERED, thing, b"R")
        made[f"reduce-with-a-tuple-of-{kind}.pkl"] = raw_program(parts.ORDERED, thing, b"\x85R")
        made[f"newobj-ex-{kind}.pkl"] = raw_program(parts.ORDERED, b")", thing, b"\x92", protocol=4)
        made[f"build-of-{kind}.pkl"] = raw_program(thing, b"}b")
        made[f"build-with-{kind}.pkl"] = raw_program(parts.ORDERED, b")R", thing, b"b")
        made[f"blob-of-{kind}.pkl"] = raw_program(parts.LOAD, thing, b"\x85R")
        made[f"parameter-of-{kind}.pkl"] = raw_program(parts.PARAMETER, thing, b"\x85R")
        made[f"meta-of-{kind}.pkl"] = raw_program(parts.MODULE, thing, b"\x85R")
        made[f"content-{kind}.pkl"] = raw_program(thing)
        made[f"content-{kind}.pt"] = raw(parts.torch_zip(thing))
        made[f"content-{kind}.ckpt"] = raw(parts.torch_zip(thing))
    return made


def nasty_names() -> Table:
    """Calls of functions with unprintable names."""
    made = {}
    for kind, nasty in NASTY.items():
        made[f"module-{kind}.pkl"] = raw_program(lambda nasty=nasty: parts.stack_name(nasty, "system"), protocol=4)
        made[f"attribute-{kind}.pkl"] = raw_program(lambda nasty=nasty: parts.stack_name("os", nasty), protocol=4)
        made[f"torch-kind-{kind}.pt"] = raw(
            lambda nasty=nasty: parts.torch_zip(
                parts.several(text("storage"), parts.stack_name("torch", nasty), text("0"), text("cpu"), number(4))
                + b"Q"
            )
        )
        made[f"inert-{kind}.ckpt"] = raw(
            lambda nasty=nasty: parts.torch_zip(parts.stack_name(f"dill.{nasty}", nasty) + b")R")
        )
    return made


HARMLESS = ("genuine-with-frame-*.pkl", "line-in-a-genuine-file-*.pkl", "set-in-a-genuine-file.pkl")


def table() -> Table:
    return lone() | floods() | sizes() | frames_in_genuine_files() | lines() | odd() | nasty_names()
