"""Published generators: every format gives the same pictures, and hostile files are never executed."""

import builtins
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file

from ilo.priors import load as models
from ilo.priors.stylegan2 import checkpoint, published
from ilo.priors.stylegan2.checkpoint import CheckpointError
from tests import programs
from tests import published as files

WRITERS = {
    **{f"official-{n}.pkl": lambda path, made, n=n: files.official(path, made, n) for n in (2, 3, 4, 5)},
    "rosinality.pt": files.rosinality,
    "rosinality-old.pt": lambda path, made: files.rosinality(path, made, zipped=False),
}


@pytest.mark.parametrize("layers", [2, 8])
@pytest.mark.parametrize("size", [64, 256, 1024])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_picture(tmp_path, kind, size, layers):
    made = files.generator(size, layers).freeze()
    read = published.read(WRITERS[kind](tmp_path / kind, made))
    assert read.config == made.config
    got = checkpoint.build(read, kind)
    z = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(got(z), made(z), rtol=0, atol=1e-5)
    assert torch.equal(got.mapping.w_avg, made.mapping.w_avg)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_becomes_a_model_and_starts_fast_the_second_time(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    made = files.generator(16).freeze()
    path = WRITERS[kind](tmp_path / kind, made)
    first = models.load(str(path))
    assert first.id == path.stem
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "read", None)
    again = models.load(str(path))
    z = torch.randn(1, 16)
    assert torch.equal(again.generator(z), made(z))
    assert torch.equal(again.latents.mean, first.latents.mean)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        f"{first.sha256}.latents.safetensors",
        f"{first.sha256}.safetensors",
    ]


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    made = files.generator(8).freeze()
    path = files.official(tmp_path / "net.pkl", made)
    kept = tmp_path / "cache" / f"{models.load(str(path)).sha256}.safetensors"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:500])
    z = torch.randn(1, 16)
    assert torch.equal(models.load(str(path)).generator(z), made(z))
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    path = files.official(tmp_path / "net.pkl", files.generator(8))
    assert models.load(str(path)).resolution == 8
    assert "converted again at every start" in caplog.text


def test_half_precision_and_clamps_are_read(tmp_path):
    made = files.generator(16, clamp=256.0)
    half = made.half()
    read = published.read(files.official(tmp_path / "half.pkl", half))
    assert read.config.conv_clamp == 256
    assert all(tensor.dtype is torch.float32 for tensor in read.tensors.values())
    assert torch.equal(read.tensors["synthesis.b8.conv0.weight"], half.synthesis.b8.conv0.weight.float())


def test_weights_in_another_memory_order_are_read(tmp_path):
    made = files.generator(16)
    weight = made.synthesis.b8.conv0.weight
    weight.data = weight.data.to(memory_format=torch.channels_last)
    for kind, write in WRITERS.items():
        read = published.read(write(tmp_path / kind, made))
        assert torch.equal(read.tensors["synthesis.b8.conv0.weight"], weight)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, what, *arguments, state=None):
        self.what, self.arguments, self.state = what, arguments, state

    def __reduce__(self):
        return self.what, self.arguments, self.state


class Chain:
    """Pickles as a call of a call's result."""

    def __reduce__(self):
        return getattr, (Call(__import__, "os"), "system")


class New(OrderedDict):
    def __reduce_ex__(self, protocol):
        return super().__reduce_ex__(protocol)


def touch(name="executed"):
    return f"touch {name}"


def raw(content):
    return lambda path: path.write_bytes(content)


def pickled(value, protocol=4):
    return lambda path: path.write_bytes(pickle.dumps(value, protocol))


def inside(value):
    """Write a value as the generator of an official pickle."""

    def write(path):
        network = programs.Discriminator()
        network._parameters["w"] = value
        with programs.importable():
            path.write_bytes(pickle.dumps({"G_ema": network}, 4))

    return write


def saved(value, **options):
    return lambda path: torch.save(value, path, **options)


def zipped(entries, compression=zipfile.ZIP_STORED):
    def write(path):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)

    return write


def tensor_pickle(kind, shape, strides, count, offset=0, storage_count=None):
    """A torch zip with one tensor, whose description is given explicitly."""
    module, name = kind

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Id) else None

    stream = io.BytesIO()
    tensor = Call(torch._utils._rebuild_tensor_v2, Id(), offset, shape, strides, False, OrderedDict())
    Pickler(stream, 2).dump({"g_ema": {"style.1.weight": tensor}})
    content = stream.getvalue().replace(b"ctorch\nFloatStorage\n", f"c{module}\n{name}\n".encode())
    storage = count if storage_count is None else storage_count
    content = content.replace(struct.pack("<i", 777_777), struct.pack("<i", count))
    return zipped({"archive/data.pkl": content, "archive/byteorder": b"little", "archive/data/0": bytes(4 * storage)})


class Id:
    identity = ("storage", torch.FloatStorage, "0", "cpu", 777_777)


FLOAT = ("torch", "FloatStorage")
HOSTILE = {
    "os-system.pkl": pickled(Call(os.system, touch())),
    "os-system-2.pkl": pickled(Call(os.system, touch()), 2),
    "os-system-in-a-list.pkl": pickled([1, [2, Call(os.system, touch())]]),
    "os-system-as-a-generator.pkl": pickled({"G_ema": Call(os.system, touch())}),
    "os-system-as-a-parameter.pkl": inside(Call(os.system, touch())),
    "os-popen.pkl": pickled(Call(os.popen, touch())),
    "subprocess.pkl": pickled(Call(subprocess.check_output, ["touch", "executed"])),
    "popen.pkl": inside(Call(subprocess.Popen, ["touch", "executed"])),
    "eval.pkl": pickled(Call(builtins.eval, "open('executed', 'w')")),
    "exec.pkl": inside(Call(builtins.exec, "open('executed', 'w')")),
    "compile.pkl": pickled(Call(builtins.compile, "1", "", "exec")),
    "open.pkl": pickled(Call(builtins.open, "executed", "w")),
    "import.pkl": pickled(Call(__import__, "antigravity")),
    "getattr-chain.pkl": pickled(Chain()),
    "call-chain.pkl": raw(
        b"\x80\x02c__builtin__\ngetattr\nc__builtin__\n__import__\nU\x02os\x85RU\x06system\x86R"
        b"U\x0etouch executed\x85R."
    ),
    "print.pkl": pickled(Call(print, "executed")),
    "nested-loads.pkl": pickled(Call(pickle.loads, pickle.dumps(Call(os.system, touch())))),
    "nested-in-tensor.pkl": inside(Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, touch())))),
    "torch-load.pkl": inside(Call(torch.load, "executed")),
    "class-with-state.pkl": pickled(Call(OrderedDict, state={"__setstate__": Call(os.system, touch())})),
    "state-of-a-name.pkl": raw(b"\x80\x02ccollections\nOrderedDict\n}U\x0c__setstate__cos\nsystem\nsb."),
    "state-of-a-constructor.pkl": raw(b"\x80\x02ccollections\nOrderedDict\n}U\x08__call__K\x01sb."),
    "reduce-on-a-text.pkl": raw(b"\x80\x02U\x09os.system(U\x04trueeR."),
    "inst.pkl": raw(b"(S'touch executed'\nios\nsystem\n."),
    "obj.pkl": raw(b"(cos\nsystem\nS'touch executed'\no."),
    "extension.pkl": raw(b"\x80\x02\x82\x01."),
    "global-with-dots.pkl": raw(b"\x80\x04\x8c\x0bcollections\x8c\x1cOrderedDict.__init__.__call__\x93."),
    "persistent-id.pkl": raw(b"\x80\x02U\x01xQ."),
    "empty.pkl": raw(b""),
    "no-stop.pkl": raw(b"\x80\x04}"),
    "underflow.pkl": raw(b"\x80\x020000."),
    "no-such-memo.pkl": raw(b"\x80\x02h\x07."),
    "huge-text.pkl": raw(b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x."),
    "huge-bytes.pkl": raw(b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"x."),
    "negative-text.pkl": raw(b"\x80\x02T" + struct.pack("<i", -5) + b"x."),
    "huge-number.pkl": raw(b"\x80\x02\x8a\xff" + b"\x01" * 255 + b"."),
    "many-dicts.pkl": raw(b"\x80\x02" + b"}" * 3_000_000 + b"."),
    "deep-tuples.pkl": raw(b"\x80\x02)" + b"\x85" * 300_000 + b"."),
    "deep-tuples-as-a-key.pkl": raw(b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s."),
    "tuple-of-2^60-as-a-key.pkl": raw(b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s."),
    "tuple-of-2^60-in-pairs.pkl": raw(b"\x80\x02ccollections\nOrderedDict\n])" + b"2\x86" * 60 + b"K\x01\x86a\x85R."),
    "tuple-of-2^60-as-a-kind.pt": zipped(
        {"a/data.pkl": b"\x80\x02(U\x07storage)" + b"2\x86" * 60 + b"U\x010U\x03cpuK\x01tQ."}
    ),
    "tuple-of-2^60-among-the-keys.pt": raw(
        b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"g_ema": {}}))
        + b"\x80\x02])"
        + b"2\x86" * 60
        + b"a."
    ),
    "unhashable.pkl": raw(b"\x80\x02}(]K\x01u."),
    "self-containing-dict.pkl": raw(b"\x80\x02}q\x00U\x05G_emah\x00s."),
    "not-a-pickle.pkl": raw(b"<html>404 Not Found</html>"),
    "other-network.pkl": pickled({"G_ema": {"weight": [1, 2, 3]}}),
    "os-system.pt": saved({"g_ema": Call(os.system, touch())}),
    "os-system-old.pt": saved({"g_ema": Call(os.system, touch())}, _use_new_zipfile_serialization=False),
    "in-the-keys.pt": raw(
        b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"g_ema": {}}))
        + pickle.dumps([Call(os.system, touch())], 2)
    ),
    "big-endian.pt": raw(
        b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}, {}, []))
    ),
    "wrong-magic.pt": pickled(12345, 2),
    "module.pt": saved({"g_ema": torch.nn.Linear(2, 2)}),
    "no-g-ema.pt": saved({"model": {"weight": torch.zeros(2)}}),
    "other-keys.pt": saved({"g_ema": {"weight": torch.zeros(2)}}),
    "compressed.pt": zipped({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(10**7)}, zipfile.ZIP_DEFLATED),
    "zip-bomb.pt": zipped({"archive/data.pkl": bytes(3 * 10**8)}, zipfile.ZIP_DEFLATED),
    "many-entries.pt": zipped({f"archive/data/{i}": b"" for i in range(30_000)}),
    "two-pickles.pt": zipped({"a/data.pkl": b"\x80\x02}.", "b/data.pkl": b"\x80\x02}."}),
    "path-in-zip.pt": zipped({"../../executed": b"x"}),
    "huge-shape.pt": tensor_pickle(FLOAT, (2**30, 2**30), (2**30, 1), 4),
    "expanded-shape.pt": tensor_pickle(FLOAT, (10**6, 10**6), (0, 0), 4),
    "beyond-its-storage.pt": tensor_pickle(FLOAT, (4, 4), (4, 1), 15, storage_count=16),
    "negative-shape.pt": tensor_pickle(FLOAT, (-4,), (1,), 4),
    "negative-stride.pt": tensor_pickle(FLOAT, (4,), (-1,), 4),
    "negative-offset.pt": tensor_pickle(FLOAT, (4,), (1,), 8, offset=-4),
    "shape-of-text.pt": tensor_pickle(FLOAT, ("a",), (1,), 4),
    "short-storage.pt": tensor_pickle(FLOAT, (4,), (1,), 4, storage_count=2),
    "complex.pt": tensor_pickle(("torch", "ComplexFloatStorage"), (4,), (1,), 4),
    "strange-kind.pt": tensor_pickle(("os", "system"), (4,), (1,), 4),
    "whole-numbers.pt": tensor_pickle(("torch", "IntStorage"), (2, 2), (2, 1), 4),
}


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_file_is_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    HOSTILE[name](path)
    (tmp_path / "executed").unlink(missing_ok=True)  # writing some of the files creates it
    with pytest.raises(CheckpointError) as caught:
        checkpoint.build(published.read(path), name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert len(message) < 400
    assert "\n" not in message
    assert not (tmp_path / "executed").exists()
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", WRITERS)
def test_no_truncation_passes(kind, tmp_path):
    whole = WRITERS[kind](tmp_path / kind, files.generator(16)).read_bytes()
    path = tmp_path / f"cut-{kind}"
    for i in range(50):
        path.write_bytes(whole[: len(whole) * i // 50])
        with pytest.raises(CheckpointError, match=f"^cut-{kind}: "):
            checkpoint.build(published.read(path), path.name)


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    path = tmp_path / "damaged.pkl"
    whole = files.official(tmp_path / "whole.pkl", files.generator(8, width=4, channels=4)).read_bytes()
    rng = torch.Generator().manual_seed(0)
    for _ in range(300):
        content = bytearray(whole)
        for at in torch.randint(0, len(content), (3,), generator=rng).tolist():
            content[at] = int(torch.randint(0, 256, (1,), generator=rng))
        path.write_bytes(content)
        with suppress(CheckpointError):  # damage in a tensor's numbers cannot be detected
            checkpoint.build(published.read(path), path.name)


MEMORY = """
import resource, sys
from pathlib import Path
from ilo.priors.stylegan2 import published
from ilo.priors.stylegan2.checkpoint import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[1:]):
    try:
        published.read(path)
    except CheckpointError as error:
        print(str(error)[:120])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    "name",
    [
        "official-2.pkl",
        "official-4.pkl",
        "rosinality.pt",
        "rosinality-old.pt",
        "many-dicts.pkl",
        "deep-tuples.pkl",
        "zip-bomb.pt",
        "many-entries.pt",
    ],
)
def test_memory_stays_small(name, tmp_path):
    path = tmp_path / name
    if name in WRITERS:
        WRITERS[name](path, files.generator(256, 8, width=512, channels=256))
    else:
        HOSTILE[name](path)
    made = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    used = int(made.stdout.split()[-1])
    assert used <= 2 * path.stat().st_size + 64 * 2**20, made.stdout


def test_safetensors_of_a_generator_still_load(tmp_path):
    made = files.generator(16)
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="no StyleGAN2 configuration"):
        checkpoint.read_safetensors(tmp_path / "a.safetensors")
