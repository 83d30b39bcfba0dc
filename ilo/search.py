"""The two searches that Algorithm 1 is made of, each a projected Adam that keeps its best point.

Nothing here looks at a value on the host while it steps, so a GPU never waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ilo.objective import TERMS, GuidedObjective, Objective
from ilo.priors.stylegan2.latents import GaussianW
from ilo.priors.stylegan2.network import Features, Generator
from ilo.projection import l1_norm, project_l1, project_sphere
from ilo.settings import RoundSettings, Schedule, SolverSettings
from ilo.state import BALLS, TRACE_COLUMNS, Result, State, Step, to_uint8


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Share of the peak learning rate at `step` of 0 … steps − 1; never 0.

    "ramp" is StyleGAN2's, up over the first twentieth and down along a cosine over the last three quarters; "one-cycle"
    is PULSE's linear one: up to the middle of the first nine tenths, down again, then on towards a thousandth.
    """
    if schedule == "ramp":
        t = (step + 1) / (steps + 1)
        return min(1.0, t / 0.05) * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.75)))
    t = step / (0.9 * steps)
    if t < 1:
        return (9 * (1 - abs(t - 0.5) * 2) + 1) / 10
    return 0.1 + (step - 0.9 * steps) / (0.1 * steps) * (0.001 - 0.1)


@dataclass
class Variable:
    """A tensor that is searched over, and the set that it must stay in."""

    ball: str  # one of BALLS
    value: Tensor  # [B, …], the leaf that Adam moves
    radius: float  # ρ, per element; infinity for no ball
    sphere: tuple[int, ...] = ()  # dimensions whose norm is kept; empty for none
    scale: Tensor | None = None  # [B], of each sample's radius; None: 1

    def __post_init__(self) -> None:
        self.start = self.value
        self.value = self.start.clone().requires_grad_(self.radius > 0)
        self.size = self.start[0].numel()
        self.reach = self.radius * self.size if self.scale is None else self.radius * self.size * self.scale
        if self.sphere:
            self.norm = torch.linalg.vector_norm(self.start, dim=self.sphere, keepdim=True)

    def constrain(self) -> None:
        """Back to the start's norm, then onto the l1 ball around the start."""
        value = project_sphere(self.value, self.norm, self.sphere) if self.sphere else self.value
        if math.isfinite(self.radius):
            value = self.start + project_l1(value - self.start, self.reach)
        self.value.copy_(value)

    def usage(self) -> Tensor:
        """Share of the radius in use, [B]; NaN without a ball, 0 for a frozen variable."""
        if not math.isfinite(self.radius):
            return self.start.new_full([len(self.start)], math.nan)
        if self.radius == 0:
            return self.start.new_zeros(len(self.start))
        used = l1_norm(self.value.detach() - self.start)
        return used / (self.reach.clamp_min(1e-12) if isinstance(self.reach, Tensor) else self.reach)


def adam(variables: list[Variable]) -> torch.optim.Optimizer | None:
    """A fresh Adam over what may move; None if everything is frozen."""
    free = [v.value for v in variables if v.value.requires_grad]
    return torch.optim.Adam(free, fused=True) if free else None


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, variables: list[Variable], lr: float) -> None:
    """One projected step: gradients of `loss`, Adam, constraints."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.param_groups[0]["lr"] = lr
    optimiser.step()
    with torch.no_grad():
        for variable in variables:
            if variable.value.requires_grad:
                variable.constrain()


def keep(better: Tensor, now: list[Tensor], best: list[Tensor]) -> None:
    """Copy the samples of `now` for which `better` [B] holds into `best`."""
    for source, target in zip(now, best, strict=True):
        torch.where(better.view(-1, *[1] * (source.dim() - 1)), source, target, out=target)


class Round:
    """Algorithm 1, line 4, for the state entering one layer: features, latents and noise maps that are still used."""

    def __init__(
        self,
        generator: Generator,
        latents: GaussianW,
        objective: Objective | GuidedObjective,
        start: State,
        plan: RoundSettings,
        settings: SolverSettings,
        done: int = 0,
    ):
        self._generator, self._latents, self._objective = generator, latents, objective
        self._start, self._plan, self._settings, self._done = start, plan, settings, done
        k = start.layer
        first = max(0, 2 * k - 1)  # block k ≥ 1 uses w[2k−1] and noise map 2k−1 first
        self._maps = range(first, min(settings.noise_maps + 2 * k, len(start.noise)))
        self._fixed_z = start.z[:, :first]
        scale = start.z.new_tensor(settings.radius_scales) if settings.radius_scales else None
        self._z = Variable("latents", start.z[:, first:], plan.radius_latents, (2,), scale)
        self._noise = [Variable("noise", start.noise[j], plan.radius_noise, (1, 2, 3), scale) for j in self._maps]
        self._variables = [self._z, *self._noise]
        # Behind the last layer the picture itself is what is searched.
        self._pixels = k == generator.config.num_layers
        if start.features is not None:
            value = start.features.rgb if self._pixels else start.features.x
            self._variables.append(Variable("features", value, plan.radius_features, scale=scale))
        self._adam = adam(self._variables)

        batch, device = len(start.z), start.z.device
        # Samples that differ in their radii alone see the same noise.
        seeds = [settings.seed + (0 if settings.radius_scales else b) for b in range(batch)]
        self._rngs = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._best = [v.value.detach().clone() for v in self._variables]
        size = generator.config.img_resolution
        self._best_image = start.z.new_zeros(batch, 3, size, size)
        self._best_terms = start.z.new_full([batch, len(TERMS)], math.inf)
        self._trace = start.z.new_full([plan.steps + 1, batch, len(TRACE_COLUMNS)], math.nan)
        self._rows = self._traced = 0
        self._evaluate()
        self._rows = 0  # the start is the first step's row

    def step(self, i: int) -> None:
        """One projected Adam step, i = 0 … steps − 1."""
        loss = self._evaluate()
        if self._adam is not None:
            lr = self._plan.lr * learning_rate(self._settings.schedule, i, self._plan.steps)
            descend(self._adam, loss, self._variables, lr)

    @torch.no_grad()
    def finish(self) -> None:
        """Look at the point that the last step reached."""
        self._evaluate()

    def best(self) -> State:
        """The best point so far."""
        return self._state(self._best)

    def snapshot(self, step: int, with_result: bool, projected: int = 0) -> Step:
        """The best point and the losses so far, for the caller; the only place that waits for the device.

        `projected` counts the steps of the range projection that has begun since this search ended.
        """
        plan, settings = self._plan, self._settings
        usage = self._usage().cpu().numpy()
        trace = self._trace[self._traced : self._rows].cpu().numpy()
        first, self._traced = self._done + self._traced, self._rows
        result = None
        if with_result:
            result = Result(self.best().cpu(), self._best_image.detach().cpu().clone(), self._start.layer, step)
        return Step(
            round=self._start.layer,
            step=step,
            steps=plan.steps,
            done=self._done + step + projected,
            total=settings.total_steps,
            losses=dict(zip(TERMS, self._best_terms.t().cpu().numpy().copy(), strict=True)),
            usage=dict(zip(BALLS, usage, strict=True)),
            previews=to_uint8(self._best_image),
            trace=np.ascontiguousarray(trace),
            first=first,
            result=result,
            projected=projected,
        )

    def _state(self, values: list[Tensor]) -> State:
        """The start, with the searched variables replaced by `values`."""
        noise = list(self._start.noise)
        for j, value in zip(self._maps, values[1 : 1 + len(self._maps)], strict=True):
            noise[j] = value
        x_and_rgb = self._start.features
        if x_and_rgb is None:
            features = None
        elif self._pixels:
            features = Features(x_and_rgb.x, values[-1])
        else:
            features = Features(values[-1], x_and_rgb.rgb)
        return State(torch.cat([self._fixed_z, values[0]], 1), tuple(noise), self._start.layer, features)

    def _evaluate(self) -> Tensor:
        """The objective at the current point, summed over the batch; remembers the point where it is the best."""
        values = [v.value for v in self._variables]
        image = self._state(values).render(self._generator, self._latents, self._settings.covariance)
        clean = self._objective(image, self._z.value)
        noisy = self._objective.perturbed(image, self._z.value, self._rngs)
        with torch.no_grad():
            terms = clean.detach().t()
            better = terms[:, 0] < self._best_terms[:, 0]
            keep(
                better, [*(v.detach() for v in values), image, terms], [*self._best, self._best_image, self._best_terms]
            )
            self._trace[self._rows] = torch.cat([terms, self._usage().t()], 1)
            self._rows += 1
        return (clean[0] if noisy is None else noisy).sum()

    def _usage(self) -> Tensor:
        """[3, B] in the order of BALLS; the fullest of the noise maps' balls."""
        by_ball = {name: [v.usage() for v in self._variables if v.ball == name] for name in BALLS}
        nothing = self._z.start.new_full([len(self._z.start)], math.nan)
        return torch.stack([torch.stack(by_ball[name]).amax(0) if by_ball[name] else nothing for name in BALLS])


class RangeSearch:
    """Algorithm 1, line 5: latents and noise maps of the prefix G1 that make features close to z̃."""

    def __init__(self, generator: Generator, latents: GaussianW, target: State, plan: RoundSettings, covariance: str):
        assert target.features is not None
        self._generator, self._latents, self._covariance = generator, latents, covariance
        self._target, self._plan = target, plan
        used = 2 * target.layer - 1  # style inputs and noise maps that the features before layer k depend on
        self._z = Variable("latents", target.z[:, :used], math.inf, sphere=(2,))
        self._noise = [Variable("noise", noise, math.inf, sphere=(1, 2, 3)) for noise in target.noise[:used]]
        self._variables = [self._z, *self._noise]
        self._adam = torch.optim.Adam([v.value for v in self._variables], fused=True)
        self._best = [v.value.detach().clone() for v in self._variables]
        self.distance = target.z.new_full([len(target.z)], math.inf)  # [B] mean squared, of the best
        self._evaluate()

    def step(self, i: int) -> None:
        """One Adam step on the sphere, i = 0 … range_steps − 1."""
        lr = self._plan.lr * learning_rate("ramp", i, self._plan.range_steps)
        descend(self._adam, self._evaluate(), self._variables, lr)

    @torch.no_grad()
    def best(self) -> State:
        """The nearest point of the range so far, with its own features and RGB (line 6)."""
        self._evaluate()
        z, noise = self._replaced(self._best)
        features = self._generator.prefix(self._latents(z, self._covariance), noise, self._target.layer)
        assert features is not None
        return State(z, noise, self._target.layer, Features(features.x.to(z.dtype), features.rgb))

    def _replaced(self, values: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        used = len(values) - 1
        return torch.cat([values[0], self._target.z[:, used:]], 1), (*values[1:], *self._target.noise[used:])

    def _evaluate(self) -> Tensor:
        values = [v.value for v in self._variables]
        z, noise = self._replaced(values)
        features = self._generator.prefix(self._latents(z, self._covariance), noise, self._target.layer)
        assert features is not None
        assert self._target.features is not None
        distance = (features.x.to(z.dtype) - self._target.features.x).flatten(1).square().mean(1)
        with torch.no_grad():
            better = distance < self.distance
            keep(better, [*(v.detach() for v in values), distance], [*self._best, self.distance])
        return distance.sum()
