"""Checkpoints of rosinality's StyleGAN2 for PyTorch, with tensors renamed to the official names.

A state dict has only tensors. The blur kernels are among them and are compared with the usual ones. The mapping
network's learning rate multiplier is not in the file. It is 0.01 in all published files, whose initial weights are
therefore 100 times as large as usual; a file with smaller weights is refused.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from ilo.priors.stylegan2 import ops
from ilo.priors.stylegan2.checkpoint import GeneratorDescription
from ilo.priors.stylegan2.official import infer, is_usual
from ilo.text.words import shown
from ilo.weights.lazy import LazyTensor, ReadError

FORMAT = "a checkpoint of rosinality's StyleGAN2 for PyTorch"
# Tensor of a layer → its official name, and its additional axes of length 1.
_LAYER = {
    "conv.weight": ("weight", (0,)),
    "conv.modulation.weight": ("affine.weight", ()),
    "conv.modulation.bias": ("affine.bias", ()),
    "noise.weight": ("noise_strength", (0,)),
    "activate.bias": ("bias", ()),
    "bias": ("bias", (0, 2, 3)),  # bias of a ToRGB
}
_NUMBER = "0|[1-9][0-9]?"  # number of a layer, without leading zeros
_KERNELS = ("conv.blur.kernel", "upsample.kernel")
LEAST_SPREAD = 30.0  # minimum deviation of the first mapping weights: 100 for a multiplier of 0.01, 10 for 0.1
_UPSAMPLING = 4.0  # gain of an up-sampling kernel


def describe(content: dict[str, Any], size: int) -> GeneratorDescription:
    """Describe the generator (`g_ema`) in a checkpoint.

    Args:
        content: content of the file, whose tensors are not read yet.
        size: size of the file in bytes.
    """
    found = GeneratorDescription(FORMAT, size)
    state = content["g_ema"]
    if not isinstance(state, dict) or not all(isinstance(value, LazyTensor) for value in state.values()):
        found.problems.append("its g_ema is not the state dict of a network")
        return found
    for key, tensor in state.items():
        try:
            _add(found, key, tensor)
        except ReadError as error:
            found.problems.append(f"{shown(key)}: {error}")
    average = content.get("latent_avg")
    if isinstance(average, LazyTensor) and average.shape:
        leading = range(len(average.shape) - 1)
        found.tensors["mapping.w_avg"] = average.without(*leading)
    try:
        found.config = infer(found.tensors, None)
    except ValueError as error:
        found.problems.insert(0, str(error))
    else:
        _complete(found, found.config.channels)
    found.compare_network(optional=["mapping.w_avg"])
    if not found.problems and found.tensors["mapping.fc0.weight"].read().float().std() < LEAST_SPREAD:
        found.problems.append(
            "its mapping network has a learning rate multiplier other than 0.01, which the file does not state"
        )
    return found


def _add(found: GeneratorDescription, key: str, tensor: LazyTensor) -> None:
    """Add a tensor of the state dict under its official name; a blur kernel is only compared."""
    name, axes = _renamed(key)
    if name:
        found.tensors[name] = tensor.without(*axes)
    elif not is_usual(tensor, _UPSAMPLING):
        raise ReadError("it is a filter other than [1, 3, 3, 1]")


def _renamed(key: Any) -> tuple[str, tuple[int, ...]]:
    """The official name (empty for a kernel), and the axes to remove."""
    key = key if isinstance(key, str) else ""
    if hit := re.fullmatch(rf"style\.({_NUMBER})\.(weight|bias)", key):
        return f"mapping.fc{int(hit[1]) - 1}.{hit[2]}", ()
    if key == "input.input":
        return "synthesis.b4.const", (0,)
    if hit := re.fullmatch(rf"noises\.noise_({_NUMBER})", key):
        number = int(hit[1])
        layer = "b4.conv1" if number == 0 else f"{_block((number - 1) // 2)}.conv{(number - 1) % 2}"
        return f"synthesis.{layer}.noise_const", (0, 1)
    hit = re.fullmatch(rf"(conv1|to_rgb1|convs\.({_NUMBER})|to_rgbs\.({_NUMBER}))\.(.+)", key)
    if not hit or hit[4] not in (*_LAYER, *_KERNELS):
        raise ReadError("it is not part of a generator")
    part, convolution, picture, rest = hit.groups()
    if rest in _KERNELS:
        return "", ()
    if convolution is not None:
        layer = f"{_block(int(convolution) // 2)}.conv{int(convolution) % 2}"
    elif picture is not None:
        layer = f"{_block(int(picture))}.torgb"
    else:
        layer = "b4.conv1" if part == "conv1" else "b4.torgb"
    name, axes = _LAYER[rest]
    return f"synthesis.{layer}.{name}", axes


def _block(number: int) -> str:
    """Official name of block `number` of those above 4 px, counted from 0."""
    if number > 7:
        raise ReadError("it belongs to a block above 1024 pixels")
    return f"b{8 * 2**number}"


def _complete(found: GeneratorDescription, sizes: dict[int, int]) -> None:
    """Add the other tensors of the official state: the filters, and noise maps if an older file has none."""
    kernel = ops.binomial_filter([1, 3, 3, 1])
    for size in sizes:
        block = f"synthesis.b{size}"
        found.filled[f"{block}.resample_filter"] = kernel.clone()
        for layer in ("conv1",) if size == 4 else ("conv0", "conv1"):
            found.filled[f"{block}.{layer}.resample_filter"] = kernel.clone()
            if f"{block}.{layer}.noise_const" not in found.tensors:
                found.filled[f"{block}.{layer}.noise_const"] = torch.zeros(size, size)
