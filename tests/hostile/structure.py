"""Small pickles that describe enormous or recursive structures, alone and inside genuine files."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import torch

from tests.hostile import parts
from tests.hostile.generators import set_option
from tests.hostile.parts import (
    PRIME,
    Raw,
    Table,
    blob,
    call,
    doubled,
    get,
    mapping,
    module,
    number,
    program,
    put,
    raw,
    raw_program,
    sequence,
    several,
    text,
)

NONE = b"N"
FIRST = 100_000  # memo index above all those of a genuine pickle
FLOOD = 60_000  # number of keys: enough to take minutes, and below any limit on instructions


def module_of(modules: bytes = b"}", parameters: bytes = b"}") -> bytes:
    pairs = [(text("_parameters"), parameters), (text("_buffers"), b"}"), (text("_modules"), modules)]
    return module(text("M"), mapping(pairs))


def storage_file(count: int) -> bytes:
    """A storage in the format of `_load_from_bytes`."""
    stream = io.BytesIO()
    torch.save(torch.zeros(count)._typed_storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def shared_modules() -> Table:
    """A chain of modules that each hold the next one twice: 2^depth paths lead to the last one."""

    def chain(depth: int, wide: int, leaf: bytes) -> bytes:
        # The stack holds one module; each iteration stores it and makes a module that holds it `wide` times.
        code = module_of(parameters=mapping([(text("w"), leaf)]))
        for level in range(depth):
            children = mapping((text(f"c{i}"), get(FIRST + level)) for i in range(wide))
            code = code + put(FIRST + level) + b"0" + module_of(children)
        return code

    leaf = parts.tensor(call(parts.LOAD, blob(storage_file(4))), number(0), parts.numbers(4), parts.numbers(1))
    made = {}
    depths = (
        (2, 3000),
        (3, 300),
        (4, 60),
        (5, 30),
        (6, 16),
        (7, 8),
        (8, 8),
        (8, 30),
        (10, 4),
        (12, 3),
        (16, 2),
        (24, 2),
        (30, 2),
        (300, 2),
    )
    for depth, wide in depths:
        for kind, last in (("tensor", leaf), ("nothing", NONE)):
            code = mapping([(text("c"), chain(depth, wide, last))])
            made[f"shared-{depth}-deep-{wide}-wide-{kind}.pkl"] = raw_program(parts.generator_of(modules=code))
    made["shared-30-deep-in-a-genuine-file.pkl"] = parts.official(
        lambda content: parts.inner(content)["_modules"].__setitem__("more", Raw(chain(30, 2, leaf))), protocol=2
    )
    return made


def cycles() -> Table:
    """Objects that contain themselves."""
    empty = b"}" + put(1)
    state = b"}" + put(1)
    return {
        "dict-in-itself.pkl": raw_program(empty, text("G_ema"), get(1), b"s"),
        "list-in-itself.pkl": raw_program(b"]", put(1), get(1), b"a"),
        "list-in-itself-as-pairs.pkl": raw_program(parts.ORDERED, b"]", put(1), get(1), b"a", b"\x85R"),
        "dict-built-of-itself.pkl": raw_program(empty, text("a"), NONE, b"s", get(1), b"b"),
        "state-of-itself.pkl": raw_program(
            mapping([(text("G_ema"), module(text("Generator"), state + text("state") + get(1) + b"s"))])
        ),
        "module-in-itself.pkl": raw_program(
            # The state is created before the module, which becomes its child afterwards.
            b"}", put(1), b"0", b"}", put(2), b"0", get(1), text("_modules"), get(2), b"s0",
            module(text("Generator"), get(1)), put(3), b"0", get(2), text("c"), get(3), b"s0",
            mapping([(text("G_ema"), get(3))]),
        ),
        "modules-in-a-ring.pkl": raw_program(
            b"}", put(1), b"0", b"}", put(2), b"0", b"}", put(3), b"0", get(1), text("_modules"), get(2), b"s0",
            module(text("Generator"), get(1)), put(4), b"0", module_of(get(3)), put(5), b"0",
            get(2), text("a"), get(5), b"s0", get(3), text("b"), get(4), b"s0", mapping([(text("G_ema"), get(4))]),
        ),
        "parameters-are-the-modules.pkl": raw_program(
            b"}", put(1), text("_parameters"), get(1), b"s", text("_modules"), get(1), b"s", text("_buffers"), get(1),
            b"s0",
            mapping([(text("G_ema"), module(text("Generator"), get(1)))]),
        ),
        "state-dict-in-itself.pt": raw(parts.torch_zip(empty + text("g_ema") + get(1) + b"s")),
        "state-dict-in-itself.ckpt": raw(
            parts.torch_zip(empty + text("model") + get(1) + b"s" + text("module.model.fc.bias") + get(1) + b"s")
        ),
        "cycle-in-a-genuine-file.pkl": parts.official(
            lambda content: content.__setitem__("D", content)
        ),
        "cycle-of-modules-in-a-genuine-file.pkl": parts.official(
            lambda content: parts.inner(content, "synthesis")["_modules"].__setitem__("b16", content["G_ema"])
        ),
        "deep-list.pkl": raw_program(lambda: b"]" * 300_000 + b"a" * 299_999),
        "deep-dict.pkl": raw_program(lambda: (b"}" + text("G_ema")) * 100_000 + NONE + b"s" * 100_000),
        "deep-modules.pkl": raw_program(lambda: _deep_modules(2_000)),
        "deep-modules-not-closed.pkl": raw_program(lambda: (b"}" + text("_modules")) * 100_000),
        "deep-states.pkl": raw_program(
            lambda: (parts.MODULE + b"}" + text("class_name") + text("M") + b"s" + text("state")) * 20_000
            + NONE
            + b"s\x85R" * 20_000
        ),
    }  # fmt: skip


def _deep_modules(depth: int) -> bytes:
    code = module_of()
    for level in range(depth):
        code = code + put(level) + b"0" + module_of(mapping([(text("c"), get(level))]))
    return parts.generator_of(modules=mapping([(text("c"), code)]))


def doubling() -> Table:
    """Tuples, lists and dicts that double 60 times, wherever a value may be compared, shown or hashed."""
    pair = doubled(b")", 60)
    turns = range(FIRST, FIRST + 60)
    lists = b"]" + b"".join(put(i) + b"0](" + get(i) + get(i) + b"e" for i in turns)
    dicts = b"}" + b"".join(put(i) + b"0" + mapping([(text("a"), get(i)), (text("b"), get(i))]) for i in turns)
    storage = call(parts.LOAD, blob(storage_file(4)))
    one, four = parts.numbers(1), parts.numbers(4)
    made = {}
    for kind, thing in (("tuples", pair), ("lists", lists), ("dicts", dicts)):
        pkl: dict[str, bytes] = {
            "content": thing,
            "key": mapping([(thing, NONE)]),
            "key-in-a-tuple": mapping([(thing + b"\x85", NONE)]),
            "pairs": call(parts.ORDERED, thing),
            "pair": call(parts.ORDERED, sequence(several(thing, thing))),
            "offset": parts.generator_of(parameters=mapping([(text("w"), parts.tensor(storage, thing, four, one))])),
            "shape": parts.generator_of(
                parameters=mapping([(text("w"), parts.tensor(storage, number(0), thing, one))])
            ),
            "strides": parts.generator_of(
                parameters=mapping([(text("w"), parts.tensor(storage, number(0), four, thing))])
            ),
            "side": parts.generator_of(
                parameters=mapping([(text("w"), parts.tensor(storage, number(0), several(thing), one))])
            ),
            "class-name": mapping([(text("G_ema"), module(thing, b"}"))]),
            "state": mapping([(text("G_ema"), module(text("Generator"), thing))]),
            "parameters": parts.generator_of(parameters=thing),
            "modules": parts.generator_of(modules=thing),
            "parameter": parts.generator_of(parameters=mapping([(text("w"), thing)])),
            "module": parts.generator_of(modules=mapping([(text("w"), thing)])),
            "built": call(parts.ORDERED) + thing + b"b",
            "blob": call(parts.LOAD, thing),
        }
        made |= {f"doubled-{kind}-as-{place}.pkl": raw_program(code) for place, code in pkl.items()}
        whole = [text("storage"), parts.name("torch", "FloatStorage"), text("0"), text("cpu"), number(4), NONE]
        for i, place in enumerate(("word", "kind", "key", "device", "count", "view")):
            identity = several(*(thing if j == i else part for j, part in enumerate(whole))) + b"Q"
            tensor = parts.tensor(identity, number(0), four, one)
            made[f"doubled-{kind}-as-{place}.pt"] = raw(
                parts.torch_zip(mapping([(text("g_ema"), mapping([(text("style.1.bias"), tensor)]))]))
            )
        good = [
            program(number(parts.MAGIC)),
            program(number(1001)),
            program(mapping([(text("little_endian"), b"\x88")])),
        ]
        good += [program(mapping([(text("g_ema"), b"}")])), program(b"]")]
        for i, place in enumerate(("magic", "protocol", "system", "file", "keys")):
            made[f"doubled-{kind}-as-old-{place}.pt"] = raw(
                b"".join(program(thing) if j == i else part for j, part in enumerate(good))
            )
        for entry in ("g_ema", "latent_avg", "g", "args"):
            made[f"doubled-{kind}-beside-{entry}.pt"] = parts.rosinality(
                lambda content, entry=entry, thing=thing: content.__setitem__(entry, Raw(thing))
            )
        options = ("z_dim", "img_resolution", "synthesis_kwargs", "mapping_kwargs", "conv_clamp", "c_dim")
        for option in options:
            made[f"doubled-{kind}-as-option-{option}.pkl"] = parts.official(
                lambda content, option=option, thing=thing: set_option(content, option, Raw(thing)),
                protocol=4 if kind == "tuples" else 2,
            )
    return made


def copying() -> Table:
    """Constructors that copy their argument, called repeatedly on the same large object."""
    pairs = b"](" + b"".join(several(number(i), NONE) for i in range(2000)) + b"e"
    texts = b"](" + b"".join(text(f"{i:04}"[:2]) for i in range(2000)) + b"e"
    table = b"}(" + b"".join(number(i) + NONE for i in range(100_000)) + b"u"
    strings = b"}(" + b"".join(text(chr(97 + i % 26) + chr(97 + i // 26)) + NONE for i in range(676)) + b"u"
    easy = parts.name("dnnlib.util", "EasyDict")
    storage = blob(storage_file(250_000))
    small = blob(storage_file(64))
    made: Table = {}
    for kind, what in (("ordered", parts.ORDERED), ("easy", easy)):
        for name, thing in (("pairs", pairs), ("texts", texts), ("dict", strings)):
            again = what + get(1) + b"\x85R"
            made[f"{kind}-of-{name}-kept.pkl"] = raw_program(
                thing, put(1), lambda again=again: b"(" + again * 8_000 + b"t"
            )
            made[f"{kind}-of-{name}-dropped.pkl"] = raw_program(
                thing, put(1), lambda again=again: (again + b"0") * 20_000
            )
        made[f"{kind}-with-pairs-built.pkl"] = raw_program(
            table, put(1), b"0", lambda what=what: b"(" + (what + b")R" + get(1) + b"b") * 3_000 + b"t"
        )
    made["build-of-itself.pkl"] = raw_program(table, put(1), lambda: (get(1) + b"b") * 60_000)
    made["build-of-a-twin.pkl"] = raw_program(table, put(1), b"0", table, lambda: (get(1) + b"b") * 60_000)
    made["build-doubling.pkl"] = raw_program(
        b"}", lambda: b"".join(put(i) + mapping([(number(i), get(i))]) + b"b" for i in range(100_000))
    )
    made["setitems-over-and-over.pkl"] = raw_program(b"}", lambda: (b"(" + (number(1) + NONE) * 300 + b"u") * 2_000)
    made["reduce-chain.pkl"] = raw_program(parts.ORDERED, pairs, b"\x85R", lambda: b"".join(
        put(i) + b"0" + parts.ORDERED + get(i) + b"\x85R" for i in range(20_000)))  # fmt: skip
    made["appends-of-itself.pkl"] = raw_program(b"]", put(1), lambda: (b"(" + get(1) * 50 + b"e") * 20_000)
    made["pairs-of-one-another.pkl"] = raw_program(b"](NNe", lambda: b"".join(
        put(i) + b"0" + sequence(several(number(i), get(i)), several(number(-i), get(i)))
        for i in range(50_000)))  # fmt: skip
    for kind, data, times in (("small", small, 90_000), ("1MB", storage, 90_000)):
        again = parts.LOAD + get(1) + b"\x85R"
        made[f"one-blob-{kind}-{times}-times.pkl"] = raw_program(
            data, put(1), b"0", lambda again=again, times=times: b"(" + again * times + b"t"
        )
        made[f"one-blob-{kind}-dropped.pkl"] = raw_program(
            data, put(1), b"0", lambda again=again, times=times: (again + b"0") * times
        )
    nested = storage_file(4)
    for _ in range(40):
        nested = program(call(parts.LOAD, blob(nested)))
    made["blobs-in-blobs.pkl"] = raw(nested)
    made["blobs-in-blobs-in-a-tensor.pkl"] = raw_program(
        parts.generator_of(parameters=mapping([(text("w"), call(parts.LOAD, blob(nested)))]))
    )
    spread = b""
    for _ in range(6):
        spread = program(blob(spread) + put(1) + b"0(" + (parts.LOAD + get(1) + b"\x85R") * 100 + b"t")
    made["blobs-in-blobs-100-wide.pkl"] = raw(spread)
    legacy = b"".join(program(number(n)) for n in (parts.MAGIC, 1001)) + program(
        mapping([(text("little_endian"), b"\x88")])
    )
    for _ in range(5):
        inside = blob(legacy) + put(1) + b"0(" + (parts.LOAD + get(1) + b"\x85R") * 60 + b"t"
        legacy = b"".join(program(number(n)) for n in (parts.MAGIC, 1001))
        legacy += program(mapping([(text("little_endian"), b"\x88")])) + program(inside) + program(b"]")
    made["old-files-in-old-files-60-wide.pkl"] = raw_program(call(parts.LOAD, blob(legacy)))
    made["long-numbers-made-of-text.pkl"] = raw_program(
        lambda: b"(" + b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"t"
    )
    return made


def flooding() -> Table:
    """Many keys with the same hash, so that each insertion takes linear time; and keys of other types."""
    made: Table = {}
    kinds: dict[str, Callable[[int], bytes]] = {
        "int": lambda i: number(i * PRIME),
        "negative": lambda i: number(-i * PRIME),
        "large": lambda i: number((i << 61) - i << 30),
        "tuple": lambda i: several(number(i * PRIME)),
        "pair": lambda i: several(number(i * PRIME), text("x")),
        "tuple-of-tuples": lambda i: several(several(number(i * PRIME))),
        "float": lambda i: parts.real(float(i) * 2.0**61 - i),
        "shifted": lambda i: number(i << 40),
        "shifted-float": lambda i: parts.real(float(i << 40)),
        "bytes": lambda i: blob(struct.pack("<Q", i)),
        "nan": lambda i: parts.real(float("nan")),
    }
    for kind, key in kinds.items():
        keys = lambda key=key: b"".join(key(i) + NONE for i in range(1, FLOOD))  # noqa: E731
        made[f"flood-{kind}.pkl"] = raw_program(b"}(", keys, b"u")
        if kind in ("int", "tuple", "float", "bytes", "pair"):
            made[f"flood-{kind}.pt"] = raw(lambda keys=keys: parts.torch_zip(b"}(" + keys() + b"u"))
    items = lambda: b"".join(several(number(i * PRIME), NONE) for i in range(1, FLOOD))  # noqa: E731
    made["flood-pairs.pkl"] = raw_program(parts.ORDERED, b"](", items, b"e\x85R")
    made["flood-pairs.ckpt"] = raw(lambda: parts.torch_zip(parts.ORDERED + b"](" + items() + b"e\x85R"))
    made["flood-dict.pkl"] = raw_program(
        b"(", lambda: b"".join(number(i * PRIME) + NONE for i in range(1, FLOOD)), b"d"
    )
    made["flood-one-by-one.pkl"] = raw_program(
        b"}", lambda: b"".join(number(i * PRIME) + b"Ns" for i in range(1, FLOOD))
    )
    made["flood-adding-to-a-set.pkl"] = raw_program(
        b"\x8f(", lambda: b"".join(number(i * PRIME) for i in range(1, FLOOD)), b"\x90"
    )
    made["flood-frozenset.pkl"] = raw_program(
        b"(", lambda: b"".join(number(i * PRIME) for i in range(1, FLOOD)), b"\x91"
    )
    values = {
        "float": parts.real(1.5),
        "nan": parts.real(float("nan")),
        "bytes": b"C\x01a",
        "tuple": parts.numbers(1, 2),
    }
    values |= {
        "none": NONE,
        "true": b"\x88",
        "large": number(2**70),
        "negative": number(-1),
        "list": b"]",
        "dict": b"}",
    }
    values |= {"name": parts.ORDERED, "tensor-like": call(parts.ORDERED)}
    for kind, key in values.items():
        code = mapping([(key, NONE)])
        for place in ("_parameters", "_buffers", "_modules"):
            made[f"{kind}-as-a-key-of-{place}.pkl"] = parts.official(
                lambda content, place=place, code=code: parts.inner(content, "mapping").__setitem__(place, Raw(code))
            )
        made[f"{kind}-as-a-key-of-g_ema.pt"] = raw(parts.torch_zip(mapping([(text("g_ema"), code)])))
    return made


HARMLESS = (
    "cycle-in-a-genuine-file.pkl",  # in a part that is not read
    "doubled-*-beside-*.pt",
    "doubled-*-as-option-*.pkl",
    "*-as-a-key-of-_buffers.pkl",
    "none-as-a-key-of-_parameters.pkl",  # a plain key, whose value is not a tensor
    "true-as-a-key-of-_parameters.pkl",
    "negative-as-a-key-of-_parameters.pkl",
)


def table() -> Table:
    return shared_modules() | cycles() | doubling() | copying() | flooding()
