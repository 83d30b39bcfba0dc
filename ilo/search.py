"""The two searches of Algorithm 1. Both run projected Adam and keep the best point.

No step reads a value back to the host, so a GPU never has to synchronise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ilo.objective import TERMS, Objective
from ilo.priors.base import BALLS, Prior, State
from ilo.projection import l1_norm, project_l1, project_sphere
from ilo.settings import RoundSettings, Schedule, SolverSettings
from ilo.state import TRACE_COLUMNS, Result, Step, to_uint8


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Fraction of the peak learning rate at `step` (0 … steps − 1); never 0.

    "ramp" is StyleGAN2's schedule: linear warm-up over the first 5 % of the steps, cosine decay over the last 75 %.
    "one-cycle" is PULSE's linear schedule: up to the peak at 45 %, down to 10 % of it at 90 %, then towards 0.1 %.
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
    """A tensor being optimised, and the set that it is projected onto."""

    ball: str  # name of its l1 ball, one of BALLS
    value: Tensor  # [B, …], the leaf tensor that Adam updates
    radius: float  # ρ, the ball's radius per element; infinity switches the ball off
    sphere: tuple[int, ...] = ()  # dimensions along which the norm stays fixed; empty for none
    scale: Tensor | None = None  # [B], per-sample multiplier on the radius; None: 1

    def __post_init__(self) -> None:
        self.start = self.value
        self.value = self.start.clone().requires_grad_(self.radius > 0)
        self.size = self.start[0].numel()
        self.reach = self.radius * self.size if self.scale is None else self.radius * self.size * self.scale
        if self.sphere:
            self.norm = torch.linalg.vector_norm(self.start, dim=self.sphere, keepdim=True)

    def constrain(self) -> None:
        """Rescale to the start's norm, then project onto the l1 ball around the start."""
        value = project_sphere(self.value, self.norm, self.sphere) if self.sphere else self.value
        if math.isfinite(self.radius):
            value = self.start + project_l1(value - self.start, self.reach)
        self.value.copy_(value)

    def usage(self) -> Tensor:
        """Fraction of the radius in use, [B]; NaN without a ball, 0 for a frozen variable."""
        if not math.isfinite(self.radius):
            return self.start.new_full([len(self.start)], math.nan)
        if self.radius == 0:
            return self.start.new_zeros(len(self.start))
        used = l1_norm(self.value.detach() - self.start)
        return used / (self.reach.clamp_min(1e-12) if isinstance(self.reach, Tensor) else self.reach)


def adam(variables: list[Variable]) -> torch.optim.Optimizer | None:
    """A new Adam optimiser over the variables that may move; None if all are frozen."""
    free = [v.value for v in variables if v.value.requires_grad]
    return torch.optim.Adam(free, fused=True) if free else None


def update(variables: list[Variable], optimiser: torch.optim.Optimizer | None, loss: Tensor, lr: float) -> None:
    """Take one projected Adam step, v ← Π(v − Adam(∇_v loss)), for every variable v (Alg. 1, line 4).

    Args:
        variables: the variables, with the spheres and l1 balls that Π projects onto.
        optimiser: Adam over their values; None if all are frozen.
        loss: objective at their values, summed over the batch.
        lr: learning rate of this step.
    """
    if optimiser is None:
        return
    optimiser.zero_grad()
    loss.backward()
    optimiser.param_groups[0]["lr"] = lr
    optimiser.step()
    with torch.no_grad():
        for variable in variables:
            if variable.value.requires_grad:
                variable.constrain()


class Best:
    """Tracks the lowest-loss point of each sample, on the device."""

    def __init__(self, variables: list[Variable], *beside: Tensor):
        first = variables[0].start
        self.loss = first.new_full([len(first)], math.inf)
        self._kept = [*(v.value.detach().clone() for v in variables), *beside]
        self._count = len(variables)

    def keep(self, loss: Tensor, variables: list[Variable], *beside: Tensor) -> None:
        """For each sample whose loss [B] improved, store the variables' values and the tensors of `beside`."""
        better = loss < self.loss
        now = [*(v.value.detach() for v in variables), *beside, loss]
        for source, target in zip(now, [*self._kept, self.loss], strict=True):
            torch.where(better.view(-1, *[1] * (source.dim() - 1)), source, target, out=target)

    @property
    def values(self) -> list[Tensor]:
        """The variables' values at the best point, in their order."""
        return self._kept[: self._count]

    @property
    def beside(self) -> list[Tensor]:
        """The further tensors stored with the best point."""
        return self._kept[self._count :]


class Trace:
    """Collects one row [B, columns] per step on the device until they are fetched."""

    def __init__(self, like: Tensor, steps: int, batch: int):
        self._rows = like.new_full([steps, batch, len(TRACE_COLUMNS)], math.nan)
        self._count = self._told = 0

    def add(self, row: Tensor) -> None:
        self._rows[self._count] = row
        self._count += 1

    def begin(self) -> None:
        """Drop all rows: the starting point is recorded again as the first step's row."""
        self._count = 0

    def news(self) -> tuple[int, np.ndarray]:
        """Fetch the rows added since the last call: index of the first one, and float32 [n, B, columns]."""
        first, self._told = self._told, self._count
        return first, np.ascontiguousarray(self._rows[first : self._count].cpu().numpy())


class LayerSearch:
    """Search over the state entering one layer (Alg. 1, line 4)."""

    def __init__(
        self,
        prior: Prior,
        objective: Objective,
        start: State,
        plan: RoundSettings,
        settings: SolverSettings,
        done: int = 0,
    ):
        self._prior, self._objective = prior, objective
        self._start, self._plan, self._settings, self._done = start, plan, settings, done
        batch = len(start)
        searched = prior.searched(start, settings)
        like = searched[0].value
        scale = like.new_tensor(settings.radius_scales) if settings.radius_scales else None
        self._variables = [Variable(s.ball, s.value, plan.radius(s.ball), s.sphere, scale) for s in searched]
        self._adam = adam(self._variables)
        # Samples that differ only in their radii get the same noise.
        seeds = [settings.seed + (0 if settings.radius_scales else b) for b in range(batch)]
        self._rngs = [torch.Generator(like.device).manual_seed(seed) for seed in seeds]
        image = like.new_zeros(batch, 3, prior.resolution, prior.resolution)
        self._best = Best(self._variables, image, like.new_full([batch, len(TERMS)], math.inf))
        self._trace = Trace(like, plan.steps + 1, batch)
        self._evaluate()
        self._trace.begin()

    def step(self, i: int) -> None:
        """Take step i of 0 … steps − 1."""
        lr = self._plan.lr * learning_rate(self._settings.schedule, i, self._plan.steps)
        update(self._variables, self._adam, self._evaluate(), lr)

    @torch.no_grad()
    def finish(self) -> None:
        """Evaluate the point that the last step reached."""
        self._evaluate()

    def best(self) -> State:
        """The best point so far."""
        return self._prior.replaced(self._start, self._best.values, self._settings)

    def _evaluate(self) -> Tensor:
        """The objective at the current point, summed over the batch; stores the point for samples that improved."""
        values = [v.value for v in self._variables]
        image = self._prior.render(self._prior.replaced(self._start, values, self._settings), self._settings)
        latents = self._latents()
        clean = self._objective(image, latents)
        noisy = self._objective.perturbed(image, latents, self._rngs)
        with torch.no_grad():
            terms = clean.detach().t()
            self._best.keep(terms[:, 0], self._variables, image, terms)
            self._trace.add(torch.cat([terms, self._usage().t()], 1))
        return (clean[0] if noisy is None else noisy).sum()

    def _latents(self) -> Tensor:
        """The latents being searched, [B, S, D]; S is 0 if there are none."""
        found = [v.value for v in self._variables if v.ball == "latents"]
        return found[0] if found else self._variables[0].value.new_zeros(len(self._start), 0, 1)

    def _usage(self) -> Tensor:
        """Fraction of each ball's radius in use, [3, B] in the order of BALLS; the maximum over balls of one name."""
        by_ball = {name: [v.usage() for v in self._variables if v.ball == name] for name in BALLS}
        nothing = self._variables[0].start.new_full([len(self._start)], math.nan)
        return torch.stack([torch.stack(by_ball[name]).amax(0) if by_ball[name] else nothing for name in BALLS])

    def snapshot(self, step: int, with_result: bool, projected: int = 0) -> Step:
        """The best point and the losses so far. This is the only call that waits for the device.

        `projected` is the number of steps made by the range projection that follows this search.
        """
        image, terms = self._best.beside
        usage = self._usage().cpu().numpy()
        first, trace = self._trace.news()
        result = None
        if with_result:
            result = Result(self.best().cpu(), image.detach().cpu().clone(), self._start.layer, step)
        return Step(
            round=self._start.layer,
            step=step,
            steps=self._plan.steps,
            done=self._done + step + projected,
            total=self._settings.total_steps,
            losses=dict(zip(TERMS, terms.t().cpu().numpy().copy(), strict=True)),
            usage=dict(zip(BALLS, usage, strict=True)),
            previews=to_uint8(image),
            trace=trace,
            first=self._done + first,
            result=result,
            projected=projected,
        )


class RangeSearch:
    """Find inputs of the earlier layers whose features are closest to z̃ (Alg. 1, line 5).

    Round 0 has no intermediate variable: nothing is searched, and z̃ stays as it is.
    """

    def __init__(self, prior: Prior, target: State, plan: RoundSettings, settings: SolverSettings):
        self._prior, self._target, self._plan, self._settings = prior, target, plan, settings
        searched = prior.range_searched(target)
        self._variables = [Variable(s.ball, s.value, math.inf, s.sphere) for s in searched]
        self._adam = adam(self._variables)
        self.steps = plan.range_steps if searched else 0
        if self._variables:
            self._best = Best(self._variables)
            self._evaluate()

    @property
    def distance(self) -> Tensor:
        """Mean squared distance of the best point, [B]."""
        return self._best.loss

    def step(self, i: int) -> None:
        """Take Adam step i of 0 … steps − 1 on the sphere."""
        lr = self._plan.lr * learning_rate("ramp", i, self.steps)
        update(self._variables, self._adam, self._evaluate(), lr)

    @torch.no_grad()
    def best(self) -> State:
        """The point of the range closest to z̃ so far, with the features it generates (Alg. 1, line 6)."""
        if not self._variables:
            return self._target
        self._evaluate()
        return self._prior.in_range(self._target, self._best.values, self._settings)

    def _evaluate(self) -> Tensor:
        values = [v.value for v in self._variables]
        distance = self._prior.distance(self._prior.in_range(self._target, values, self._settings), self._target)
        with torch.no_grad():
            self._best.keep(distance.detach(), self._variables)
        return distance.sum()
