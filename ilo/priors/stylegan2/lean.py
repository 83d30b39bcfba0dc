"""One layer of StyleGAN2 in as few operations as possible, for GPUs, where each operation costs a launch.

It computes what `ops.frozen_layer` does, to rounding: constant factors are multiplied into the weights, and the style's
affine layer belongs to it. On a CPU, whose results are recorded bit for bit, `ops.frozen_layer` stays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ilo.priors.stylegan2.ops import EPSILON, GAIN, SLOPE, FrozenWeights


class LeanWeights(NamedTuple):
    """A frozen layer's tensors with all constant factors multiplied in."""

    frozen: FrozenWeights
    affine: Tensor  # [I, w_dim], from w to the style
    affine_bias: Tensor  # [I]
    half_energy: Tensor  # [O, I], ½·Σ W² over the taps: the halves make the gain √2 part of the demodulation
    floor: Tensor  # [1], ε in the units of `half_energy`
    strength: Tensor  # [], of the noise, times √2


def lean_layer(frozen: FrozenWeights, affine: Tensor, affine_bias: Tensor, strength: Tensor) -> LeanWeights:
    """Prepare a layer for `layer`; `affine` and `affine_bias` include their gains."""
    half = frozen.energy / 2
    floor = half.new_full([1], EPSILON / frozen.gain**2 / 2)
    return LeanWeights(frozen, affine.detach(), affine_bias.detach(), half, floor, GAIN * strength.detach())


class _LeanLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, noise: Tensor | None, weights: LeanWeights) -> Tensor:
        f = weights.frozen
        style = torch.addmm(weights.affine_bias, w, weights.affine.t())
        energy = torch.addmm(weights.floor, style.square(), weights.half_energy.t())
        scale = energy.rsqrt()
        modulated = x * style[:, :, None, None].to(x.dtype)
        convolved = f.convolve(modulated)
        y = torch.addcmul(f.bias, convolved, scale[:, :, None, None].to(x.dtype))
        if noise is not None:
            y.addcmul_(noise.to(x.dtype), weights.strength.to(x.dtype))
        F.leaky_relu_(y, SLOPE)
        ctx.weights, ctx.noisy = weights, noise is not None
        ctx.save_for_backward(x, style, energy, scale, convolved, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, style, energy, scale, convolved, y = ctx.saved_tensors
        weights: LeanWeights = ctx.weights
        f = weights.frozen
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        to_noise = None
        if ctx.noisy and ctx.needs_input_grad[2]:
            to_noise = grad.sum(1, keepdim=True, dtype=style.dtype) * weights.strength
        grad = grad * scale[:, :, None, None].to(x.dtype)
        to_scale = (grad * convolved).sum((2, 3), dtype=style.dtype)  # times the scale
        grad = f.convolve_back(grad)
        to_style = (grad * x).sum((2, 3), dtype=style.dtype)
        # scale = (Σ s²·½E + ε)^(−1/2), so ∂scale_o/∂s_i = −scale_o·s_i·½E_oi / (Σ s²·½E + ε).
        to_style = torch.addcmul(to_style, style, (to_scale / energy) @ weights.half_energy, value=-1)
        to_w = to_style @ weights.affine if ctx.needs_input_grad[1] else None
        to_x = grad * style[:, :, None, None].to(x.dtype) if ctx.needs_input_grad[0] else None
        return to_x, to_w, to_noise, None


def layer(x: Tensor, w: Tensor, noise: Tensor | None, weights: LeanWeights) -> Tensor:
    """The layer's output [B, O, H, W], with gradients only for x [B, I, H, W], w [B, w_dim] and noise [B, 1, H, W]."""
    return _LeanLayer.apply(x, w, noise, weights)
