"""Published generators: out of the official network pickles and rosinality's checkpoints, into the official names.

What is taken are tensors and a few plain numbers. The shapes say what network it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilo.stylegan2 import ops
from ilo.stylegan2.checkpoint import Checkpoint, CheckpointError
from ilo.stylegan2.network import Config
from ilo.torchfile import mapped, read_torch
from ilo.unpickle import (
    MOST_OPCODES,
    MOST_TEXT,
    TENSORS,
    Constructor,
    LazyTensor,
    Record,
    Storage,
    UnpickleError,
    run,
)

DEEPEST = 8  # modules inside modules
MOST_NUMBERS = 400_000_000  # of one network; the largest published one has 31 million


def read(path: Path) -> Checkpoint:
    """The generator in an official `.pkl` (its `G_ema`) or a rosinality `.pt` (its `g_ema`).

    Raises:
        CheckpointError: the file is missing, damaged, names anything but a network's parts, or holds no generator.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.name}: there is no such weights file. Check the name, or use faces64.")
    try:
        view = mapped(path)
        official = path.suffix == ".pkl"
        tensors, clamp = _official(_read_official(view)) if official else (_rosinality(read_torch(view)), None)
        config = infer(tensors, clamp)
    except (UnpickleError, OSError) as error:
        raise CheckpointError(f"{path.name}: {error}.") from None
    return Checkpoint(config, tensors, {})


def infer(tensors: dict[str, Tensor], clamp: float | None) -> Config:
    """The configuration of a generator from the shapes of its tensors.

    Raises:
        UnpickleError: they are not those of a StyleGAN2 generator.
    """
    try:
        sizes = sorted({int(found[1]) for key in tensors if (found := re.match(r"synthesis\.b(\d+)\.conv1\.", key))})
        layers = sum(1 for key in tensors if re.fullmatch(r"mapping\.fc\d+\.weight", key))
        if "mapping.embed.weight" in tensors:
            raise UnpickleError("it is a network with classes; only unconditional generators are supported")
        if not sizes or sizes != [4 * 2**k for k in range(len(sizes))] or not 8 <= sizes[-1] <= 1024 or not layers:
            raise UnpickleError("it holds no StyleGAN2 generator")
        return Config(
            z_dim=tensors["mapping.fc0.weight"].shape[1],
            w_dim=tensors["mapping.fc0.weight"].shape[0],
            img_resolution=sizes[-1],
            channels={size: tensors[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes},
            mapping_layers=layers,
            conv_clamp=clamp,
        )
    except (KeyError, IndexError) as error:
        raise UnpickleError(f"it lacks a part of a StyleGAN2 generator ({error})") from None


def _read(tensors: dict[str, LazyTensor]) -> dict[str, Tensor]:
    """The numbers of all tensors, as float32."""
    total = 0
    for tensor in tensors.values():
        total += int(torch.Size(tensor.shape).numel())
        if total > MOST_NUMBERS:
            raise UnpickleError("it holds more numbers than any generator")
    return {key: tensor.read().float() for key, tensor in tensors.items()}


def _storage(arguments: tuple[Any, ...]) -> Storage:
    (content,) = arguments
    if not isinstance(content, memoryview):
        raise UnpickleError("a tensor's bytes are missing")
    found = read_torch(content)
    if not isinstance(found, Storage):
        raise UnpickleError("a tensor's bytes hold something else")
    return found


def _persistent(arguments: tuple[Any, ...]) -> Record:
    (meta,) = arguments
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise UnpickleError("a module is not described as one")
    return Record(meta["class_name"], (), meta.get("state"))


OFFICIAL: dict[str, Constructor] = {
    **TENSORS,
    "torch.storage._load_from_bytes": _storage,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.util.EasyDict": TENSORS["collections.OrderedDict"],
    **{
        name: lambda arguments, name=name: Record(name, arguments)  # type: ignore[misc]
        for name in ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype")
    },
}


def _read_official(view: memoryview) -> Any:
    """A network pickle of the official StyleGAN programs: dicts, `Record`s for modules, `LazyTensor`s.

    Raises:
        UnpickleError: it names anything else than those programs do, is damaged, or wants absurd amounts.
    """
    return run(view, 0, OFFICIAL, [MOST_OPCODES, MOST_TEXT])[0]


def _official(content: Any) -> tuple[dict[str, Tensor], float | None]:
    network = content.get("G_ema") if isinstance(content, dict) else content
    if not isinstance(network, Record) or network.name != "Generator" or not isinstance(network.state, dict):
        raise UnpickleError("it has no generator G_ema")
    tensors = dict(_module("", network, 0))
    options = network.state.get("_init_kwargs")
    options = options.get("synthesis_kwargs", options) if isinstance(options, dict) else {}
    clamp = options.get("conv_clamp") if isinstance(options, dict) else None
    return _read(tensors), float(clamp) if isinstance(clamp, (int, float)) else None


def _module(prefix: str, module: Any, depth: int) -> Iterator[tuple[str, LazyTensor]]:
    """Names and tensors of a module and of those inside it."""
    if not isinstance(module, Record) or not isinstance(module.state, dict) or depth > DEEPEST:
        raise UnpickleError("its modules do not fit together")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _dict(module.state.get(kind)).items():
            if isinstance(tensor, LazyTensor):
                yield f"{prefix}{name}", tensor
    for name, child in _dict(module.state.get("_modules")).items():
        yield from _module(f"{prefix}{name}.", child, depth + 1)


def _dict(value: Any) -> dict[str, Any]:
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}


# rosinality's layer → the official one, apart from the number of the block.
_LAYER = {
    "conv.weight": ("weight", lambda t: t[0]),
    "conv.modulation.weight": ("affine.weight", lambda t: t),
    "conv.modulation.bias": ("affine.bias", lambda t: t),
    "noise.weight": ("noise_strength", lambda t: t.reshape([])),
    "activate.bias": ("bias", lambda t: t),
    "bias": ("bias", lambda t: t.flatten()),  # of a ToRGB
}
_IGNORED = ("conv.blur.kernel", "upsample.kernel")  # the same filter in every published network


def _rosinality(content: Any) -> dict[str, Tensor]:
    state = _dict(content.get("g_ema") if isinstance(content, dict) else None)
    if not state or not all(isinstance(value, LazyTensor) for value in state.values()):
        raise UnpickleError("it has no generator g_ema")
    given = _read(state)
    tensors: dict[str, Tensor] = {}
    for key, tensor in given.items():
        try:
            renamed = _renamed(key, tensor)
        except (IndexError, RuntimeError) as error:
            raise UnpickleError(f"{key} has the shape {list(tensor.shape)} ({error})") from None
        if renamed is not None:
            tensors[renamed[0]] = renamed[1]
    kernel = ops.binomial_filter([1, 3, 3, 1])
    layers = [key.removesuffix(".noise_strength") for key in tensors if key.endswith(".noise_strength")]
    for layer in layers:
        size = int(layer.split(".")[1][1:])
        tensors[f"{layer}.resample_filter"] = kernel.clone()
        tensors.setdefault(f"{layer}.noise_const", torch.zeros(size, size))
        tensors[f"synthesis.b{size}.resample_filter"] = kernel.clone()
    average = content.get("latent_avg")
    width = tensors["mapping.fc0.bias"].shape[0] if "mapping.fc0.bias" in tensors else 0
    tensors["mapping.w_avg"] = (
        average.read().float().flatten() if isinstance(average, LazyTensor) else torch.zeros(width)
    )
    return tensors


def _renamed(key: str, tensor: Tensor) -> tuple[str, Tensor] | None:
    """A tensor of rosinality's generator under its official name; None for what is not needed."""
    if found := re.fullmatch(r"style\.(\d+)\.(weight|bias)", key):
        return f"mapping.fc{int(found[1]) - 1}.{found[2]}", tensor
    if key == "input.input":
        return "synthesis.b4.const", tensor[0]
    if found := re.fullmatch(r"noises\.noise_(\d+)", key):
        number = int(found[1])
        layer = "b4.conv1" if number == 0 else f"b{8 * 2 ** ((number - 1) // 2)}.conv{(number - 1) % 2}"
        return f"synthesis.{layer}.noise_const", tensor[0, 0]
    found = re.fullmatch(r"(conv1|to_rgb1|convs\.(\d+)|to_rgbs\.(\d+))\.(.+)", key)
    if not found:
        raise UnpickleError(f"{key} is no part of a generator")
    part, convolution, picture, rest = found.groups()
    if rest in _IGNORED:
        return None
    if rest not in _LAYER:
        raise UnpickleError(f"{key} is no part of a generator")
    if convolution is not None:
        layer = f"b{8 * 2 ** (int(convolution) // 2)}.conv{int(convolution) % 2}"
    elif picture is not None:
        layer = f"b{8 * 2 ** int(picture)}.torgb"
    else:
        layer = "b4.conv1" if part == "conv1" else "b4.torgb"
    name, change = _LAYER[rest]
    return f"synthesis.{layer}.{name}", change(tensor)
