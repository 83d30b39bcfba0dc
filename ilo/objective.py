"""The solver's objective: data fidelity, perceptual distance, geodesic regulariser, dead zone, classifier loss.

Every function is per sample: [B, …] → [B].
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ilo.guidance import Guidance
from ilo.operators.resizing import resize
from ilo.perceptual.base import Perceptual
from ilo.problem import Problem
from ilo.settings import LossWeights, SolverSettings

DEAD_ZONE = 0.1
TERMS = ("total", "mse", "perceptual", "geodesic", "dead_zone", "classifier")


def geodesic(z: Tensor) -> Tensor:
    """Spread of the latents on their sphere (PULSE's GEOCROSS): z [B, S, D] → [B].

    The squared angle between two latents, times D, averaged over all ordered pairs and divided by 8.
    """
    count, dim = z.shape[1:]
    if count < 2:
        return z.new_zeros(z.shape[0])
    if z.device.type != "cpu":
        return _Geodesic.apply(z)
    i, j = torch.triu_indices(count, count, 1, device=z.device)
    a, b = z[:, i], z[:, j]
    angle = 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=2), torch.linalg.vector_norm(a + b, dim=2))
    # Each unordered pair counts twice; a latent's angle with itself is 0.
    return angle.square().sum(1) * (2 * dim / (8 * count**2))


class _Geodesic(torch.autograd.Function):
    """`geodesic` with a third of the operations, each of which costs a GPU a launch.

    With p = |a − b|, q = |a + b| and h = atan2(p, q), ∂h/∂a = (cos(2h)·a − b) / (p·q).
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        a, b = z[:, :, None], z[:, None]
        apart, together = torch.linalg.vector_norm(a - b, dim=3), torch.linalg.vector_norm(a + b, dim=3)
        half = torch.atan2(apart, together)  # [B, S, S]
        ctx.save_for_backward(z, apart, together, half)
        ctx.factor = 4 * z.shape[2] / (8 * z.shape[1] ** 2)
        return half.square().sum((1, 2)) * ctx.factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        z, apart, together, half = ctx.saved_tensors
        # Of a latent with itself, p and h are 0, and so is the quotient.
        slope = half / (apart * together).clamp_min(torch.finfo(z.dtype).tiny)
        own = ((2 * half).cos() * slope).sum(2, keepdim=True)
        return torch.baddbmm(own * z, slope, z, alpha=-1) * (4 * ctx.factor * grad)[:, None, None]


def data_fidelity(residual: Tensor, normaliser: int) -> Tensor:
    """‖A(G) − y‖² / N of a residual [B, …]."""
    return residual.flatten(1).square().sum(1) / normaliser


def dead_zone(residual: Tensor) -> Tensor:
    """Mean of max(0, |A(G) − y| − 0.1)."""
    return (residual.flatten(1).abs() - DEAD_ZONE).clamp_min(0).mean(1)


class Objective(Protocol):
    """The function that a search minimises, evaluated for each sample of the batch separately."""

    @property
    def mask(self) -> Tensor | None:
        """[1, 1, R, R], 1 where the picture is measured; None if nothing is hidden."""

    def __call__(self, image: Tensor, z: Tensor) -> Tensor:
        """The weighted sum of all terms, followed by the unweighted terms.

        Args:
            image: generated pictures [B, 3, R, R].
            z: latents being searched [B, S, z_dim].

        Returns:
            [6, B] in the order of `TERMS`.
        """

    def perturbed(self, image: Tensor, z: Tensor, rngs: list[torch.Generator]) -> Tensor | None:
        """Objective [B] on randomly perturbed pictures, whose gradient replaces the clean one; None: not needed.

        Sample b draws its randomness from rngs[b].
        """


class MeasurementObjective:
    """The weighted sum of the terms that compare with a measurement (section 4.2)."""

    def __init__(self, problem: Problem, weights: LossWeights, perceptual: Perceptual | None, sna: bool = True):
        self.problem, self.weights, self.mask = problem, weights, problem.operator.mask
        wanted = weights.perceptual > 0 and problem.operator.compares_features
        self.perceptual = perceptual if wanted else None
        self._sna = sna and problem.noisy and self.perceptual is not None
        self._measured: list[Tensor] | None = None

    def __call__(self, image: Tensor, z: Tensor) -> Tensor:
        expected = self.problem.expected(image)
        return self._terms(z, expected, self.problem.operator.entering(image), expected)

    def perturbed(self, image: Tensor, z: Tensor, rngs: list[torch.Generator]) -> Tensor | None:
        """Stochastic noise addition (SNA): the loss [B] with fresh noise in the features; None where there is no need.

        The data term has its mean over the noise in closed form, `Problem.expected`. Noise added to it would leave its
        mean gradient as it is, or, where noise is clipped, pull the picture to the limits, where noise has less room.
        """
        if not self._sna:
            return None
        return self._terms(z, self.problem.expected(image), *self.problem.perturbed(image, rngs))[0]

    def _terms(self, z: Tensor, expected: Tensor, entering: Tensor, prediction: Tensor) -> Tensor:
        """All terms; the perceptual distance compares `prediction`, which the last operator gives for `entering`."""
        operator, weights = self.problem.operator, self.weights
        residual = expected - self.problem.y
        mse = data_fidelity(residual, operator.normaliser)
        nothing = torch.zeros_like(mse)
        total, distance, spread, dead = weights.mse * mse, nothing, nothing, nothing
        if self.perceptual is not None:
            distance = self._distance(entering, prediction)
            total = total + weights.perceptual * distance
        if weights.geodesic:
            spread = geodesic(z)
            total = total + weights.geodesic * spread
        if weights.dead_zone:
            dead = dead_zone(residual)
            total = total + weights.dead_zone * dead
        return torch.stack([total, mse, distance, spread, dead, nothing])

    def _distance(self, entering: Tensor, prediction: Tensor) -> Tensor:
        perceptual, operator = self.perceptual, self.problem.operator
        if perceptual is None:
            return entering.new_zeros(entering.shape[0])
        size = min(operator.resolution, perceptual.size)
        if perceptual.fills_holes and operator.fills:
            pair = operator.comparable(entering, prediction, self.problem.y, size)
            return entering.new_zeros(entering.shape[0]) if pair is None else perceptual(*pair)
        return perceptual.distance(perceptual.features(resize(prediction, size)), self._measured_features(size))

    @torch.no_grad()
    def _measured_features(self, size: int) -> list[Tensor]:
        """Features of y, cached after the first call."""
        if self._measured is None:
            assert self.perceptual is not None
            self._measured = self.perceptual.features(resize(self.problem.y, size))
        return self._measured


class GuidedObjective:
    """A classifier's cross-entropy and the geodesic term: nothing is measured (section 4.3, "Out of Distribution")."""

    def __init__(self, guidance: Guidance, weights: LossWeights):
        self.guidance, self.weights, self.mask = guidance, weights, None

    def __call__(self, image: Tensor, z: Tensor) -> Tensor:
        loss = self.guidance.loss(image)
        spread = geodesic(z) if self.weights.geodesic else torch.zeros_like(loss)
        none = torch.zeros_like(loss)
        return torch.stack([loss + self.weights.geodesic * spread, none, none, spread, none, loss])

    def perturbed(self, image: Tensor, z: Tensor, rngs: list[torch.Generator]) -> Tensor | None:
        """Objective averaged over shifted, noisy views."""
        guidance = self.guidance
        if not guidance.views:
            return None
        loss = guidance.loss(guidance.shifted(image, rngs)).unflatten(0, (len(image), guidance.views)).mean(1)
        return loss + self.weights.geodesic * geodesic(z) if self.weights.geodesic else loss


def objective_of(problem: Problem | Guidance, settings: SolverSettings, perceptual: Perceptual | None) -> Objective:
    """The objective of a problem or of a classifier's guidance."""
    if isinstance(problem, Guidance):
        return GuidedObjective(problem, settings.weights)
    return MeasurementObjective(problem, settings.weights, perceptual, settings.sna)
