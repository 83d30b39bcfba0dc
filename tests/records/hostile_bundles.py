"""The hostile bundles, and the functions that make each of a good one.

A function gets the good bundle's files, by name, and an empty folder. It returns the files to write there, or the path
of what it wrote itself.
"""

import io
import json
import math
import os
import struct
import warnings
import zipfile
import zlib

import safetensors.torch
import torch
from PIL import Image

from ilo.records.recipe import tensor_sha256

MB = 2**20
ESCAPE = "\x1b[31m\n\r\x07\u202e"
LONG = "x" * 900_000


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
