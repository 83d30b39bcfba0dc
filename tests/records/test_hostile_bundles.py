"""Hostile bundles: each is refused with one line, quickly, and with little memory."""

import io
import json
import math
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib

import pytest
import safetensors.torch
import torch
from PIL import Image

from ilo.records.recipe import tensor_sha256
from ilo.records.saving import contents
from ilo.settings import RoundSettings, SolverSettings
from tests.records.test_bundle import record

MB = 2**20
BESIDE = 64 * MB  # memory that a refusal may use, in addition to twice the bundle's size
SECONDS = 5
ESCAPE = "\x1b[31m\n\r\x07\u202e"
LONG = "x" * 900_000

# Replays every path from its standard input in turn, and reports the outcome of each.
CHILD = """
import contextlib, gc, io, json, signal, sys, time, traceback
import torch
import ilo.perceptual.find, ilo.morph, ilo.records.recorder, ilo.solver
from ilo.records import bundle, saving
from ilo.cli import main as cli
from ilo.photos import faces
from ilo.priors import load as models
from ilo.weights import registry

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024

def late(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, late)
torch.set_num_threads(1)
ilo.perceptual.find.lpips_backbone = lambda: None
torch.fft.rfft(torch.rand(8, 8) @ torch.rand(8, 8))
gc.freeze()
for path in sys.stdin.read().split("\\n"):
    said = io.StringIO(), io.StringIO()
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before, began = status("VmRSS"), time.monotonic()
    signal.alarm(20)
    with contextlib.redirect_stdout(said[0]), contextlib.redirect_stderr(said[1]):
        try:
            code = cli.main(["replay", path])
        except BaseException:
            code = traceback.format_exc()[-1500:]
    signal.alarm(0)
    seconds, grown = time.monotonic() - began, status("VmHWM") - before
    print(json.dumps([code, said[0].getvalue(), said[1].getvalue(), seconds, grown]), flush=True)
"""


def changed(**changes):
    """A bundle with changed values in its recipe."""

    def write(files, folder):
        recipe = json.loads(files["recipe.json"])
        return {**files, "recipe.json": json.dumps({**recipe, **changes}).encode()}

    return write


def operator(task, **settings):
    return changed(task=task, operator=settings)


def settings(**changes):
    return lambda files, folder: changed(settings={**json.loads(files["recipe.json"])["settings"], **changes})(
        files, folder
    )


def first_round(**changes):
    return settings(rounds=[changes])


def recorded(**facts):
    return changed(engine={"device": "cpu", **facts})


def text(data):
    return lambda files, folder: {**files, "recipe.json": data}


def other(name, data):
    return lambda files, folder: {**files, name: data}


def without(name):
    return lambda files, folder: {key: data for key, data in files.items() if key != name}


def measured(y, **changes):
    """Another measurement, whose hash is in the recipe."""

    def write(files, folder):
        sha256 = tensor_sha256(y)
        files = {**files, "measurement.safetensors": safetensors.torch.save({"y": y})}
        return changed(measurement_sha256=sha256, **changes)(files, folder)

    return write


def header(values, rest=b""):
    data = values if isinstance(values, bytes) else json.dumps(values).encode()
    return other("measurement.safetensors", struct.pack("<Q", len(data)) + data + rest)


def picture(name, size, mode="RGB", kind="PNG", **changes):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new(mode, size).save(file, kind)
    return lambda files, folder: changed(**changes)({**files, name: file.getvalue()}, folder)


def with_text_chunks(files, folder):
    """64 chunks of 1 MB of text each, in 64 KB."""
    body = b"zTXt" + b"a\0\0" + zlib.compress(bytes(MB - 1000), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = files["input.png"]
    return {**files, "input.png": data[:33] + 60 * chunk + data[33:]}


def morph(**changes):
    guidance = {
        "classifier": "robust64",
        "classifier_sha256": "0" * 64,
        "classes": {"goldfish": 1.0},
        "views": 0,
        "shift": 4,
        "noise": 0.1,
    }
    hashes = {"input_sha256": None, "measurement_sha256": None, "mask_sha256": None}
    return changed(task="morph", operator={**guidance, **changes}, **hashes)


def zipped(compression=zipfile.ZIP_DEFLATED, make=None, spoil=None):
    """The bundle as a .zip, whose bytes are changed by `spoil`."""

    def write(files, folder):
        path = folder / "run.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in (make(files, folder) if make else files).items():
                archive.writestr(name, data)
        if spoil:
            path.write_bytes(spoil(path.read_bytes()))
        return path

    return write


def many_entries(files, folder):
    """A zip directory of 500,000 files that do not exist."""
    path = zipped()(files, folder)
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, *[0] * 4, *[0] * 3, 1, *[0] * 4, 0, 0) + b"a"
    count = 500_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, count * len(entry), 0, 0)
    path.write_bytes(count * entry + end)
    return path


def special(make):
    """A folder whose recipe.json is not a regular file."""

    def write(files, folder):
        for name, data in files.items():
            if name != "recipe.json":
                (folder / name).write_bytes(data)
        make(folder / "recipe.json")
        return folder

    return write


def composed(depth):
    part = {"name": "identity"}
    for _ in range(depth):
        part = {"name": "compose", "operators": [part]}
    return operator("compose", operators=[part])


def nested(depth):
    return b'{"operator": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


RANDOM = "random-inpaint"
ZEROS = torch.zeros(1, 3, 64, 64)
TENSOR = {"dtype": "F32", "shape": [1, 3, 64, 64], "data_offsets": [0, 49152]}
CASES = {
    # Expensive in time or memory.
    "resolution 4096, motion blur": changed(resolution=4096, task="deblur", operator={"kind": "motion", "length": 4e3}),
    "45 MB of {}, in a zip": zipped(make=text(b"[" + b"{}," * 15_000_000 + b"{}]")),
    "compose 400 deep": composed(400),
    "compose of 200,000": operator("compose", operators=[{"name": "identity"}] * 200_000),
    "scalar y": measured(torch.tensor(0.0)),
    # The resolution.
    "resolution 1024": changed(resolution=1024),
    "resolution 4096, Gaussian blur": changed(resolution=4096, task="deblur", operator={"sigma": 1000.0}),
    "resolution 4096, sensing": changed(resolution=4096, task="compressed-sensing", operator={"fraction": 1.0}),
    "resolution 4096, random pixels": changed(resolution=4096, task=RANDOM, operator={}),
    "resolution 32": changed(resolution=32),
    "resolution 65": changed(resolution=65),
    "resolution 0": changed(resolution=0),
    "resolution -64": changed(resolution=-64),
    "resolution in text": changed(resolution="64"),
    "resolution infinite": changed(resolution=math.inf),
    "resolution true": changed(resolution=True),
    "resolution of many digits": changed(resolution=10**4000),
    "resolution 1024 of a model that is not here": changed(resolution=1024, model="ffhq-1024", task="deblur"),
    "resolution 4096 of an unknown model": changed(resolution=4096, model="mine"),
    # recipe.json as text.
    "45 MB of {}, in a folder": text(b"[" + b"{}," * 15_000_000 + b"{}]"),
    "1 MB of {},": text(b'{"operator": [' + b"{}," * 340_000 + b"{}]}"),
    "100,000 lists in each other": text(b"[" * 100_000),
    "objects 900 deep": text(nested(900)),
    "objects 50 deep": text(nested(50)),
    "an operator 900 deep": lambda files, folder: {
        **files,
        "recipe.json": files["recipe.json"].replace(
            b'"operator": {', b'"operator": {"a":' + b"[" * 900 + b"]" * 900 + b","
        ),
    },
    "a number of 900,000 digits": text(b'{"resolution": ' + b"9" * 900_000 + b"}"),
    "not UTF-8": text(b"\xff\xfe{}"),
    "a byte order mark": text(b"\xef\xbb\xbf{}"),
    "zeros": text(bytes(1000)),
    "nothing": text(b""),
    "a list": text(b"[]"),
    "a text": text(json.dumps(ESCAPE).encode()),
    "unknown fields": changed(**{ESCAPE + str(i): 1 for i in range(20_000)}),
    "an unknown field, long": changed(**{LONG: 1}),
    "half a character": changed(model="\ud800"),
    # Its other fields.
    "version true": changed(version=True),
    "version long": changed(version=LONG),
    "task with an escape": changed(task=ESCAPE),
    "task long": changed(task=LONG),
    "task a list": changed(task=[[]]),
    "model with an escape": changed(model=ESCAPE),
    "model long": changed(model=LONG),
    "model a path": changed(model="../../../../etc/passwd"),
    "model null": changed(model=None),
    "hash null": changed(measurement_sha256=None),
    "hash a list": changed(measurement_sha256=[1] * 100_000),
    "stopped at -1": changed(stopped_at=-1),
    "stopped at true": changed(stopped_at=True),
    "stopped behind the end": changed(stopped_at=10**9),
    "seed huge": changed(measurement_seed=2**63),
    "engine of 50,000": changed(engine={ESCAPE + str(i): 1 for i in range(50_000)}),
    "engine nested": recorded(torch=[[]]),
    "engine long": recorded(torch=LONG),
    "threads of many digits": recorded(threads=10**300),
    "rounds 60,000": settings(rounds=[{}] * 60_000),
    "rounds 33": settings(rounds=[{}] * 33),
    "rounds null": settings(rounds=None),
    "round a list": settings(rounds=[[1] * 100_000]),
    "steps -1": first_round(steps=-1),
    "steps huge": first_round(steps=10**4000),
    "lr NaN": first_round(lr=math.nan),
    "lr true": first_round(lr=True),
    "radius long": first_round(radius_features=LONG),
    "round with an escape": first_round(**{ESCAPE: 1}),
    "round with a long name": first_round(**{LONG: 1}),
    "searches 10^9": first_round(outer_iterations=10**9, range_steps=1),
    "weights a list": settings(weights=[]),
    "weights infinite": settings(weights={"mse": math.inf}),
    "scales 100,000": settings(radius_scales=[1] * 100_000),
    "scales of a text": settings(radius_scales=LONG),
    "samples 100,000": settings(samples=100_000),
    "samples 0": settings(samples=0),
    "samples true": settings(samples=True),
    "samples without their pictures": settings(samples=3),
    "scale a list": settings(scale=["absolute"] * 100_000),
    "radius 10^9": first_round(radius_features=1e9),
    "version 1 without rounds": changed(version=1, settings={"rounds": LONG}),
    "version 1 of a list": changed(version=1, settings=[1] * 100_000),
    "dtype a list": settings(dtype=["float32"] * 100_000),
    "method null": settings(method=None),
    # The operator.
    "sigma NaN": operator("denoise", sigma=math.nan),
    "sigma infinite": operator("denoise", sigma=math.inf),
    "sigma true": operator("denoise", sigma=True),
    "sigma long": operator("denoise", sigma=LONG),
    "sigma a list": operator("denoise", sigma=[[0] * 1000] * 200),
    "sigma an object": operator("denoise", sigma={LONG: 1}),
    "sigma of many digits": operator("denoise", sigma=10**400),
    "sigma null": operator("denoise", sigma=None),
    "assumed sigma -1": operator("denoise", assumed_sigma=-1),
    "factor 0": operator("super-resolve", factor=0),
    "factor huge": operator("super-resolve", factor=2**40),
    "factor 2.0": operator("super-resolve", factor=2.0),
    "factor 3": operator("super-resolve", factor=3),
    "blur of 10^9": operator("deblur", sigma=1e9),
    "blur of 0": operator("deblur", sigma=0),
    "motion of 10^12": operator("deblur", kind="motion", length=1e12),
    "motion of NaN": operator("deblur", kind="motion", length=math.nan),
    "motion turned far": operator("deblur", kind="motion", angle=1e300),
    "blur of an odd kind": operator("deblur", kind=ESCAPE + LONG),
    "blur of a list": operator("deblur", kind=["gaussian"]),
    "fraction tiny": operator("compressed-sensing", fraction=1e-300),
    "fraction 2": operator(RANDOM, fraction=2),
    "fraction in text": operator(RANDOM, fraction="0.1"),
    "operator's seed -1": operator(RANDOM, seed=-1),
    "operator's seed 2^64": operator("compressed-sensing", seed=2**64),
    "operator's seed 0.5": operator("compressed-sensing", seed=0.5),
    "resolution as a setting": operator("denoise", resolution=4096),
    "name as a setting": operator("denoise", name="denoise"),
    "self as a setting": operator("denoise", self=1),
    "a mask in the recipe": operator("inpaint", mask=[[0, 1]] * 100_000),
    "a setting with an escape": operator("denoise", **{ESCAPE: 1}),
    "a setting with a long name": operator("denoise", **{LONG: 1}),
    "compose 5 deep": composed(5),
    "compose of 17": operator("compose", operators=[{"name": "identity"}] * 17),
    "compose of 40,000": operator("compose", operators=[{"name": "identity"}] * 40_000),
    "compose of nothing": operator("compose", operators=[]),
    "compose of a text": operator("compose", operators=LONG),
    "compose of lists": operator("compose", operators=[[]]),
    "compose of an odd name": operator("compose", operators=[{"name": ["identity"]}]),
    "compose at another resolution": operator("compose", operators=[{"name": "deblur", "resolution": 4096}]),
    "compose with a mask of lists": operator(
        "compose", operators=[{"name": "inpaint", "mask": [[[[[[0]]]]]]}, {"name": "identity"}]
    ),
    "compose with a mask of text": operator("compose", operators=[{"name": "inpaint", "mask": LONG}]),
    "compose with a mask of huge numbers": operator("compose", operators=[{"name": "inpaint", "mask": [[10**400]]}]),
    # measurement.safetensors.
    "y empty": measured(torch.zeros(0, 3, 64, 64)),
    "y without values": measured(torch.zeros(1, 0)),
    "y of one number": measured(torch.zeros(1)),
    "y of 32 px": measured(torch.zeros(1, 3, 32, 32)),
    "y of two pictures": measured(torch.zeros(2, 3, 64, 64)),
    "y NaN": measured(ZEROS * math.nan),
    "y infinite": measured(ZEROS + math.inf),
    "y in float64": measured(ZEROS.double()),
    "y in float8": header({"y": {**TENSOR, "dtype": "F8_E5M2", "data_offsets": [0, 12288]}}, bytes(12288)),
    "y of an impossible shape": header({"y": {**TENSOR, "shape": [0, 2**39, 2**39], "data_offsets": [0, 0]}}),
    "y of 100 dimensions": header({"y": {**TENSOR, "shape": [1] * 100, "data_offsets": [0, 4]}}, bytes(4)),
    "a header of 2^63 bytes": other("measurement.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "200,000 empty tensors": zipped(
        make=header({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)})
    ),
    "400,000 notes": zipped(make=header({"__metadata__": {str(i): "" for i in range(400_000)}})),
    "600 empty tensors": header({f"{i}": {**TENSOR, "shape": [0], "data_offsets": [0, 0]} for i in range(600)}),
    "a header 10,000 deep": header(b'{"y":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "a header with an escape": header({ESCAPE: {"dtype": ESCAPE, "shape": [], "data_offsets": [0, 0]}}),
    "a header that is a list": header([]),
    "80 MB of measurement": zipped(make=other("measurement.safetensors", bytes(80 * MB))),
    "no measurement": without("measurement.safetensors"),
    "an empty measurement": other("measurement.safetensors", b""),
    # Pictures.
    "an input of 40 megapixels": picture("input.png", (10_000, 4_000), "1"),
    "an input of 4 gigapixels": picture("input.png", (60_000, 10_000), "1"),
    "an input of 32 px": picture("input.png", (32, 32)),
    "an input that unfolds text": with_text_chunks,
    "an input in TIFF": picture("input.png", (64, 64), kind="TIFF"),
    "an input of nothing": other("input.png", b""),
    "a mask of 40 megapixels": picture("mask.png", (10_000, 4_000), "1", task="inpaint", mask_sha256="0" * 64),
    "another mask": picture("mask.png", (64, 64), "L", task="inpaint", operator={}, mask_sha256="0" * 64),
    "no input": without("input.png"),
    "no result": without("result.png"),
    # The .zip.
    "500,000 files in a zip": many_entries,
    "LZMA": zipped(zipfile.ZIP_LZMA, make=text(bytes(80 * MB))),
    "BZ2": zipped(zipfile.ZIP_BZIP2, make=text(bytes(80 * MB))),
    "half a zip": zipped(spoil=lambda data: data[: len(data) // 2]),
    "a zip that is empty": zipped(spoil=lambda data: b"PK\x05\x06" + bytes(18)),
    "a zip with a wrong sum": zipped(0, spoil=lambda data: data.replace(b'"version": 2', b'"version": 3', 1)),
    "no zip": zipped(spoil=lambda data: b"x" * 1000),
    "80 MB of result": zipped(make=other("result.png", bytes(80 * MB))),
    # Folders.
    "recipe.json a folder": special(lambda path: path.mkdir()),
    "recipe.json a pipe": special(os.mkfifo),
    "recipe.json without an end": special(lambda path: path.symlink_to("/dev/zero")),
    "recipe.json a circle": special(lambda path: path.symlink_to(path)),
    # Morphs.
    "morph of another classifier": morph(),
    "morph of 1,024": morph(batch=1024),
    "morph of an unknown classifier": morph(classifier=ESCAPE),
    "morph of a list": morph(classifier=["robust64"]),
    "morph of a path": morph(classifier="/etc/passwd"),
    "morph of no class": morph(classes={}),
    "morph of a long class": morph(classes={LONG: 1.0}),
    "morph of an odd class": morph(classes={ESCAPE: 1.0}),
    "morph of NaN": morph(classes={"goldfish": math.nan}),
    "morph of a class list": morph(classes=["goldfish"]),
    "morph of many classes": morph(classes={str(i): 1.0 for i in range(50_000)}),
    "morph of 10^9 views": morph(views=10**9),
    "morph of noise NaN": morph(noise=math.nan),
    "morph with an escape": morph(**{ESCAPE: 1}),
}
# Odd contents that are no reason to refuse a run.
ODD = {
    "facts with escapes": recorded(torch=ESCAPE, **{ESCAPE: 1}),
    "a distance with an escape": changed(perceptual=ESCAPE),
    "a huge result": picture("result.png", (10_000, 4_000), "1"),
    "nothing odd": zipped(),
    "threads 1024": recorded(threads=1024),
}


@pytest.fixture(scope="module")
def good(model):
    """The files of a bundle of one step."""
    made = record(model, "denoise", SolverSettings(rounds=(RoundSettings(steps=1),)), sigma=10.0)
    return contents(made, model)


@pytest.fixture(scope="module")
def came(good, root, tmp_path_factory):
    """The outcomes of replaying all bundles in turn in one process, and their sizes."""
    paths = []
    for write in {**CASES, **ODD}.values():
        folder = tmp_path_factory.mktemp("bundle")
        made = write(good, folder)
        paths.append(save(made, folder) if isinstance(made, dict) else made)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        cwd=root,
        # Freed memory is returned to the system, so that the next bundle's memory use is visible.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    lines += [[done.stderr[-2000:], "", "", 0, 0]] * (len(paths) - len(lines))  # the process has exited
    return {name: (*line, size(path)) for name, line, path in zip({**CASES, **ODD}, lines, paths, strict=True)}


def save(files, folder):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def size(path):
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(name, came):
    code, out, err, seconds, grown, given = came[name]
    assert code == 2, f"{code}: {err}"
    assert not out
    assert err.startswith("ilo: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert len(err) < 600
    assert seconds < SECONDS
    assert grown < 2 * given + BESIDE, f"{grown / MB:.0f} MB of {given / MB:.2f} MB"


@pytest.mark.parametrize("name", ODD)
def test_odd_but_replayed(name, came):
    code, out, err, *_ = came[name]
    assert code in (0, 1), f"{code}: {err}"
    assert all(line.isprintable() for line in (out + err).replace("\r", "\n").split("\n"))
    if name == "threads 1024":
        assert f"The run used 1,024 threads; this machine has {os.cpu_count()} cores" in err
    elif name == "a huge result":
        assert "cannot be compared" in out
    elif name == "nothing odd":
        assert "byte for byte" in out


def test_the_command_itself(good, root, tmp_path):
    """Replay one of them with the actual command."""
    path = save(CASES["compose 5 deep"](good, tmp_path), tmp_path)
    done = subprocess.run([sys.executable, "-m", "ilo", "replay", path], capture_output=True, text=True, cwd=root)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "allowed are 16 operators in all" in done.stderr
