"""Projections onto the l1 ball and the sphere: pure functions, per sample, without a host synchronisation on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

NEWTON_STEPS = 24


def l1_norm(x: Tensor) -> Tensor:
    """[B, …] → [B]."""
    return x.flatten(1).abs().sum(1)


def project_l1(x: Tensor, radius: float | Tensor) -> Tensor:
    """The nearest point to x in the l1 ball of `radius` around 0 (Duchi et al. 2008), for each sample of the batch.

    It is sign(x)·max(|x| − τ, 0), where τ ≥ 0 solves Σ max(|x| − τ, 0) = radius. Newton's method on this convex,
    piecewise linear equation climbs to τ from below and never passes it, so no sort is needed.

    Args:
        x: [B, …], any shape per sample.
        radius: of all balls, or [B], one per sample. 0 gives 0, infinity gives x.

    Returns:
        [B, …], with Σ|·| ≤ radius·(1 + 1e-6) in each sample.
    """
    flat = x.flatten(1)
    magnitude = flat.abs()
    if not isinstance(radius, Tensor):
        radius = flat.new_full([len(flat)], radius)
    radius = radius.to(flat).expand(len(flat))
    norm = magnitude.sum(1)
    outside = norm > radius
    on_host = flat.device.type == "cpu"  # there, looking at a value costs nothing
    if on_host and not outside.any():
        return x
    # Two bounds from below to start at: every element may be active, or the largest alone.
    tau = torch.maximum((norm - radius) / flat.shape[1], magnitude.amax(1) - radius).clamp_min(0)
    for _ in range(NEWTON_STEPS):
        excess = torch.relu(magnitude - tau[:, None])
        active = (excess > 0).sum(1).clamp_min(1)
        higher = torch.maximum(tau, tau + (excess.sum(1) - radius) / active)
        if on_host and torch.equal(higher, tau):
            break
        tau = higher
    shrunk = torch.relu(magnitude - tau[:, None])
    # Rounding may leave the sum a few ulp outside.
    shrunk = shrunk * (radius / shrunk.sum(1).clamp_min(torch.finfo(flat.dtype).tiny)).clamp_max(1)[:, None]
    return torch.where(outside[:, None], torch.copysign(shrunk, flat), flat).view_as(x)


def project_sphere(x: Tensor, norm: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x scaled to `norm` along `dims` (kept, so that `norm` broadcasts against x); 0 stays 0."""
    return x * (norm / torch.linalg.vector_norm(x, dim=dims, keepdim=True).clamp_min(1e-12))
