"""Network pickles of NVIDIA's PyTorch programs: StyleGAN2-ADA, and StyleGAN2 from the StyleGAN3 repository.

Their modules are read as inert records of attributes, parameters and buffers. Each attribute that affects the pictures
is compared with this project's network, layer by layer: it is adopted, or the file is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ilo.priors.stylegan2 import ops
from ilo.priors.stylegan2.checkpoint import GeneratorDescription
from ilo.priors.stylegan2.network import Config
from ilo.text.words import shown
from ilo.weights.budget import Budget
from ilo.weights.lazy import Extent, LazyTensor, ReadError, Storage
from ilo.weights.pickled import TENSORS, Constructor, Record, inert
from ilo.weights.torchfile import read_torch
from ilo.weights.unpickle import run

FORMAT = "a network pickle of NVIDIA's StyleGAN2 programs for PyTorch"
DEEPEST = 8  # maximum nesting depth of modules
TOLERANCE = 1e-5  # relative tolerance for gains


def describe(data: Extent) -> GeneratorDescription:
    """Describe the generator in a network pickle (its `G_ema`).

    Raises:
        ReadError: the file is damaged, refers to anything that those programs do not use, exceeds the budget, or
            holds no generator.
    """
    content = run(data, 0, NAMES, Budget.of(data))[0]
    network = content.get("G_ema") if isinstance(content, dict) else content
    if not isinstance(network, Record) or not isinstance(network.state, dict):
        raise ReadError("it has no generator G_ema")
    found = GeneratorDescription(FORMAT, len(data))
    modules = dict(_modules("", network, set()))
    for path, module in modules.items():
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _dict(module.state.get(kind)).items():
                if isinstance(tensor, LazyTensor):
                    found.tensors[f"{path}{name}"] = tensor
    if network.name != "Generator" or any(path.startswith("synthesis.L") for path in modules):
        raise ReadError(f"its network is {_kind(network, modules)}; only StyleGAN2 generators are supported")
    found.problems = [problem for path, module in modules.items() for problem in _differences(path, module)]
    _configure(found, modules)
    found.compare_network(optional=["mapping.w_avg"])
    return found


def _storage(arguments: tuple[Any, ...], budget: Budget) -> Storage:
    (content,) = arguments
    if not isinstance(content, Extent):
        raise ReadError("a tensor's bytes are missing")
    budget.spend("pickles")
    found = read_torch(content, budget)
    if not isinstance(found, Storage):
        raise ReadError("a tensor's bytes hold something else")
    return found


def _persistent(arguments: tuple[Any, ...], budget: Budget) -> Record:
    """A module whose class source is stored in the file; the source is ignored."""
    (meta,) = arguments
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise ReadError("the description of a module is not valid")
    return Record(meta["class_name"], (), meta.get("state"))


NAMES: dict[str, Constructor] = {
    **TENSORS,
    "torch.storage._load_from_bytes": _storage,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.util.EasyDict": TENSORS["collections.OrderedDict"],
    # Used by StyleGAN3's networks; allowed so that the error message can say what they are.
    **{f"numpy.{core}.multiarray._reconstruct": inert("numpy.ndarray") for core in ("core", "_core")},
    "numpy.ndarray": inert("numpy.ndarray"),
}


def _dict(value: Any) -> dict[str, Any]:
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}


def _modules(path: str, module: Any, seen: set[int]) -> Iterator[tuple[str, Record]]:
    """Iterate over all modules with their paths, which end in a dot. Raises `ReadError` if a module is shared."""
    if not isinstance(module, Record) or not isinstance(module.state, dict) or path.count(".") > DEEPEST:
        raise ReadError("its modules do not fit together")
    if id(module) in seen:
        raise ReadError("a module is part of two others")
    seen.add(id(module))
    yield path, module
    for name, child in _dict(module.state.get("_modules")).items():
        if child is not None:
            yield from _modules(f"{path}{name}.", child, seen)


def _kind(network: Record, modules: dict[str, Record]) -> str:
    return "a StyleGAN3" if any(path.startswith("synthesis.L") for path in modules) else f"called {shown(network.name)}"


# Layer class → attribute → value that this project's network implements.
_FIXED: dict[str, dict[str, Any]] = {
    "SynthesisBlock": {"architecture": "skip", "img_channels": 3},
    "SynthesisLayer": {"activation": "lrelu", "use_noise": True, "act_gain": ops.GAIN, "padding": 1},
    "FullyConnectedLayer": {},
    "ToRGBLayer": {},
    "MappingNetwork": {"c_dim": 0},
    "SynthesisNetwork": {},
    "Generator": {"c_dim": 0},
}


def _differences(path: str, module: Record) -> Iterator[str]:
    """Sentences on every difference between a layer's function and this project's."""
    where = path.removesuffix(".") or "the generator"
    if module.name not in _FIXED:
        yield f"{where} is a {shown(module.name)}, which StyleGAN2's generator does not have"
        return
    wanted = dict(_FIXED[module.name])
    if module.name == "SynthesisLayer":
        wanted["up"] = 2 if path.endswith(".conv0.") else 1
    if module.name == "FullyConnectedLayer":
        mapping = path.startswith("mapping.")
        gain = module.state.get("bias_gain")
        wanted |= {"activation": "lrelu"} if mapping else {"activation": "linear", "bias_gain": 1}
        wanted |= {"weight_gain": _fan_gain(module) * gain if type(gain) in (int, float) else None}
    if module.name == "ToRGBLayer":
        wanted["weight_gain"] = _fan_gain(module)
    for name, value in wanted.items():
        given = module.state.get(name)
        if not _alike(given, value):
            yield f"{where} has {name} {shown(given)}; the studio's network has {shown(value)}"
    kernel = _dict(module.state.get("_buffers")).get("resample_filter")
    if kernel is not None and not is_usual(kernel):
        yield f"{where} resamples with a filter other than [1, 3, 3, 1]"


def _fan_gain(module: Record) -> float:
    weight = _dict(module.state.get("_parameters")).get("weight")
    fan = math.prod(weight.shape[1:]) if isinstance(weight, LazyTensor) else 0
    return 1 / math.sqrt(fan) if fan else 0.0


def _alike(given: Any, wanted: Any) -> bool:
    """Whether two plain values are equal, numbers approximately. False for containers, which may be recursive."""
    if not isinstance(given, (int, float, str, type(None))):
        return False
    if isinstance(given, (bool, str, type(None))) or isinstance(wanted, (bool, str, type(None))):
        return type(given) is type(wanted) and given == wanted
    return isinstance(wanted, (int, float)) and math.isclose(given, wanted, rel_tol=TOLERANCE)


def is_usual(kernel: Any, gain: float = 1.0) -> bool:
    """Whether a file's tensor is StyleGAN2's resampling filter [1, 3, 3, 1], times a gain."""
    usual = ops.binomial_filter([1, 3, 3, 1]) * gain
    if not isinstance(kernel, LazyTensor) or kernel.shape != usual.shape:
        return False
    return bool((kernel.read().float() - usual).abs().max() <= TOLERANCE)


def _configure(found: GeneratorDescription, modules: dict[str, Record]) -> None:
    """Set the configuration from shapes and the layers' common attributes, or add a problem."""
    layers = [module for module in modules.values() if module.name in ("SynthesisLayer", "ToRGBLayer")]
    clamp = _common(found, "conv_clamp", layers)
    mapping = [module for path, module in modules.items() if re.fullmatch(r"mapping\.fc[0-9]{1,2}\.", path)]
    multiplier = _common(found, "bias_gain", mapping)
    try:
        found.config = infer(found.tensors, clamp, 0.01 if multiplier is None else multiplier)
    except ValueError as error:
        found.problems.insert(0, str(error))


def _common(found: GeneratorDescription, name: str, layers: list[Record]) -> Any:
    values = [layer.state.get(name) for layer in layers]
    if any(not _alike(value, values[0]) for value in values):
        found.problems.append(f"its layers differ in {name}; the studio's network has one value for all")
    return values[0] if values else None


def infer(tensors: dict[str, LazyTensor], clamp: float | None, lr_multiplier: float = 0.01) -> Config:
    """Infer a generator's configuration from the shapes of its tensors, under the official names.

    Raises:
        ValueError: the shapes are not those of a StyleGAN2 generator; the message says why.
    """
    if "mapping.embed.weight" in tensors:
        raise ReadError("it is a network with classes; only unconditional generators are supported")
    blocks = {
        int(hit[1]) for key in tensors if (hit := re.fullmatch(r"synthesis\.b([1-9][0-9]{0,3})\.conv1\.weight", key))
    }
    layers = sum(1 for key in tensors if re.fullmatch(r"mapping\.fc(0|[1-9][0-9]?)\.weight", key))
    first, last = tensors.get("mapping.fc0.weight"), tensors.get(f"mapping.fc{layers - 1}.weight")
    if not blocks or first is None or last is None or not len(first.shape) == len(last.shape) == 2:
        raise ReadError("it holds no StyleGAN2 generator")
    shapes = {size: tensors[f"synthesis.b{size}.conv1.weight"].shape for size in sorted(blocks)}
    return Config(
        z_dim=first.shape[1],
        w_dim=last.shape[0],
        img_resolution=max(blocks),
        channels={size: shape[0] if shape else 0 for size, shape in shapes.items()},
        mapping_layers=layers,
        mapping_lr_multiplier=lr_multiplier,
        conv_clamp=clamp,
    )
