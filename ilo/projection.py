"""Projections onto the l1 ball and the sphere: pure functions, per sample, with no GPU synchronisation."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

NEWTON_STEPS = 24


def l1_norm(x: Tensor) -> Tensor:
    """l1 norm of each sample: [B, …] → [B]."""
    return x.flatten(1).abs().sum(1)


def project_l1(x: Tensor, radius: float | Tensor) -> Tensor:
    """Project each sample of x onto the l1 ball of `radius` around 0 (Duchi et al. 2008).

    The projection is sign(x)·max(|x| − τ, 0), where τ ≥ 0 solves Σ max(|x| − τ, 0) = radius. On a CPU, Newton's method
    needs no sort and may end early. On a GPU, where each operation costs a launch and ending early would mean to wait
    for the device, sorting takes a fifteenth of the operations.

    Args:
        x: [B, …], any shape per sample.
        radius: one radius for all samples, or [B], one per sample. 0 gives 0, infinity gives x.

    Returns:
        [B, …], with Σ|·| ≤ radius·(1 + 1e-6) in each sample.
    """
    if x.device.type == "cpu":
        return project_l1_newton(x, radius)
    return project_l1_sorting(x, radius)


def project_l1_newton(x: Tensor, radius: float | Tensor) -> Tensor:
    """`project_l1` by Newton's method on τ's equation, for tensors on the CPU.

    The equation is convex and piecewise linear, so τ grows towards its solution without passing it; as soon as the same
    values exceed it twice, it is exact.
    """
    flat = x.flatten(1)
    magnitude = flat.abs()
    if not isinstance(radius, Tensor):
        radius = flat.new_full([len(flat)], radius)
    radius = radius.to(flat).expand(len(flat))[:, None]
    norm = magnitude.sum(1, keepdim=True)
    outside = norm > radius
    if not outside.any():
        return x
    # Start from the larger of two lower bounds on τ: all values exceed it, or only the largest one.
    tau = torch.maximum((norm - radius) / flat.shape[1], magnitude.amax(1, keepdim=True) - radius).clamp_min(0)
    exceeding = magnitude > tau
    for _ in range(NEWTON_STEPS):
        ones = exceeding.to(flat)
        tau = ((ones * magnitude).sum(1, keepdim=True) - radius) / ones.sum(1, keepdim=True).clamp_min(1)
        before, exceeding = exceeding, magnitude > tau
        if torch.equal(exceeding, before):
            break
    tau = tau.clamp_min(0)  # below 0 inside the ball
    shrunk = flat - flat.clamp(-tau, tau)
    # Rounding may leave the sum a few ulp above the radius.
    size = shrunk.abs().sum(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    return torch.where(outside, shrunk * (radius / size).clamp_max(1), flat).view_as(x)


def project_l1_sorting(x: Tensor, radius: float | Tensor) -> Tensor:
    """`project_l1` by sorting, without reading a value back from the device.

    With the magnitudes in descending order, u₁ ≥ u₂ ≥ …, τ is the largest of (u₁ + … + u_j − radius) / j over all j:
    the quotient grows for as long as the next u_j exceeds it. Inside the ball no quotient is positive, and τ is 0.
    The running sums are float64, for those of a million values lose digits.
    """
    flat = x.flatten(1)
    magnitude = flat.abs()
    if isinstance(radius, Tensor):
        radius = radius.to(flat).expand(len(flat))[:, None]
    wide = torch.float32 if flat.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    sums = magnitude.sort(1, descending=True).values.cumsum(1, dtype=wide)
    tau = ((sums - radius) / _counts(flat.shape[1], wide, flat.device)).amax(1, keepdim=True).clamp_min(0).to(flat)
    return torch.copysign(torch.relu(magnitude - tau), flat).view_as(x)


@functools.lru_cache(maxsize=256)
def _counts(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1, 2, …, n, less what rounds a float32 quotient up, so that the sum stays below the radius.

    They are kept, since a run projects onto the same few balls at every step.
    """
    with torch.inference_mode(False):
        return torch.arange(1, n + 1, dtype=dtype, device=device) / (1 + torch.finfo(torch.float32).eps)


def project_sphere(x: Tensor, norm: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x rescaled to `norm` along `dims`; `norm` keeps these dimensions, so it broadcasts against x. 0 stays 0."""
    return x * (norm / torch.linalg.vector_norm(x, dim=dims, keepdim=True).clamp_min(1e-12))
