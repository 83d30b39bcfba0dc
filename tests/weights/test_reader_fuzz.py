"""Random and damaged files: every reader must read them or raise its own error."""

from __future__ import annotations

import json
import pickletools
import random
import resource
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ClassifierError
from ilo.priors.stylegan2 import checkpoint, published
from ilo.priors.stylegan2.checkpoint import CheckpointError
from tests.hostile import GENUINE, classifiers, parts

FEWEST = 20  # minimum number of files per test
SECONDS = 1.5  # for each reader and kind of file
ADDRESSES = 3 << 30  # bytes of address space that a reader may use
OPTIONS = settings(
    max_examples=1_000_000,  # limited by time instead
    derandomize=True,  # the same files every time, as many as the time allows
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class _Enough(BaseException):
    """Raised when the time is over; a BaseException, so that no test code catches it."""


def _generator(path: Path) -> None:
    checkpoint.build(published.read(path), path.name)


def _safetensors(path: Path) -> None:
    checkpoint.build(checkpoint.read_safetensors(path), path.name)


def _classifier(path: Path) -> None:
    classifier.load(str(path))


# File name → its reader, and the genuine files that are damaged for it.
READERS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "x.pkl": (_generator, ("official.pkl",)),
    "x.pt": (_generator, ("rosinality.pt", "rosinality-old.pt", "rosinality-zipped.pt")),
    "x.safetensors": (_safetensors, ("generator.safetensors",)),
    "x.ckpt": (_classifier, ("rosinality-zipped.pt", "rosinality-old-rewritten.pt", "resnet.ckpt")),
    "classifier.safetensors": (_classifier, ("classifier.safetensors",)),
}
WRITERS = {**GENUINE, "resnet.ckpt": classifiers.checkpoints()["one-number-each.ckpt"]}


@pytest.fixture
def bounded():
    """Limits the address space: a reader that allocates too much gets a MemoryError and fails."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def attempt(tmp_path, monkeypatch, bounded):
    """Runs a reader on files from a strategy until the time is over."""
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))

    def run(name: str, contents: st.SearchStrategy[bytes], seconds: float = SECONDS) -> None:
        path, read = tmp_path / name, READERS[name][0]
        end = time.monotonic() + seconds
        count = 0

        @OPTIONS
        @given(contents)
        def readable(content: bytes) -> None:
            nonlocal count
            if time.monotonic() > end and count >= FEWEST:  # a busy machine takes longer
                raise _Enough
            path.write_bytes(content)
            with suppress(CheckpointError, ClassifierError):
                read(path)
            count += 1

        with suppress(_Enough):
            readable()
        assert count >= FEWEST

    return run


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """The bytes of genuine files, by name."""
    folder = tmp_path_factory.mktemp("genuine")

    @cache
    def content(name: str) -> bytes:
        WRITERS[name](folder / name)
        return (folder / name).read_bytes()

    return content


# Damage.


def _damaged(whole: bytes, seed: int, times: int) -> bytes:
    """A file with a few bytes flipped, changed, repeated, moved, omitted or replaced by significant values."""
    chance = random.Random(seed)
    content = bytearray(whole)
    telling = [
        b"\0" * 4,
        b"\xff" * 4,
        b"\xff" * 8,
        b"\x7f" * 8,
        b".",
        b"(",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"h\0",
        b"\x85R",
    ]
    telling += [struct.pack("<Q", 2**k) for k in (31, 32, 40, 62, 63)] + [
        b"9" * 20,
        b"[" * 50,
        b'"',
        b"NaN",
        b"-1",
        b"1e400",
    ]
    for _ in range(times):
        # Most of a file is tensor data; its description is at the beginning and the end.
        edge = chance.choice((64, 600, 5000, len(content)))
        at = chance.randrange(max(1, min(edge, len(content))))
        at = len(content) - 1 - at if chance.random() < 0.4 else at
        length = chance.choice((1, 1, 2, 4, 8, 100))
        part = bytes(content[at : at + length])
        match chance.randrange(8):
            case 0:
                content[at] ^= 1 << chance.randrange(8)
            case 1:
                content[at] = chance.randrange(256)
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = part * chance.choice((1, 2, 50))
            case 4:
                content[at : at + length] = chance.choice(telling)
            case 5:
                content[at:at] = chance.choice(telling)
            case 6:
                to = chance.randrange(len(content))
                content[to : to + length] = part
            case 7:
                if chance.random() < 0.3:
                    del content[at:]
        content = content or bytearray(b"\0")
    return bytes(content)


def damaged(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    """Genuine files with some damage, and the beginning of one file with the end of another."""
    whole, seed = st.sampled_from(wholes), st.integers(0, 2**32)
    changed = st.builds(_damaged, whole, seed, st.integers(1, 6))
    spliced = st.builds(lambda a, b, i, j: a[: i % len(a)] + b[j % len(b) :], whole, whole, seed, seed)
    return st.one_of(changed, changed, changed, spliced)


# Pickles.


def _argument(opcode: pickletools.OpcodeInfo) -> st.SearchStrategy[bytes]:
    """Argument bytes of an instruction, valid or not."""
    if opcode.arg is None:
        return st.just(b"")
    lines = st.sampled_from(
        ["1", "-1", "01", "'a'", "'\\x'", "os\nsystem", "torch\nFloatStorage", "9" * 30, "nan", "\xe9", ""]
    )
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        return lines.map(lambda s: s.encode() + b"\n")
    if opcode.arg.n > 0:
        return st.binary(min_size=opcode.arg.n, max_size=opcode.arg.n) | st.just(b"\1" + bytes(opcode.arg.n - 1))
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(opcode.arg.n, 4)
    sound = st.binary(max_size=20).map(lambda data: len(data).to_bytes(width, "little") + data)
    return sound | st.binary(min_size=width, max_size=width + 5)


INSTRUCTIONS = st.one_of(
    *(
        st.tuples(st.just(o.code.encode("latin-1")), _argument(o)).map(b"".join)
        for o in pickletools.opcodes
        if o.code != "."
    )
)
NAMES = [parts.ORDERED, parts.LOAD, parts.REBUILD, parts.PARAMETER, parts.MODULE, parts.name("dnnlib.util", "EasyDict")]
NAMES += [
    parts.name("torch", kind) for kind in ("FloatStorage", "BFloat16Storage", "BoolStorage", "ComplexFloatStorage")
]
NAMES += [parts.name("numpy", "dtype"), parts.name("numpy.core.multiarray", "scalar"), parts.name("os", "system")]
NAMES += [parts.name("builtins", "set"), parts.name("_codecs", "encode"), parts.name("dill._dill", "_create_function")]
TEXTS = [
    "storage",
    "0",
    "cpu",
    "state",
    "class_name",
    "Generator",
    "_parameters",
    "_buffers",
    "_modules",
    "G_ema",
    "g_ema",
]
TEXTS += [
    "latent_avg",
    "model",
    "state_dict",
    "module.model.fc.bias",
    "style.1.weight",
    "convs.3.noise.weight",
    "little_endian",
]
TEXTS += ["synthesis", "mapping", "b4", "b8", "conv1", "weight", "_init_kwargs", "conv_clamp", "\ud800", "\x1b", ""]
PLAIN = st.one_of(
    st.sampled_from(
        [b"N", b"\x88", b"\x89", b"}", b"]", b")", b"\x8f", parts.put(7)[:0] + b"N", *map(parts.text, TEXTS), *NAMES]
    ),
    st.integers(-(2**70), 2**70).map(parts.number),
    st.integers(-2, 9).map(parts.number),
    st.floats().map(parts.real),
    st.binary(max_size=40).map(parts.blob),
)
WHOLE = parts.stored()


def _compound(inside: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Compound values in all ways that the readers know, mostly of wrong types."""
    few, pairs = (
        st.lists(inside, max_size=7),
        st.lists(st.tuples(st.sampled_from(TEXTS).map(parts.text) | inside, inside), max_size=5),
    )
    shapes = st.lists(st.integers(-1, 5) | st.integers(0, 2**63), max_size=4).map(lambda n: parts.numbers(*n))
    return st.one_of(
        few.map(lambda v: parts.several(*v)),
        few.map(lambda v: parts.sequence(*v)),
        pairs.map(parts.mapping),
        st.builds(lambda what, v: parts.call(what, *v), st.sampled_from(NAMES) | inside, few),
        st.builds(lambda what, v: what + parts.several(*v) + b"\x81", st.sampled_from(NAMES), few),
        st.builds(lambda what, state: what + state + b"b", inside, inside),
        st.builds(lambda what, key, value: what + key + value + b"s", inside, inside, inside),
        st.builds(parts.module, st.sampled_from(["Generator", "M"]).map(parts.text) | inside, inside),
        st.builds(parts.generator_of, inside, inside, inside),
        st.builds(
            parts.tensor,
            st.just(WHOLE) | inside,
            st.integers(-1, 9).map(parts.number),
            shapes | inside,
            shapes | inside,
        ),
        st.builds(lambda v: v + b"Q", inside),
        st.builds(lambda v: parts.call(parts.LOAD, parts.blob(parts.program(v))), inside),
        st.builds(lambda v: parts.call(parts.LOAD, parts.blob(parts.torch_zip(v))), inside),
        st.builds(lambda v: v + b"q\x01h\x01\x86", inside),
    )


VALUES = st.recursive(PLAIN, _compound, max_leaves=25)
STEPS = st.lists(INSTRUCTIONS | VALUES, max_size=40).map(b"".join)
CODES = st.one_of(VALUES, VALUES, STEPS)


def _older(codes: list[bytes], numbers: bytes) -> bytes:
    """A file in torch's legacy format, in which some of the pickles are random."""
    good = [parts.number(parts.MAGIC), parts.number(1001), parts.mapping([(parts.text("little_endian"), b"\x88")])]
    good += [parts.mapping([(parts.text("g_ema"), WHOLE)]), parts.sequence(parts.text("0"))]
    return b"".join(parts.program(random or sound) for random, sound in zip(codes, good, strict=True)) + numbers


OLDER = st.builds(
    _older,
    st.tuples(*[st.just(b"")] * 3, CODES, st.just(b"") | CODES).map(list)
    | st.lists(st.just(b"") | CODES, min_size=5, max_size=5),
    st.just(struct.pack("<q", 4) + bytes(16)) | st.binary(max_size=40),
)


def _torch(code: bytes, *keys: str) -> bytes:
    """A torch file with a value inside dicts."""
    for key in keys:
        code = parts.mapping([(parts.text(key), code)])
    return parts.torch_zip(code)


PICKLES = {
    "x.pkl": st.one_of(CODES, CODES.map(lambda code: parts.mapping([(parts.text("G_ema"), code)]))).map(parts.program),
    "x.pt": st.one_of(CODES.map(_torch), CODES.map(lambda code: _torch(code, "g_ema")), OLDER),
    "x.ckpt": st.one_of(
        CODES.map(lambda code: _torch(code, "model")),
        CODES.map(lambda code: _torch(code, "module.model.fc.bias", "model")),
    ),
}


# JSON.

NUMBERS = st.one_of(st.integers(-2, 10), st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 10**30, 1e300]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(["4", "8", "F32", "config"])),
    lambda inside: (
        st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=4) | st.sampled_from("48"), inside, max_size=4)
    ),
    max_leaves=8,
)


def _replaced(tree: object, path: list[int], value: object) -> object:
    """A JSON tree with the part at `path` replaced."""
    if not path or not tree or not isinstance(tree, (dict, list)):
        return value
    if isinstance(tree, dict):
        key = list(tree)[path[0] % len(tree)]
        return {**tree, key: _replaced(tree[key], path[1:], value)}
    at = path[0] % len(tree)
    return [*tree[:at], _replaced(tree[at], path[1:], value), *tree[at + 1 :]]


def described(whole: bytes) -> st.SearchStrategy[bytes]:
    """A genuine safetensors file with changed JSON in its header, or in JSON text within the header."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    (name,) = [name for name in header["__metadata__"] if name in ("config", "about")]
    inner = json.loads(header["__metadata__"][name])

    def outside(path: list[int], value: object) -> bytes:
        return parts.safetensors(_replaced(header, path, value), data)

    def inside(path: list[int], value: object) -> bytes:
        text = json.dumps(_replaced(inner, path, value))
        return parts.safetensors({**header, "__metadata__": {name: text}}, data)

    def beside(key: str, value: object) -> bytes:
        metadata = {**header["__metadata__"], key: json.dumps(value)}
        return parts.safetensors({**header, "__metadata__": metadata}, data)

    path = st.lists(st.integers(0, 50), min_size=1, max_size=4)
    more = st.sampled_from(["alignment", "training", "licence"])
    return st.one_of(st.builds(inside, path, JSON), st.builds(outside, path, JSON), st.builds(beside, more, JSON))


@pytest.mark.parametrize("name", READERS)
def test_random_bytes(attempt, name):
    begin = {"x.pkl": b"\x80\x04", "x.pt": b"PK\x03\x04", "x.ckpt": b"\x80\x02"}.get(name, bytes([40]) + bytes(7))
    attempt(
        name, st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda data: begin + data)), SECONDS / 2
    )


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(attempt, genuine, name):
    attempt(name, damaged([genuine(whole) for whole in READERS[name][1]]), 2 * SECONDS)


@pytest.mark.parametrize("name", PICKLES)
def test_random_pickles(attempt, name):
    attempt(name, PICKLES[name], 2 * SECONDS)


@pytest.mark.parametrize("name", ["x.safetensors", "classifier.safetensors"])
def test_random_descriptions(attempt, genuine, name):
    attempt(name, described(genuine(READERS[name][1][0])), 2 * SECONDS)
