"""Checkpoints of rosinality's StyleGAN2 for PyTorch: what it calls a layer, and what the official programs call it.

A state dict has tensors alone. Of what changes pictures, the blur kernels are among them and are compared. The
learning rate multiplier of the mapping network is nowhere in the file: it is 0.01 in every published one, whose weights
are drawn a hundred times as large as usual; a file whose weights are smaller is refused.
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
# The layer's tensor → its official name, and the axes of length 1 that it has besides.
_LAYER = {
    "conv.weight": ("weight", (0,)),
    "conv.modulation.weight": ("affine.weight", ()),
    "conv.modulation.bias": ("affine.bias", ()),
    "noise.weight": ("noise_strength", (0,)),
    "activate.bias": ("bias", ()),
    "bias": ("bias", (0, 2, 3)),  # of a ToRGB
}
_NUMBER = "0|[1-9][0-9]?"  # of a layer, written in one way only
_KERNELS = ("conv.blur.kernel", "upsample.kernel")
LEAST_SPREAD = 30.0  # of the mapping network's first weights: 100 for a multiplier of 0.01, 10 for 0.1
_UPSAMPLING = 4.0  # gain of a kernel that fills in zeros


def describe(content: dict[str, Any], size: int) -> GeneratorDescription:
    """The generator (`g_ema`) of what a checkpoint holds.

    Args:
        content: of the file, tensors being in it still.
        size: the file's bytes.
    """
    found = GeneratorDescription(FORMAT, size)
    state = content["g_ema"]
    if not isinstance(state, dict) or not all(isinstance(value, LazyTensor) for value in state.values()):
        found.problems.append("its g_ema is no state dict of a network")
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
            "its mapping network has another learning rate multiplier than 0.01, which it does not say"
        )
    return found


def _add(found: GeneratorDescription, key: str, tensor: LazyTensor) -> None:
    """Take a tensor of the state dict under its official name, or compare it."""
    name, axes = _renamed(key)
    if name:
        found.tensors[name] = tensor.without(*axes)
    elif not is_usual(tensor, _UPSAMPLING):
        raise ReadError("it is another filter than [1, 3, 3, 1]")


def _renamed(key: Any) -> tuple[str, tuple[int, ...]]:
    """The official name, empty for a kernel, and the axes that are left out."""
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
        raise ReadError("it is no part of a generator")
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
    """Of the blocks above 4 px, counted from 0."""
    if number > 7:
        raise ReadError("it belongs to a block of more than 1024 pixels")
    return f"b{8 * 2**number}"


def _complete(found: GeneratorDescription, sizes: dict[int, int]) -> None:
    """Add what the official state has besides: the filters, and noise maps where an older file has none."""
    kernel = ops.binomial_filter([1, 3, 3, 1])
    for size in sizes:
        block = f"synthesis.b{size}"
        found.filled[f"{block}.resample_filter"] = kernel.clone()
        for layer in ("conv1",) if size == 4 else ("conv0", "conv1"):
            found.filled[f"{block}.{layer}.resample_filter"] = kernel.clone()
            if f"{block}.{layer}.noise_const" not in found.tensors:
                found.filled[f"{block}.{layer}.noise_const"] = torch.zeros(size, size)
