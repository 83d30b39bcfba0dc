"""Classifiers: files of the studio's format with impossible metadata, and invalid ResNet checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchvision.models import resnet50

from ilo.classifiers.classifier import ResidualNetwork, Shape
from tests.hostile import parts
from tests.hostile.parts import NASTY, Raw, Table, Write, call, mapping, name, text
from tests.hostile.safetensors_files import CLOSED, DEEP, DEEP_DICT, NEARLY_DEEP, headers

SHAPE = {"classes": 2, "widths": [4, 6], "blocks": [1, 1], "size": 32}
ABOUT: dict[str, Any] = {"shape": SHAPE, "classes": [["n1", "one, first"], ["n2", "two"]], "licence": "none"}


@cache
def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = ResidualNetwork(Shape(2, (4, 6), (1, 1), 32)).state_dict()
    return {k: v.contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def own(about: Any = None, change: Callable[[dict[str, torch.Tensor]], Any] = lambda tensors: None) -> Write:
    """A genuine small classifier except for its description (text is written unchanged) or its tensors."""

    def write(path: Path) -> None:
        tensors = {key: value.clone() for key, value in _tensors().items()}
        change(tensors)
        save_file(tensors, path, {"about": about if isinstance(about, str) else json.dumps({**ABOUT, **(about or {})})})

    return write


def _shape(**fields: Any) -> Write:
    return own({"shape": {**SHAPE, **fields}})


def descriptions() -> Table:
    """Shapes, classes and names that no classifier has."""
    made: Table = {}
    wrong: dict[str, Any] = {
        "zero": 0,
        "minus": -1,
        "huge": 10**9,
        "half": 2.5,
        "true": True,
        "nan": float("nan"),
        "text": "x",
    }
    wrong |= {"none": None, "list": [2], "dict": {}, "infinity": float("inf"), "2^70": 2**70, "digits": 10**4000}
    for field in ("classes", "size", "widths", "blocks"):
        for kind, value in wrong.items():
            made[f"{field}-{kind}"] = _shape(**{field: value})
            if field in ("widths", "blocks"):
                made[f"{field}-of-{kind}"] = _shape(**{field: [value, value]})
        made[f"{field}-missing"] = own({"shape": {k: v for k, v in SHAPE.items() if k != field}})
    made |= {
        "size-4096": _shape(size=4096),
        "size-1": _shape(size=1),
        "size-100000": _shape(size=100_000),
        "widths-floats": _shape(widths=[4.0, 6.0]),
        "widths-texts": _shape(widths=["4", "6"]),
        "widths-a-text": _shape(widths="46"),
        "widths-digits-in-a-dict": _shape(widths={"4": 1, "6": 1}),
        "widths-4096": _shape(widths=[4096] * 6, blocks=[64] * 6),
        "widths-100000": _shape(widths=[1] * 100_000, blocks=[1] * 100_000),
        "widths-empty": _shape(widths=[], blocks=[]),
        "blocks-64": _shape(blocks=[64, 64]),
        "blocks-trues": _shape(blocks=[True, True]),
        "blocks-floats": _shape(blocks=[1.0, 1.0]),
        "blocks-longer": _shape(blocks=[1, 1, 1]),
        "shape-list": own({"shape": [2, [4, 6], [1, 1], 32]}),
        "shape-none": own({"shape": None}),
        "shape-text": own({"shape": "x"}),
        "more-in-shape": _shape(x=1),
    }
    names: dict[str, Any] = {
        "none": None, "empty": [], "one": [["n1", "one"]], "three": [["n1", "a"], ["n2", "b"], ["n3", "c"]],
        "text": "ab", "number": 5,
        "texts-of-two": ["ab", "cd"], "of-three": [["n1", "a", "x"], ["n2", "b", "x"]], "flat": ["n1", "a"],
        "dict": {"n1": "a", "n2": "b"},
        "dict-of-pairs": {"ab": 1, "cd": 2}, "numbers": [[1, 2], [3, 4]], "nones": [[None, None], [None, None]],
        "lists": [[[], []], [[], []]],
        "empty-names": [["", ""], ["", ""]], "commas": [["n1", ",,,"], ["n2", ","]], "same": [["n1", "a"], ["n1", "a"]],
        "deep": [["n1", [[[[]]]]], ["n2", "b"]], "million": [["n", "x"]] * 1_000_000, "20000": [["n", "x"]] * 20_000,
        "10MB": [["n1", "x" * 10**7], ["n2", "b"]], "many-synonyms": [["n1", ",".join("x" * 100_000)], ["n2", "b"]],
        "true": True,
    }  # fmt: skip
    names |= {kind: [["n1", nasty], [nasty, "b"]] for kind, nasty in NASTY.items() if kind not in ("10MB", "surrogate")}
    names["surrogate"] = [["n1", "\ud800"], ["n2", "b"]]
    made |= {f"names-{kind}": own({"classes": value}) for kind, value in names.items()}
    whole = json.dumps(ABOUT)
    for kind, value in {
        "deep": DEEP, "deep-dict": DEEP_DICT, "deep-closed": CLOSED, "nearly-deep": NEARLY_DEEP, "empty": "",
        "number": "5", "null": "null",
        "list": "[]", "text": '"x"', "digits": "9" * 5000, "10MB": "x" * 10**7, "cut": whole[:-3], "twice": whole * 2,
        "nan": "NaN",
        "deep-inside": whole[:-1] + f', "x": {CLOSED}}}', "nearly-deep-inside": whole[:-1] + f', "x": {NEARLY_DEEP}}}',
        "digits-inside": whole[:-1] + f', "x": {"9" * 5000}}}', "spaces": " " * 900_000 + whole,
        "classes-twice": '{"classes": 5, ' + whole[1:],
    }.items():  # fmt: skip
        made[f"about-{kind}"] = own(value)
    return made


def contents() -> Table:
    """Genuine descriptions with tensors of other kinds, shapes, names and sizes."""
    made: Table = {}
    kinds = (
        torch.float64,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e8m0fnu,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
    )
    for kind in kinds:
        made[f"one-{str(kind)[6:]}"] = own(
            change=lambda t, kind=kind: t.__setitem__("head.bias", t["head.bias"].to(kind))
        )
    for kind in (torch.uint8, torch.bool, torch.float16):
        made[f"30MB-of-{str(kind)[6:]}-more"] = own(
            change=lambda t, kind=kind: t.__setitem__("more", torch.zeros(30_000_000 // kind.itemsize, dtype=kind))
        )
    for kind, value in (("nan", torch.nan), ("infinity", torch.inf)):
        for layer in ("head.weight", "norm.running_var", "stem.weight"):
            made[f"{layer}-{kind}"] = own(change=lambda t, layer=layer, value=value: t[layer].fill_(value))
    made["running_var-negative"] = own(change=lambda t: t["norm.running_var"].fill_(-5.0))
    made["running_var-huge"] = own(change=lambda t: t["norm.running_var"].fill_(3e38))
    for kind, shape in {"[0]": [0], "[]": [], "[3]": [3], "[1,2]": [1, 2], "[2,0]": [2, 0]}.items():
        for layer in ("head.bias", "stem.weight"):
            made[f"{layer}-{kind}"] = own(
                change=lambda t, layer=layer, shape=shape: t.__setitem__(layer, torch.zeros(shape))
            )
    made["one-more"] = own(change=lambda t: t.__setitem__("more", torch.zeros(1)))
    made["counters-more"] = own(change=lambda t: t.__setitem__("norm.num_batches_tracked", torch.tensor(5)))
    made["one-fewer"] = own(change=lambda t: t.pop("head.weight"))
    made["none"] = own(change=lambda t: t.clear())
    made["head-alone-of-4096"] = own(
        {"shape": {**SHAPE, "widths": [4096] * 6, "blocks": [8] * 6}},
        lambda t: [t.pop(k) for k in list(t) if k != "head.bias"],
    )
    for kind, nasty in NASTY.items():
        if kind != "surrogate":
            made[f"tensor-{kind}"] = own(change=lambda t, n=nasty: t.__setitem__(n, torch.zeros(1)))
    return made


def table() -> Table:
    made = {f"header-{name}": write for name, write in headers(("about",)).items()} | descriptions() | contents()
    return {f"{name}.safetensors": write for name, write in made.items()}


HARMLESS = (
    "classes-half.*", "size-half.*", "size-true.*", "size-1.*", "size-4096.*", "more-in-shape.*", "names-*",
    "*floats.*", "*trues.*", "widths-texts.*",
    "blocks-of-true.*", "widths-digits-in-a-dict.*", "widths-a-text.*", "about-*-inside.*", "about-spaces.*",
    "about-classes-twice.*", "one-*",
    "running_var-negative.*", "running_var-huge.*", "counters-more.*",
)  # fmt: skip


# ResNet-50 checkpoints. A complete one has 94 MB, so these are refused before reading tensors, or share numbers.


@cache
def _resnet_shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(value.shape) for key, value in resnet50(num_classes=3).state_dict().items()}


def _checkpoint(make: Callable[[], Any], zipped: bool = True) -> Write:
    def content() -> Any:
        state = make()
        if isinstance(state, dict):
            state = {f"module.model.{key}" if isinstance(key, str) else key: value for key, value in state.items()}
        return {"model": state, "epoch": 5}

    return parts.saved(content, zipped)


def _shared(kind: torch.dtype = torch.float32, **others: Any) -> dict[str, Any]:
    """All tensors of a ResNet-50 with the right shapes, sharing the numbers of the largest one."""
    base = torch.full([2048 * 512 * 9], 0.01).to(kind)
    found = {k: base[: torch.Size(s).numel()].view(s) for k, s in _resnet_shapes().items() if not k.endswith("tracked")}
    return {**found, **others}


def _small(**others: Any) -> dict[str, Any]:
    """All names of a ResNet-50, each with one number."""
    return {**{key: torch.zeros(1) for key in _resnet_shapes()}, "fc.bias": torch.zeros(3), **others}


def checkpoints() -> Table:
    """ResNet checkpoints: a huge size implied by one tensor, and wrong shapes, names and dtypes."""
    made: Table = {}
    heads: dict[str, Callable[[], Any]] = {
        "100000": lambda: torch.zeros(100_000), "1000": lambda: torch.zeros(1000), "1": lambda: torch.zeros(1),
        "0": lambda: torch.zeros(0),
        "scalar": lambda: torch.zeros([]), "matrix": lambda: torch.zeros(3, 3),
        "expanded": lambda: torch.zeros(1).expand(100_000),
        "10000000": lambda: torch.zeros(10_000_000), "bytes": lambda: torch.zeros(100_000, dtype=torch.uint8),
        "number": lambda: 3,
        "text": lambda: "x", "nan": lambda: torch.full([3], torch.nan), "list": lambda: [0.0] * 3,
        "50MB-of-bytes": lambda: torch.zeros(50_000_000, dtype=torch.uint8),
    }  # fmt: skip
    for kind, head in heads.items():
        made[f"head-alone-{kind}"] = _checkpoint(lambda head=head: {"fc.bias": head()})
        made[f"head-alone-old-{kind}"] = _checkpoint(lambda head=head: {"fc.bias": head()}, False)
        made[f"head-{kind}-and-all-names"] = _checkpoint(lambda head=head: _small(**{"fc.bias": head()}))
    made["head-and-weight-100000"] = _checkpoint(
        lambda: {"fc.bias": torch.zeros(100_000), "fc.weight": torch.zeros(1).expand(100_000, 2048)}
    )
    made["one-number-each"] = _checkpoint(_small)
    made["all-on-one-storage"] = _checkpoint(_shared)
    made["all-on-one-storage-old"] = _checkpoint(_shared, False)
    made["all-on-one-storage-of-halves"] = _checkpoint(lambda: _shared(torch.float16))
    made["all-on-one-storage-of-bytes"] = _checkpoint(lambda: _shared(torch.uint8))
    made["all-expanded"] = _checkpoint(lambda: {k: torch.zeros([]).expand(s) for k, s in _resnet_shapes().items()})
    made["all-missing"] = _checkpoint(dict)
    made["one-more"] = _checkpoint(lambda: _small(**{"more.weight": torch.zeros(1)}))
    made["30MB-of-bools-more"] = _checkpoint(lambda: _small(more=torch.zeros(30_000_000, dtype=torch.bool)))
    made["150000-layers"] = _checkpoint(
        lambda: _small(**dict.fromkeys((f"layer{i}.0.conv1.weight" for i in range(150_000)), torch.zeros(1)))
    )
    made["399-aliases-of-1MB"] = _checkpoint(
        lambda: _small(**dict.fromkeys((f"a{i}" for i in range(399)), torch.zeros(250_000)))
    )
    made["empty-shapes"] = _checkpoint(lambda: {k: torch.zeros([0 for _ in s]) for k, s in _resnet_shapes().items()})
    made["numbers-as-keys"] = _checkpoint(
        lambda: {1: torch.zeros(1), 2.5: torch.zeros(1), None: torch.zeros(1), (1, 2): torch.zeros(1)}
    )
    made["prefix-twice"] = _checkpoint(lambda: {f"module.model.{k}": v for k, v in _small().items()})
    made["prefix-alone"] = _checkpoint(lambda: {"": torch.zeros(3)})
    made["two-networks"] = parts.saved(
        lambda: {
            "model": {"module.model.fc.bias": torch.zeros(3)},
            "state_dict": {"module.model.fc.bias": torch.zeros(100_000)},
        }
    )
    for kind, value in (
        ("list", []),
        ("none", None),
        ("number", 5),
        ("text", "x"),
        ("tensor", torch.zeros(3)),
        ("doubled", Raw(parts.doubled(b")", 60))),
    ):
        made[f"model-is-{kind}"] = parts.saved(lambda value=value: {"model": value})
        made[f"content-is-{kind}"] = parts.saved(lambda value=value: value)
        made[f"layer-is-{kind}"] = _checkpoint(lambda value=value: _small(**{"layer1.0.conv1.weight": value}))
    for kind, nasty in NASTY.items():
        made[f"layer-{kind}"] = _checkpoint(lambda n=nasty: _small(**{n: torch.zeros(1)}))
        made[f"entry-{kind}"] = parts.saved(lambda n=nasty: {n: {n: torch.zeros(1)}})
    for what in (
        "os.system",
        "builtins.eval",
        "dill._dill._create_function",
        "dill._dill._import_module",
        "numpy.core.multiarray._reconstruct",
    ):
        owner, _, attribute = what.rpartition(".")
        code = Raw(call(name(owner, attribute), text("touch executed")))
        made[f"beside-{what}"] = parts.saved(
            lambda code=code: {"model": {"module.model.fc.bias": torch.zeros(3)}, "args": code}
        )
        made[f"layer-{what}"] = _checkpoint(lambda code=code: _small(**{"conv1.weight": code}))
        made[f"model-{what}"] = parts.saved(lambda code=code: {"model": code})
        state = Raw(code.code + mapping([(text("module.model.fc.bias"), code.code)]) + b"b")
        made[f"built-{what}"] = parts.saved(lambda state=state: {"model": state})
        items = Raw(code.code + text("module.model.fc.bias") + code.code + b"s")
        made[f"items-{what}"] = parts.saved(lambda items=items: {"model": items})
    return {f"{name}.ckpt": write for name, write in made.items()}
