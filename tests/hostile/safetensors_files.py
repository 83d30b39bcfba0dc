"""Generators as safetensors: false or huge headers, impossible configurations, latents of another network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.hostile import parts
from tests.hostile.generators import wide
from tests.hostile.parts import CONFIG, NASTY, Table, Write, generator_file, raw, safetensors

DEEP = "[" * 200_000
DEEP_DICT = '{"a":' * 200_000
CLOSED = "[" * 200_000 + "]" * 200_000
NEARLY_DEEP = "[" * 900 + "]" * 900  # close to the interpreter's recursion limit
CONFIG_TEXT = json.dumps(CONFIG)


def empty_tensors(count: int) -> bytes:
    tensors = b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(count))
    return safetensors(b"{" + tensors + b"}")


def many_metadata() -> bytes:
    return safetensors(b'{"__metadata__":{' + b",".join(b'"a%d":""' % i for i in range(1_500_000)) + b"}}")


def headers(names: tuple[str, ...] = ("config",)) -> Table:
    """Hostile containers; `names`: names of the metadata that the reader uses."""
    described = {"__metadata__": {name: CONFIG_TEXT for name in names}}
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    four = bytes(4)
    made: Table = {}
    for length in (0, 1, 7, 2**20, 2**27, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        made[f"length-{length}"] = raw(safetensors({**described, "a": one}, four, length))
    made |= {
        "empty": raw(b""),
        "seven-bytes": raw(b"\x08\0\0\0\0\0\0"),
        "no-header": raw(bytes(8)),
        "header-of-spaces": raw(lambda: safetensors(b" " * 20_000_000)),
        "header-padded-with-20MB": raw(
            lambda: safetensors(json.dumps({**described, "a": one}).encode() + b" " * 20_000_000, four)
        ),
        "400000-empty-tensors": raw(lambda: empty_tensors(400_000)),
        "10000-empty-tensors": raw(lambda: empty_tensors(10_000)),
        "1500000-metadata": raw(many_metadata),
        "100000-metadata": raw(
            lambda: safetensors({"__metadata__": {f"a{i}": "" for i in range(100_000)}, "a": one}, four)
        ),
        "shape-of-2000000-ones": raw(
            lambda: safetensors(
                {**described, "a": {"dtype": "F32", "shape": [1] * 2_000_000, "data_offsets": [0, 4]}}, four
            )
        ),
        "metadata-of-10MB": raw(
            lambda: safetensors({"__metadata__": {**described["__metadata__"], "x": "x" * 10**7}, "a": one}, four)
        ),
        "tensor-twice": raw(safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(one).encode(),) * 2), four)),
        "metadata-twice": raw(safetensors(b'{"__metadata__":{"config":"1"},"__metadata__":{"config":"2"}}')),
        "config-twice": raw(safetensors(b'{"__metadata__":{"config":"1","config":"2","about":"1","about":"2"}}')),
        "fields-twice": raw(
            safetensors(b'{"a":{"dtype":"F32","dtype":"U8","shape":[1],"shape":[4],"data_offsets":[0,4]}}', four)
        ),
        "overlapping": raw(safetensors({**described, "a": one, "b": one}, four)),
        "hole": raw(safetensors({**described, "a": one, "b": {**one, "data_offsets": [8, 12]}}, bytes(12))),
        "backwards": raw(safetensors({**described, "a": {**one, "data_offsets": [4, 0]}}, four)),
        "beyond": raw(safetensors({**described, "a": {**one, "data_offsets": [0, 2**62]}}, four)),
        "negative-offset": raw(safetensors({**described, "a": {**one, "data_offsets": [-4, 0]}}, four)),
        "shape-huge": raw(safetensors({**described, "a": {**one, "shape": [2**62, 4]}}, four)),
        "shape-wraps": raw(safetensors({**described, "a": {**one, "shape": [2**32, 2**32]}}, four)),
        "shape-zero-times-huge": raw(
            safetensors({**described, "a": {**one, "shape": [0, 2**39, 2**39], "data_offsets": [0, 0]}})
        ),
        "shape-zero-times-2^63": raw(
            safetensors({**described, "a": {**one, "shape": [0, 2**63], "data_offsets": [0, 0]}})
        ),
        "shape-negative": raw(safetensors({**described, "a": {**one, "shape": [-1]}}, four)),
        "shape-float": raw(safetensors({**described, "a": {**one, "shape": [1.0]}}, four)),
        "shape-text": raw(safetensors({**described, "a": {**one, "shape": "1"}}, four)),
        "shape-missing": raw(safetensors({**described, "a": {"dtype": "F32", "data_offsets": [0, 4]}}, four)),
        "rank-70": raw(safetensors({**described, "a": {**one, "shape": [1] * 70}}, four)),
        "trailing": raw(safetensors({**described, "a": one}, bytes(100))),
        "cut": raw(safetensors({**described, "a": one}, bytes(3))),
        "header-list": raw(safetensors([one], four)),
        "header-number": raw(safetensors(b"5")),
        "header-deep": raw(lambda: safetensors(DEEP.encode())),
        "header-deep-closed": raw(lambda: safetensors(b'{"a":' + CLOSED.encode() + b"}")),
        "header-deep-dict": raw(lambda: safetensors(DEEP_DICT.encode())),
        "header-not-utf8": raw(safetensors(b'{"\xff\xfe":1}')),
        "header-nan": raw(safetensors(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', four)),
        "header-4000-digits": raw(
            safetensors(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 4000), four)
        ),
        "header-1000000-digits": raw(
            safetensors(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 10**6), four)
        ),
        "metadata-of-numbers": raw(safetensors({"__metadata__": {"config": 5, "about": 5}, "a": one}, four)),
        "metadata-null": raw(safetensors({"__metadata__": None, "a": one}, four)),
        "metadata-list": raw(safetensors({"__metadata__": [], "a": one}, four)),
        "pickle": raw(parts.program(parts.call(parts.name("os", "system"), parts.text("touch executed")))),
        "page": raw(b"<html>404 Not Found</html>"),
        "zeros": raw(lambda: bytes(10_000_000)),
    }
    sizes = {
        "F64": 8,
        "F16": 2,
        "BF16": 2,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "F8_E8M0": 1,
        "F4": 1,
        "C64": 8,
        "I64": 8,
        "I32": 4,
    }
    sizes |= {"I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F6_E2M3": 1, "X9": 4, "": 4}
    for kind, size in sizes.items():
        tensor = {"dtype": kind, "shape": [1], "data_offsets": [0, size]}
        made[f"dtype-{kind or 'empty'}"] = raw(safetensors({**described, "a": tensor}, bytes(size)))
    for kind, nasty in NASTY.items():
        made[f"tensor-called-{kind}"] = raw(lambda n=nasty: safetensors({**described, n: one}, four))
        made[f"dtype-called-{kind}"] = raw(lambda n=nasty: safetensors({**described, "a": {**one, "dtype": n}}, four))
        made[f"metadata-called-{kind}"] = raw(lambda n=nasty: safetensors({"__metadata__": {n: n}, "a": one}, four))
    return made


def configurations() -> Table:
    """Genuine files except for the configuration."""
    made: Table = {}
    wrong: dict[str, Any] = {"zero": 0, "minus": -1, "huge": 10**9, "half": 4.5, "true": True, "nan": float("nan")}
    wrong |= {
        "infinity": float("inf"),
        "text": "x",
        "none": None,
        "list": [4],
        "dict": {"4": 4},
        "2^70": 2**70,
        "digits": 10**4000,
    }
    for option in ("z_dim", "w_dim", "img_resolution", "mapping_layers", "channels", "img_channels"):
        for kind, value in wrong.items():
            made[f"{option}-{kind}"] = generator_file({option: value})
        made[f"{option}-missing"] = generator_file(json.dumps({k: v for k, v in CONFIG.items() if k != option}))
    for option in ("z_dim", "mapping_layers"):
        made[f"{option}-float"] = generator_file({option: float(CONFIG[option])})
        made[f"{option}-as-text"] = generator_file({option: str(CONFIG[option])})
    clamps = {
        **wrong,
        "1e300": 1e300,
        "minus-infinity": float("-inf"),
        "false": False,
        "tiny": 1e-320,
        "text-256": "256",
    }
    made |= {
        f"conv_clamp-{kind}": generator_file({"conv_clamp": value}) for kind, value in clamps.items() if kind != "none"
    }
    rates = {**clamps, "1e-300": 1e-300, "text-0.01": "0.01", "minus-0.01": -0.01}
    made |= {f"lr_multiplier-{kind}": generator_file({"mapping_lr_multiplier": value}) for kind, value in rates.items()}
    for size in (4, 12, 16, 2048, 2**40, 10**30):
        made[f"resolution-{size}"] = generator_file({"img_resolution": size})
        made[f"block-{size}"] = generator_file({"channels": {"4": 4, "8": 4, str(size): 4}, "img_resolution": size})
    channels: dict[str, Any] = {
        "gap": {"4": 4, "16": 4}, "none": {}, "zero": {"4": 4, "8": 0}, "minus": {"4": 4, "8": -4},
        "huge": {"4": 4, "8": 10**12},
        "4096": {"4": 4096, "8": 4096}, "float": {"4": 4, "8": 4.5}, "true": {"4": True, "8": True},
        "texts": {"4": "4", "8": "4"},
        "other": {"4": 4, "8": 5}, "unicode": {"٤": 4, "8": 4}, "spaces": {" 4": 4, "8": 4},
        "twice": {"4": 4, " 4": 4, "8": 4},
        "underscore": {"4": 4, "8": 4, "1_6": 4}, "plus": {"+4": 4, "8": 4}, "list": [["4", 4], ["8", 4]],
        "deep": {"4": [[[]]], "8": 4},
        "many": {str(4 * 2**k): 1 for k in range(3000)}, "names": {str(i): 4 for i in range(100_000)},
        "digits": {"9" * 5000: 4},
    }  # fmt: skip
    made |= {f"channels-{kind}": generator_file({"channels": value}) for kind, value in channels.items()}
    all_blocks = {str(4 * 2**k): 4096 for k in range(9)}
    made["the-largest-network"] = generator_file(
        {"channels": all_blocks, "img_resolution": 1024, "z_dim": 4096, "w_dim": 4096}
    )
    made["the-deepest-mapping"] = generator_file({"mapping_layers": 32, "w_dim": 4096, "z_dim": 4096})
    texts = {
        "deep": DEEP, "deep-dict": DEEP_DICT, "deep-closed": CLOSED, "nearly-deep": NEARLY_DEEP, "empty": "",
        "number": "5",
        "null": "null", "list": "[]", "text": '"x"', "nan": "NaN", "digits": "9" * 5000, "bom": "\ufeff" + CONFIG_TEXT,
        "cut": CONFIG_TEXT[:-3], "twice": CONFIG_TEXT + CONFIG_TEXT, "spaces": " " * 900_000 + CONFIG_TEXT,
        "10MB": "x" * 10**7,
        "z_dim-twice": '{"z_dim": 8, ' + CONFIG_TEXT[1:], "deep-inside": CONFIG_TEXT[:-1] + f', "x": {CLOSED}}}',
        "deep-clamp": CONFIG_TEXT[:-1] + f', "conv_clamp": {NEARLY_DEEP}}}',
        "digits-inside": CONFIG_TEXT[:-1] + f', "x": {"9" * 5000}}}',
        "single-quotes": CONFIG_TEXT.replace('"', "'"), "python": "__import__('os').system('touch executed')",
    }  # fmt: skip
    made |= {f"config-{kind}": generator_file(value) for kind, value in texts.items()}
    for kind, nasty in NASTY.items():
        for option in ("z_dim", "conv_clamp", "mapping_lr_multiplier", "channels"):
            if kind != "surrogate":
                made[f"{option}-{kind}"] = generator_file({option: nasty})
        made[f"channel-{kind}"] = generator_file({"channels": {nasty: 4, "4": 4, "8": 4}})
        made[f"option-{kind}"] = generator_file({nasty: nasty})
    return made


def descriptions() -> Table:
    """Genuine files except for other metadata: alignment, training summary, licence."""
    points = {
        "eye_left": [0.3, 0.3],
        "eye_right": [0.7, 0.3],
        "nose": [0.5, 0.5],
        "mouth_left": [0.3, 0.7],
        "mouth_right": [0.7, 0.7],
    }
    alignments: dict[str, Any] = {
        "text": "faces", "list": [1, 2], "number": 5, "true": True, "zero": 0, "empty-text": "", "empty-list": [],
        "out-of-range": {**points, "nose": [5, 5]}, "huge": {**points, "nose": [1e300, 1e300]},
        "negative": {**points, "nose": [-1, 0.5]},
        "nan": {**points, "nose": [float("nan"), 0.5]}, "infinity": {**points, "nose": [float("inf"), 0.5]},
        "texts": {**points, "nose": ["a", "b"]}, "text-of-two": {**points, "nose": "ab"},
        "one-number": {**points, "nose": [0.5]},
        "three-numbers": {**points, "nose": [0.5, 0.5, 0.5]}, "plain-number": {**points, "nose": 0.5},
        "none": {**points, "nose": None},
        "dict": {**points, "nose": {"x": 0.5, "y": 0.5}}, "two-keys": {**points, "nose": {"0.5": 1, "0.6": 1}},
        "trues": {**points, "nose": [True, False]}, "missing": {"nose": [0.5, 0.5]},
        "all-the-same": {point: [0.5, 0.5] for point in points},
        "eyes-in-the-corner": {**points, "eye_left": [0, 0], "eye_right": [0, 0]},
        "swapped": {**points, "eye_left": [0.9, 0.3], "eye_right": [0.1, 0.3]},
        "more": {**points, "tail": [0.5, 0.5]}, "many": {**points, **{f"p{i}": [0.5, 0.5] for i in range(20_000)}},
        "nested": {**points, "nose": [[0.5, 0.5]]}, "digits": {**points, "nose": [10**4000, 0.5]},
        "other-names": {"a": [0.5, 0.5]},
    }  # fmt: skip
    made: Table = {
        f"alignment-{kind}": generator_file(metadata={"alignment": json.dumps(value)})
        for kind, value in alignments.items()
    }
    for name in ("alignment", "training", "licence"):
        for kind, value in {
            "deep": DEEP, "deep-dict": DEEP_DICT, "deep-closed": CLOSED, "nearly-deep": NEARLY_DEEP, "empty": "",
            "10MB": "x" * 10**7,
            "10MB-json": json.dumps("x" * 10**7), "digits": "9" * 5000, "nan": "NaN", "no-json": "{", "number": "5",
            "list": "[1, 2]",
            "surrogate": '"\\ud800"', "escape": json.dumps(NASTY["escape"]), "newlines": NASTY["newlines"],
            "markup": json.dumps("<script>fetch('//x')</script>"), "many": json.dumps(list(range(100_000))),
        }.items():  # fmt: skip
            made[f"{name}-is-{kind}"] = generator_file(metadata={name: value})
    made["other-metadata"] = generator_file(metadata={f"x{i}": "y" for i in range(50)})
    return made


def contents() -> Table:
    """Genuine configurations with tensors of other kinds, shapes, names and sizes."""
    made: Table = {}

    def cast(kind: torch.dtype) -> Callable[[dict[str, torch.Tensor]], Any]:
        return lambda tensors: tensors.update({k: v.to(kind) for k, v in tensors.items()})

    kinds = (
        torch.float64,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.int8,
    )
    for kind in (*kinds, torch.bool, torch.complex64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e8m0fnu):
        made[f"all-{str(kind)[6:]}"] = generator_file(change=cast(kind))
        made[f"one-{str(kind)[6:]}"] = generator_file(
            change=lambda t, kind=kind: t.__setitem__("mapping.w_avg", t["mapping.w_avg"].to(kind))
        )
    big = {
        **CONFIG,
        "z_dim": 512,
        "w_dim": 512,
        "img_resolution": 16,
        "channels": {str(4 * 2**k): 512 - 2 * k for k in range(3)},
    }

    def one_byte(kind: torch.dtype) -> Write:
        def write(path: Path) -> None:
            tensors = {k: torch.zeros(v.shape, dtype=kind) for k, v in _wide_state().items()}
            save_file(tensors, path, {"config": json.dumps(big)})

        return write

    for kind in (torch.uint8, torch.bool, torch.int8, torch.float8_e4m3fn):
        made[f"14MB-of-{str(kind)[6:]}"] = one_byte(kind)
    for kind, value in (("zeros", 0.0), ("1e30", 1e30), ("3e38", 3e38), ("1e-40", 1e-40)):
        for layer in ("mapping.fc0.weight", "mapping.fc1.weight", "mapping.fc1.bias", "mapping"):
            made[f"{layer}-{kind}"] = generator_file(
                change=lambda t, layer=layer, value=value: [v.fill_(value) for k, v in t.items() if k.startswith(layer)]
            )
    for kind, value in (("nan", torch.nan), ("infinity", torch.inf)):
        for layer in ("mapping.w_avg", "synthesis.b8.conv1.noise_strength", "synthesis.b4.resample_filter"):
            made[f"{layer}-{kind}"] = generator_file(change=lambda t, layer=layer, value=value: t[layer].fill_(value))
    for kind, shape in {"[0]": [0], "[]": [], "[1,4]": [1, 4], "[5]": [5], "[0,9,9,9]": [0, 9, 9, 9]}.items():
        made[f"shape-{kind}"] = generator_file(
            change=lambda t, shape=shape: t.__setitem__("mapping.w_avg", torch.zeros(shape))
        )
    made["one-more"] = generator_file(change=lambda t: t.__setitem__("more", torch.zeros(1)))
    made["embed"] = generator_file(change=lambda t: t.__setitem__("mapping.embed.weight", torch.zeros(4, 4)))
    made["50MB-more"] = generator_file(change=lambda t: t.__setitem__("more", torch.zeros(12_500_000)))
    made["40MB-of-bytes-more"] = generator_file(
        change=lambda t: t.__setitem__("more", torch.zeros(40_000_000, dtype=torch.uint8))
    )
    made["one-fewer"] = generator_file(change=lambda t: t.pop("mapping.w_avg"))
    made["none"] = generator_file(change=lambda t: t.clear())
    for kind, nasty in NASTY.items():
        if kind != "surrogate":
            made[f"tensor-{kind}"] = generator_file(change=lambda t, n=nasty: t.__setitem__(n, torch.zeros(1)))
    return made


@cache
def _wide_state() -> dict[str, torch.Tensor]:
    return wide().state_dict()


def neighbours() -> Table:
    """A genuine generator with a file of latents beside it that belongs to another network or is broken."""
    fingerprint = parts.small().mapping.fc1.weight.detach().double().sum(0)
    fit = {"mean": torch.zeros(4), "factor": torch.eye(4), "fingerprint": fingerprint}
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "mean-of-5": {"mean": torch.zeros(5)}, "mean-scalar": {"mean": torch.zeros([])},
        "mean-empty": {"mean": torch.zeros(0)},
        "mean-column": {"mean": torch.zeros(4, 1)}, "mean-nan": {"mean": torch.full([4], torch.nan)},
        "mean-double": {"mean": torch.zeros(4, dtype=torch.float64)},
        "mean-bool": {"mean": torch.zeros(4, dtype=torch.bool)},
        "mean-float8": {"mean": torch.zeros(4).to(torch.float8_e4m3fn)},
        "mean-complex": {"mean": torch.zeros(4, dtype=torch.complex64)},
        "factor-of-5": {"factor": torch.eye(5)}, "factor-vector": {"factor": torch.ones(4)},
        "factor-infinity": {"factor": torch.full([4, 4], torch.inf)},
        "factor-half": {"factor": torch.eye(4, dtype=torch.float16)},
        "factor-long": {"factor": torch.eye(4, dtype=torch.int64)},
        "factor-zeros": {"factor": torch.zeros(4, 4)}, "factor-upper": {"factor": torch.ones(4, 4).triu()},
        "fingerprint-float": {"fingerprint": fingerprint.float()},
        "fingerprint-bytes": {"fingerprint": torch.zeros(4, dtype=torch.uint8)},
        "fingerprint-scalar": {"fingerprint": torch.zeros([])},
        "fingerprint-other": {"fingerprint": torch.zeros(4, dtype=torch.float64)},
        "fingerprint-float8": {"fingerprint": torch.zeros(4).to(torch.float8_e4m3fn)},
    }  # fmt: skip

    def beside(change: Callable[[Path], Any]) -> Write:
        def write(path: Path) -> None:
            generator_file()(path)
            change(path.with_suffix(".latents.safetensors"))

        return write

    made = {kind: beside(lambda at, value=value: save_file({**fit, **value}, at)) for kind, value in wrong.items()}
    for name in fit:
        made[f"without-{name}"] = beside(
            lambda at, name=name: save_file({k: v for k, v in fit.items() if k != name}, at)
        )
    made |= {
        "none": beside(lambda at: at.write_bytes(b"")),
        "garbage": beside(lambda at: at.write_bytes(b"x" * 1000)),
        "header-huge": beside(lambda at: at.write_bytes(safetensors({}, length=2**63))),
        "deep": beside(lambda at: at.write_bytes(safetensors(DEEP.encode()))),
        "400000-tensors": beside(lambda at: at.write_bytes(empty_tensors(400_000))),
        "1500000-metadata": beside(lambda at: at.write_bytes(many_metadata())),
        "60MB": beside(lambda at: save_file({**fit, "more": torch.zeros(15_000_000)}, at)),
        "folder": beside(lambda at: at.mkdir()),
        "nowhere": beside(lambda at: at.symlink_to("/nonexistent/place")),
        "itself": beside(lambda at: at.symlink_to(at.name)),
    }  # fmt: skip
    return {f"neighbour-{kind}": write for kind, write in made.items()}


# Files that give the same network as a genuine file, or whose changes are ignored; the model must be usable.
HARMLESS = (
    "*_dim-half.*", "*-float.*", "*-as-text.*", "mapping_layers-half.*", "img_channels-*",
    "img_resolution-true.*",
    "conv_clamp-infinity.*", "conv_clamp-huge.*", "conv_clamp-1e300.*", "conv_clamp-2^70.*", "conv_clamp-tiny.*",
    "conv_clamp-half.*",
    "conv_clamp-digits.*",
    "lr_multiplier-true.*", "lr_multiplier-half.*", "lr_multiplier-minus*", "lr_multiplier-text-0.01.*",
    "lr_multiplier-huge.*",
    "lr_multiplier-text-256.*", "lr_multiplier-tiny.*", "lr_multiplier-1e-300.*", "lr_multiplier-false.*",
    "channels-texts.*", "channels-unicode.*", "channels-spaces.*", "channels-plus.*", "channels-twice.*",
    "channels-float.*",
    "config-spaces.*", "config-z_dim-twice.*", "config-deep-inside.*", "config-digits-inside.*", "option-*",
    "alignment-*", "training-*", "licence-*", "other-metadata.*", "neighbour-*",
    "all-float*", "all-bfloat16.*", "all-*int*", "all-bool.*", "one-float*", "one-*int*", "one-bool.*",
    "one-bfloat16.*", "mapping*-zeros.*", "mapping*-1e*.*", "mapping.*-3e38.*",
    "mapping-3e38.*",
)  # fmt: skip


def table() -> Table:
    made = headers() | configurations() | descriptions() | neighbours()
    return {f"{name}.safetensors": write for name, write in (made | contents()).items()}
