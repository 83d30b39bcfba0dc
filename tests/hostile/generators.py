"""Genuine generators with one thing wrong: options, weights, shapes, names, kinds of numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from ilo.priors.stylegan2.network import Generator
from tests import published as files
from tests.hostile import parts
from tests.hostile.parts import NASTY, Raw, Table, call, mapping, name, number, raw, several, text


def set_option(content: dict[str, Any], option: str, value: Any) -> None:
    """Set an option in the generator's arguments, or, for the clamp and the multiplier, in its layers."""
    where = {"conv_clamp": "synthesis.", "bias_gain": "mapping."}.get(option)
    if where is None:
        parts.inner(content)["_init_kwargs"][option] = value
    for path, module in content["G_ema"].named_modules():
        if where and path.startswith(where) and hasattr(module, option):
            vars(module)[option] = value


def options() -> Table:
    """Options of a genuine generator with a wrong type or out of range."""
    made = {}
    wrong: dict[str, Any] = {
        "text": "256",
        "list": [256],
        "dict": {"a": 1},
        "nan": float("nan"),
        "negative": -1.0,
        "zero": 0,
    }
    wrong |= {"true": True, "tuple": (1, 2), "minus-infinity": float("-inf"), "tensor": torch.zeros(1), "bytes": b"1"}
    wrong |= {"infinity": float("inf"), "huge": 1e300, "whole": 10**30}
    for kind, value in wrong.items():
        made[f"conv_clamp-{kind}.pkl"] = parts.official(
            lambda content, value=value: set_option(content, "conv_clamp", value)
        )
    for option in ("z_dim", "w_dim", "c_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs"):
        for kind in ("text", "list", "nan", "negative", "true", "tensor", "whole"):
            made[f"{option}-{kind}.pkl"] = parts.official(
                lambda content, option=option, value=wrong[kind]: set_option(content, option, value)
            )
    for kind, value in wrong.items():
        made[f"lr_multiplier-{kind}.pkl"] = parts.official(
            lambda content, value=value: set_option(content, "bias_gain", value)
        )
    for kind, value in (("text", "x"), ("none", None), ("number", 5), ("list", []), ("tensor", torch.zeros(2))):
        for place in ("_init_kwargs", "_parameters", "_buffers", "_modules"):
            made[f"{place[1:]}-is-{kind}.pkl"] = parts.official(
                lambda content, place=place, value=value: parts.inner(content).__setitem__(place, value)
            )
        made[f"state-is-{kind}.pkl"] = parts.official(
            lambda content, value=value: parts.rewritten(content, state=value)
        )
        made[f"generator-is-{kind}.pkl"] = parts.official(
            lambda content, value=value: content.__setitem__("G_ema", value)
        )
    return made


def numbers() -> Table:
    """Unusable weights: layers of zeros or not finite, or too large for fitting the latents."""
    made = {}
    for kind, value in (
        ("zeros", 0.0),
        ("nan", float("nan")),
        ("infinity", float("inf")),
        ("1e30", 1e30),
        ("1e38", 3e38),
    ):
        for layer in ("mapping.fc0", "mapping.fc1"):
            for suffix, write in (("pkl", parts.official), ("pt", parts.rosinality)):
                key = f"style.{int(layer[-1]) + 1}.weight"

                def change(content: Any, layer: str = layer, value: float = value, key: str = key) -> None:
                    found = (
                        content["g_ema"][key]
                        if "latent_avg" in content
                        else parts.inner(content, layer)["_parameters"]["weight"]
                    )
                    found.data.fill_(value)

                made[f"{layer}-{kind}.{suffix}"] = write(change)
    return made


def described() -> Table:
    """Tensors with an impossible shape, strides, offset or storage, or far larger than the file."""
    edges = (-1, 0, 1, 2**31 - 1, 2**31, 2**39, 2**40 - 1, 2**62, 2**63 - 1, 2**63, 2**64, 2**127)
    four, one = parts.numbers(4), parts.numbers(1)
    cases: dict[str, tuple[bytes, bytes, bytes]] = {}
    for edge in edges:
        cases[f"offset-{edge}"] = number(edge), four, one
        cases[f"side-{edge}"] = number(0), parts.numbers(edge), one
        cases[f"stride-{edge}"] = number(0), four, parts.numbers(edge)
        cases[f"zero-times-{edge}"] = number(0), parts.numbers(0, edge, edge), parts.numbers(1, 1, 1)
        cases[f"{edge}-times-zero"] = number(0), parts.numbers(edge, edge, 0), parts.numbers(edge, 1, 1)
    for kind, value in {
        "float": parts.real(4.0),
        "true": b"\x88",
        "text": text("4"),
        "none": b"N",
        "nan": parts.real(1e999),
    }.items():
        cases[f"offset-{kind}"] = value, four, one
        cases[f"side-{kind}"] = number(0), several(value), one
        cases[f"stride-{kind}"] = number(0), four, several(value)
    cases["ranks-differ"] = number(0), parts.numbers(2, 2), one
    cases["rank-64"] = number(0), parts.numbers(*[1] * 64), parts.numbers(*[1] * 64)
    cases["rank-100000"] = (
        number(0),
        number(1) + b"\x85" + b"0(" + number(1) * 100_000 + b"t",
        b"(" + number(1) * 100_000 + b"t",
    )
    cases["list-as-shape"] = number(0), parts.sequence(number(4)), one
    cases["windows"] = number(0), parts.numbers(2, 2), parts.numbers(1, 1)
    cases["backwards"] = number(3), four, parts.numbers(-1)
    blob = parts.blob(_storage_file())
    made = {}
    for kind, (offset, shape, strides) in cases.items():
        official = parts.tensor(call(parts.LOAD, blob), offset, shape, strides)
        made[f"{kind}.pkl"] = parts.official(
            lambda content, code=official: parts.inner(content, "mapping")["_buffers"].__setitem__("w_avg", Raw(code))
        )
        tensor = parts.tensor(parts.stored(), offset, shape, strides)
        state = mapping([(text("style.1.bias"), tensor)])
        made[f"{kind}.pt"] = raw(parts.torch_zip(mapping([(text("g_ema"), state)])))
    counts = {str(edge): number(edge) for edge in edges} | {
        "float": parts.real(4.0),
        "true": b"\x88",
        "text": text("4"),
        "none": b"N",
    }
    for kind, count in counts.items():
        tensor = parts.tensor(parts.stored(count=count), number(0), four, one)
        made[f"count-{kind}.pt"] = raw(
            parts.torch_zip(mapping([(text("g_ema"), mapping([(text("style.1.bias"), tensor)]))]))
        )
    keys = {
        "int": number(0),
        "large": number(10**30),
        "path": text("../0"),
        "empty": text(""),
        "bytes": b"C\x010",
        "float": parts.real(0),
    }
    keys |= {kind: text(nasty) for kind, nasty in NASTY.items()} | {
        "4000-digits": number(10**4000),
        "100000-digits": number(1 << 332_000),
    }
    for kind, key in keys.items():
        tensor = parts.tensor(parts.stored(key=key), number(0), four, one)
        made[f"key-{kind}.pt"] = raw(
            parts.torch_zip(mapping([(text("g_ema"), mapping([(text("style.1.bias"), tensor)]))]))
        )
    for kind in (
        "ComplexFloatStorage",
        "QInt8Storage",
        "UntypedStorage",
        "CudaStorage",
        "Tensor",
        "load",
        "Float8Storage",
    ):
        tensor = parts.tensor(parts.stored(kind), number(0), four, one)
        made[f"kind-{kind}.pt"] = raw(
            parts.torch_zip(mapping([(text("g_ema"), mapping([(text("style.1.bias"), tensor)]))]))
        )
    for i in range(8):  # one argument more or fewer
        given = (parts.stored(), number(0), four, one, b"\x89", call(parts.ORDERED), call(parts.ORDERED))[:i]
        code = mapping([(text("g_ema"), mapping([(text("style.1.bias"), call(parts.REBUILD, *given))]))])
        made[f"{i}-arguments.pt"] = raw(parts.torch_zip(code))
    for other in (
        "_rebuild_tensor_v3",
        "_rebuild_qtensor",
        "_rebuild_parameter_with_state",
        "_rebuild_meta_tensor_no_storage",
    ):
        code = call(name("torch._utils", other), parts.stored(), number(0), four, one)
        made[f"rebuilt-by-{other}.pt"] = raw(
            parts.torch_zip(mapping([(text("g_ema"), mapping([(text("style.1.bias"), code)]))]))
        )
    return made


def _storage_file() -> bytes:
    """Four numbers in the format of `_load_from_bytes`."""
    code = parts.stored()
    small = [
        number(parts.MAGIC),
        number(1001),
        mapping([(text("little_endian"), b"\x88")]),
        code,
        parts.sequence(text("0")),
    ]
    return b"".join(parts.program(part) for part in small) + (4).to_bytes(8, "little") + bytes(16)


@cache
def wide() -> Generator:
    """A generator with 512 channels per layer, like the published ones, used for its shapes."""
    return files.generator(16, layers=2, width=512, channels=512)


@cache
def narrow() -> Generator:
    """A generator with a mapping network of width 512 and otherwise minimal."""
    return files.generator(8, layers=2, width=512, channels=4)


def keys() -> Table:
    """Names in a rosinality checkpoint of absurd layers, duplicate names, or unprintable ones."""
    made = {}
    one = torch.zeros(1)
    names = {
        "noise-of-convs.24": ("convs.24.noise.weight", one),
        "noise-of-convs.40": ("convs.40.noise.weight", one),
        "convs.1e11": ("convs.100000000000.conv.weight", torch.zeros(1, 4, 4, 3, 3)),
        "convs-digits": (f"convs.{'9' * 4000}.conv.weight", one),
        "convs-more-digits": (f"convs.{'9' * 100_000}.noise.weight", one),
        "to_rgbs.1e9": ("to_rgbs.1000000000.bias", one),
        "style.99999": ("style.99999.weight", torch.zeros(4, 4)),
        "style.0": ("style.0.weight", torch.zeros(4, 4)),
        "style-digits": (f"style.{'9' * 5000}.weight", one),
        "noise_40": ("noises.noise_40", torch.zeros(1, 1, 4, 4)),
        "noise_1e12": ("noises.noise_1000000000000", torch.zeros(1, 1, 4, 4)),
        "convs-unicode": ("convs.٢.conv.weight", torch.zeros(1, 4, 4, 3, 3)),
        "style-unicode": ("style.٣.weight", torch.zeros(4, 4)),
        "convs-minus": ("convs.-1.conv.weight", one),
        "newline-at-the-end": ("style.1.weight\n", torch.zeros(4, 4)),
        "empty": ("", one),
        "mapping": ("mapping.fc0.weight", one),
        "embed": ("mapping.embed.weight", one),
    }
    for kind, (key, value) in names.items():
        made[f"key-{kind}.pt"] = parts.rosinality(
            lambda content, key=key, value=value: content["g_ema"].__setitem__(key, value)
        )
        made[f"only-{kind}.pt"] = parts.saved(lambda key=key, value=value: {"g_ema": {key: value}, "latent_avg": one})
    for kind, nasty in NASTY.items():
        made[f"key-{kind}.pt"] = parts.rosinality(lambda content, key=nasty: content["g_ema"].__setitem__(key, one))
        made[f"part-{kind}.pt"] = parts.rosinality(
            lambda content, key=nasty: content["g_ema"].__setitem__(f"convs.0.{key}", one)
        )
        made[f"entry-{kind}.pt"] = parts.rosinality(lambda content, key=nasty: content.__setitem__(key, key))
    made["style.01.pt"] = parts.rosinality(
        lambda content: content["g_ema"].__setitem__("style.01.weight", torch.zeros(4, 4))
    )
    made["150000-keys.pt"] = parts.saved(
        lambda: {"g_ema": dict.fromkeys((f"convs.{i}.noise.weight" for i in range(150_000)), one)}
    )
    made["40-noise-weights.pt"] = parts.saved(
        lambda: {"g_ema": dict.fromkeys((f"convs.{i}.noise.weight" for i in range(40)), one)}
    )
    made["10000-styles.pt"] = parts.saved(
        lambda: {"g_ema": dict.fromkeys((f"style.{i}.weight" for i in range(10_000)), torch.zeros(64, 64))}
    )
    return made


def tensors() -> Table:
    """Genuine rosinality checkpoints with tensors of wrong dtypes, shapes and sizes."""
    made = {}
    averages = {
        "bytes": lambda: torch.zeros(30_000_000, dtype=torch.uint8),
        "bools": lambda: torch.zeros(30_000_000, dtype=torch.bool),
        "halves": lambda: torch.zeros(25_000_000, dtype=torch.float16),
        "brain-floats": lambda: torch.zeros(25_000_000, dtype=torch.bfloat16),
        "floats": lambda: torch.zeros(12_000_000),
        "matrix": lambda: torch.zeros(4, 4),
        "empty": lambda: torch.zeros(0),
        "scalar": lambda: torch.zeros([]),
        "nan": lambda: torch.full([4], torch.nan),
        "infinity": lambda: torch.full([4], torch.inf),
        "long": lambda: torch.full([4], 2**62),
        "text": lambda: "x",
        "dict": lambda: {"a": torch.zeros(4)},
        "list": lambda: [0.0, 0.0, 0.0, 0.0],
    }
    for kind, average in averages.items():
        made[f"average-{kind}.pt"] = parts.rosinality(
            lambda content, make=average: content.__setitem__("latent_avg", make())
        )
        made[f"average-old-{kind}.pt"] = parts.rosinality(
            lambda content, make=average: content.__setitem__("latent_avg", make()), zipped=False
        )
    shapes = {"[0]": [0], "[]": [], "[1]*8": [1] * 8, "[0,4,4]": [0, 4, 4], "[3,3]": [3, 3], "[1,1,1,1,1]": [1] * 5}
    layers = ("style.1.weight", "input.input", "convs.0.conv.weight", "convs.0.noise.weight", "noises.noise_1")
    for layer in (*layers, "to_rgb1.bias", "conv1.conv.modulation.weight", "to_rgbs.0.conv.weight"):
        for kind, shape in shapes.items():
            made[f"{layer}-{kind}.pt"] = parts.rosinality(
                lambda content, layer=layer, shape=shape: content["g_ema"].__setitem__(layer, torch.zeros(shape))
            )
        made[f"{layer}-missing.pt"] = parts.rosinality(lambda content, layer=layer: content["g_ema"].__delitem__(layer))
        made[f"{layer}-nan.pt"] = parts.rosinality(
            lambda content, layer=layer: content["g_ema"][layer].fill_(torch.nan)
        )
    for kind, value in (
        ("list", []),
        ("none", None),
        ("text", "x"),
        ("tensor", torch.zeros(1)),
        ("empty", {}),
        ("number", 7),
    ):
        made[f"state-is-{kind}.pt"] = parts.rosinality(lambda content, value=value: content.__setitem__("g_ema", value))
        made[f"content-is-{kind}.pt"] = parts.saved(lambda value=value: value)

    def one_storage(content: dict[str, Any], spread: int) -> None:
        # All layers share the same numbers, so the file is only as large as the largest layer.
        state = content["g_ema"]
        base = torch.full([max(v.numel() for v in state.values()) + spread * len(state)], 0.01)
        for i, (key, value) in enumerate(state.items()):
            state[key] = base[i * spread :][: value.numel()].view(value.shape)

    for kind, spread in (("shared", 0), ("overlapping", 1)):
        for old in (False, True):
            made[f"{kind}-weights{'-old' * old}.pt"] = parts.rosinality(
                lambda content, spread=spread: one_storage(content, spread), wide, zipped=not old
            )

    def expanded(content: dict[str, Any]) -> None:
        content["g_ema"] = {key: torch.zeros(1).expand(value.shape) for key, value in content["g_ema"].items()}

    made["expanded-weights.pt"] = parts.rosinality(expanded, wide)
    made["a-99-layer-mapping-of-one-tensor.pt"] = parts.rosinality(_many_layers, narrow)

    def kinds(kind: torch.dtype) -> Callable[[dict[str, Any]], None]:
        return lambda content: content.__setitem__("g_ema", {k: v.to(kind) for k, v in content["g_ema"].items()})

    for kind in (torch.uint8, torch.bool, torch.int8):
        made[f"all-of-{str(kind)[6:]}.pt"] = parts.rosinality(kinds(kind), wide)
    return made


def _many_layers(content: dict[str, Any]) -> None:
    state = content["g_ema"]
    for i in range(3, 100):
        state[f"style.{i}.weight"], state[f"style.{i}.bias"] = state["style.2.weight"], state["style.2.bias"]


HARMLESS = (
    # Options that are not needed because the shapes determine them, or that make no difference.
    "z_dim-*.pkl", "w_dim-*.pkl", "c_dim-*.pkl", "img_*.pkl", "mapping_kwargs-*.pkl", "synthesis_kwargs-*.pkl",
    "conv_clamp-infinity.pkl", "conv_clamp-huge.pkl", "conv_clamp-whole.pkl", "lr_multiplier-*.pkl",
    "init_kwargs-is-*.pkl", "parameters-is-*.pkl", "buffers-is-*.pkl",  # the generator itself has no tensors
    "mapping.*-zeros.p*", "mapping.*-1e3?.p*",  # if the latents are then finite
    "entry-*.pt", "style.01.pt",
    "average-*text.pt", "average-*dict.pt", "average-*list.pt", "average-*long.pt", "average-*matrix.pt",
    "noises.*-missing.pt", "convs.0.noise.weight-[]*.pt", "convs.0.noise.weight-[1*.pt",  # no noise; one number
)  # fmt: skip


def table() -> Table:
    return options() | numbers() | described() | keys() | tensors()
