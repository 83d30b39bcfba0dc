"""StyleGAN2 operations that PyTorch lacks: up-sampling, modulated convolution, scaled activation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SLOPE = 0.2  # slope of the leaky ReLU
GAIN = math.sqrt(2)  # gain that keeps the variance of the leaky ReLU's output
EPSILON = 1e-8


def binomial_filter(taps: list[int], device: torch.device | None = None) -> Tensor:
    """Outer product [n, n] of `taps`, with sum 1; StyleGAN2 uses [1, 3, 3, 1]."""
    f = torch.tensor(taps, dtype=torch.float32, device=device)
    f = torch.outer(f, f)
    return f / f.sum()


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """[B, C, H, W] → [B, C, 2H, 2W]: zeros are inserted between the samples, then filtered by `kernel` [4, 4], gain 4.

    A depthwise transposed convolution does both at once.
    """
    weight = (kernel * 4).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=x.shape[1])


def smooth(x: Tensor, kernel: Tensor, gain: float) -> Tensor:
    """Filter with `kernel` [4, 4] times `gain`, after padding one zero: [B, C, H, W] → [B, C, H−1, W−1]."""
    weight = (kernel * gain).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, weight, padding=1, groups=x.shape[1])


def upsampling_matrix(kernel: Tensor, size: int) -> Tensor:
    """Matrix U [2·size, size] with upsample(x) = U x Uᵀ; much faster than `upsample` for few channels."""
    taps = kernel.sum(0)[None, None] * 2  # the kernel [n, n] is an outer product with sum 1
    identity = torch.eye(size, dtype=kernel.dtype, device=kernel.device)[:, None]
    return F.conv_transpose1d(identity, taps, stride=2, padding=1)[:, 0].t().contiguous()


def modulated_layer(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    gain: float,
    kernel: Tensor | None,
    noise: Tensor | None,
    bias: Tensor,
) -> Tensor:
    """√2 · leaky_relu(d·(W ∗ (s·x)) + noise + bias) with d = 1/√(Σ (s·W)²): one layer of StyleGAN2.

    Scaling the activations is equivalent to scaling the weights (Karras et al. 2020, eqs. 1–3), but uses the same
    weights for the whole batch. The gain √2 moves inside because the leaky ReLU is positively homogeneous.

    Args:
        x: activations [B, I, H, W].
        weight: weights W [O, I, 3, 3], without the equalised learning rate's `gain` 1/√(9·I).
        style: scales s [B, I].
        kernel: filter [4, 4] for up-sampling by two; None: no up-sampling.
        noise: noise map [B, 1, H, W] or None.
        bias: bias [O].
    """
    x = x * style[:, :, None, None]
    if kernel is None:
        x = F.conv2d(x, weight, padding=1)
    else:
        x = smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), kernel, gain=4)
    energy = weight.square().sum((2, 3))
    scale = gain * torch.rsqrt(gain**2 * (style.square() @ energy.t()) + EPSILON)
    x = x * scale[:, :, None, None] + bias[:, None, None]
    if noise is not None:
        x = x + noise
    return F.leaky_relu(x, SLOPE) * GAIN


class FrozenWeights(NamedTuple):
    """Tensors derived from a layer's weights for `frozen_layer`, computed once."""

    forward: Tensor  # [O, I, 3, 3]; [I, O, 3, 3] when up-sampling
    backward: Tensor  # [I, O, 3, 3], with which an ordinary convolution computes the gradient
    energy: Tensor  # [O, I] float32, Σ W² over the taps
    bias: Tensor  # [O, 1, 1], times √2
    gain: float
    kernel: Tensor | None  # smoothing filter after up-sampling [O, 1, 4, 4], gain 4

    def convolve(self, x: Tensor) -> Tensor:
        """The layer's convolution, with up-sampling and smoothing if it has a filter: [B, I, H, W] → [B, O, H′, W′]."""
        if self.kernel is None:
            return F.conv2d(x, self.forward, padding=1)
        x = F.conv_transpose2d(x, self.forward, stride=2)
        return F.conv2d(x, self.kernel, padding=1, groups=len(self.kernel))

    def convolve_back(self, grad: Tensor) -> Tensor:
        """The gradient of `convolve` with respect to its input."""
        if self.kernel is None:
            return F.conv2d(grad, self.backward, padding=1)
        grad = F.conv2d(grad, self.kernel, padding=2, groups=len(self.kernel))  # the filter is symmetric
        return F.conv2d(grad, self.backward, stride=2)


def freeze_layer(weight: Tensor, bias: Tensor, gain: float, kernel: Tensor | None, dtype: torch.dtype) -> FrozenWeights:
    """Prepare a layer's weights for `frozen_layer`, convolving in `dtype`."""
    if dtype == torch.float16:  # sums over weights without their gain might exceed its limit, 65,504
        weight, gain = gain * weight, 1.0
    transposed = weight.transpose(0, 1).contiguous()
    if kernel is None:
        forward, backward = weight, transposed.flip(2, 3)
    else:
        forward = backward = transposed
        kernel = (kernel * 4).expand(weight.shape[0], 1, 4, 4).to(dtype).contiguous()
    layout = torch.channels_last  # up to twice as fast as contiguous on a CPU, especially in batches
    return FrozenWeights(
        forward=forward.to(dtype, memory_format=layout).detach(),
        backward=backward.to(dtype, memory_format=layout).detach(),
        energy=weight.detach().square().sum((2, 3)),
        bias=(GAIN * bias.detach())[:, None, None].to(dtype),
        gain=gain,
        kernel=kernel,
    )


class _FrozenLayer(torch.autograd.Function):
    """`modulated_layer` without weight gradients: a third of the operations, and weights are never rearranged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, style: Tensor, noise: Tensor | None, weights: FrozenWeights) -> Tensor:
        w = weights
        scale = torch.rsqrt(style.square() @ w.energy.t() + EPSILON / w.gain**2) * GAIN  # gain cancels but for ε
        modulated = x * style[:, :, None, None].to(x.dtype)
        convolved = w.convolve(modulated)
        y = torch.addcmul(w.bias, convolved, scale[:, :, None, None].to(x.dtype))
        if noise is not None:
            y.add_((GAIN * noise).to(x.dtype))
        y = F.leaky_relu_(y, SLOPE)
        ctx.weights, ctx.noisy = w, noise is not None
        ctx.save_for_backward(x, style, scale, convolved, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, style, scale, convolved, y = ctx.saved_tensors
        w: FrozenWeights = ctx.weights
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        to_noise = GAIN * grad.sum(1, keepdim=True).to(style.dtype) if ctx.noisy and ctx.needs_input_grad[2] else None
        to_scale = (grad * convolved).sum((2, 3)).to(style.dtype)
        grad = grad * scale[:, :, None, None].to(x.dtype)
        grad = w.convolve_back(grad)
        to_style = (grad * x).sum((2, 3)).to(style.dtype)
        # scale = √2·(Σ s²E + ε)^(−1/2), so ∂scale_o/∂s_i = −½·scale_o³·s_i·E_oi.
        to_style = to_style - style * ((0.5 * to_scale * scale**3) @ w.energy)
        to_x = grad * style[:, :, None, None].to(x.dtype) if ctx.needs_input_grad[0] else None
        return to_x, to_style, to_noise, None


def frozen_layer(x: Tensor, style: Tensor, noise: Tensor | None, weights: FrozenWeights) -> Tensor:
    """`modulated_layer` with gradients only for x [B, I, H, W], style [B, I] and noise [B, 1, H, W]."""
    return _FrozenLayer.apply(x, style, noise, weights)


class _ToPixels(torch.autograd.Function):
    """A 1×1 convolution to few channels, with weights per sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        pixels = grad.flatten(2)
        to_x = (pixels.transpose(1, 2) @ weight).transpose(1, 2).unflatten(2, x.shape[2:])  # channels_last, like x
        to_bias = pixels.sum((0, 2)) if ctx.needs_input_grad[2] else None
        return to_x, pixels @ x.flatten(2).transpose(1, 2), to_bias


def to_pixels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Σ_c W[o, c]·x[c] + bias[o] at every pixel: x [B, C, H, W], weight [B, O, C] and bias [O] → [B, O, H, W].

    On a CPU the three matrix products are up to ten times as fast in this order as in the one that autograd picks.
    """
    return _ToPixels.apply(x, weight, bias)
