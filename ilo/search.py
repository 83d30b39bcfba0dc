"""The two searches of Algorithm 1. Both run projected Adam and keep the best point.

No step reads a value back to the host, so a GPU never has to synchronise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ilo.engine.streams import stream
from ilo.objective import TERMS, Objective
from ilo.priors.base import BALLS, Prior, Searched, State
from ilo.projection import l1_norm, project_l1, project_sphere
from ilo.settings import RoundSettings, Schedule, SettingsError, SolverSettings
from ilo.state import TRACE_COLUMNS, Result, Step, to_uint8

TINY = 1e-12  # instead of a scale of 0


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


class Variable:
    """A tensor that is searched over, and the set that it must stay in.

    It is searched in its own unit: features in that of their mean absolute value, so that the learning rate suits any
    generator, everything else as it is. Where a mask hides everything, the unit of features is smaller: the same step
    changes them less, and the same change takes more of the radius.
    """

    def __init__(
        self,
        searched: Searched,
        radius: float,
        settings: SolverSettings,
        mask: Tensor | None = None,
        begin: Tensor | None = None,
    ):
        """
        Args:
            searched: the tensor and its value at the round's start, the centre of its l1 ball.
            radius: ρ of the l1 ball, infinity for no ball.
            settings: of the run, for their scale, their scales of the radii and the radius where all is hidden.
            mask: [1, 1, R, R], 1 where the picture is measured; None if there is no such mask.
            begin: where to begin, inside the ball; None: at its centre.
        """
        value, relative = searched.value, settings.scale == "relative"
        self.ball, self.radius, self.sphere = searched.ball, radius, searched.sphere
        self.free = radius > 0
        self.unit = None
        if relative and searched.kind == "features":
            self.unit = value.flatten(1).abs().mean(1).clamp_min(TINY).view(-1, *[1] * (value.dim() - 1))
        size = l1_norm(self._in_units(value)) if relative and searched.kind != "pixels" else float(value[0].numel())
        if mask is not None and searched.ball == "features" and settings.radius_hidden < 1:
            measured = F.interpolate(mask, value.shape[-2:], mode="area")
            reach = settings.radius_hidden + (1 - settings.radius_hidden) * measured
            self.unit = reach if self.unit is None else self.unit * reach
        self.start = self._in_units(value)
        self.leaf = self._in_units(value if begin is None else begin).clone().requires_grad_(self.free)  # Adam moves it
        scale = value.new_tensor(settings.radius_scales) if settings.radius_scales else 1.0
        self.reach = radius * size * scale
        if self.sphere:
            self.norm = torch.linalg.vector_norm(self.start, dim=self.sphere, keepdim=True)

    def _in_units(self, value: Tensor) -> Tensor:
        return value if self.unit is None else value / self.unit

    def value(self, leaf: Tensor | None = None) -> Tensor:
        """[B, …] as the prior takes it, at the current leaf or another; differentiable."""
        leaf = self.leaf if leaf is None else leaf
        return leaf if self.unit is None else leaf * self.unit

    def constrain(self) -> None:
        """Project back to the start's norm, then onto the l1 ball around the start."""
        value = project_sphere(self.leaf, self.norm, self.sphere) if self.sphere else self.leaf
        if math.isfinite(self.radius):
            value = self.start + project_l1(value - self.start, self.reach)
        self.leaf.copy_(value)

    def usage(self) -> Tensor:
        """Share of the radius in use, [B]; NaN without a ball, 0 for a frozen variable."""
        if not math.isfinite(self.radius):
            return self.start.new_full([len(self.start)], math.nan)
        if not self.free:
            return self.start.new_zeros(len(self.start))
        used = l1_norm(self.leaf.detach() - self.start)
        return used / (self.reach.clamp_min(TINY) if isinstance(self.reach, Tensor) else self.reach)


def adam(variables: list[Variable]) -> torch.optim.Optimizer | None:
    """A new Adam optimiser over the variables that may move; None if all are frozen."""
    free = [v.leaf for v in variables if v.free]
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
            if variable.free:
                variable.constrain()


class Best:
    """Tracks the lowest-loss point of each sample, on the device."""

    def __init__(self, variables: list[Variable], *beside: Tensor):
        first = variables[0].start
        self.loss = first.new_full([len(first)], math.inf)
        self._variables = variables
        self._kept = [*(v.leaf.detach().clone() for v in variables), *beside]

    def keep(self, loss: Tensor, *beside: Tensor) -> None:
        """For each sample whose loss [B] improved, store the variables and the tensors of `beside`."""
        better = loss < self.loss
        now = [*(v.leaf.detach() for v in self._variables), *beside, loss]
        for source, target in zip(now, [*self._kept, self.loss], strict=True):
            torch.where(better.view(-1, *[1] * (source.dim() - 1)), source, target, out=target)

    @property
    def values(self) -> list[Tensor]:
        """The variables' values at the best point, in their order."""
        return [v.value(leaf) for v, leaf in zip(self._variables, self._kept, strict=False)]

    @property
    def beside(self) -> list[Tensor]:
        """The further tensors stored with the best point."""
        return self._kept[len(self._variables) :]


class Trace:
    """Collects one row [B, columns] per step on the device until they are fetched."""

    def __init__(self, like: Tensor, steps: int, batch: int):
        self._rows = like.new_full([steps, batch, len(TRACE_COLUMNS)], math.nan)
        self._count = self._told = 0

    def add(self, row: Tensor) -> None:
        self._rows[self._count] = row
        self._count += 1

    def news(self) -> tuple[int, np.ndarray]:
        """Fetch the rows added since the last call: index of the first one, and float32 [n, B, columns]."""
        first, self._told = self._told, self._count
        return first, np.ascontiguousarray(self._rows[first : self._count].cpu().numpy())


@dataclass(frozen=True)
class Round:
    """A round that has ended: the layer that the next one's input is generated from."""

    start: State  # the centre of its balls
    best: State
    plan: RoundSettings


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
        self._variables = [Variable(s, plan.radius(s.ball), settings, objective.mask) for s in searched]
        self._adam = adam(self._variables)
        # Samples that differ only in their radii get the same noise.
        seeds = [settings.seed + (0 if settings.radius_scales else b) for b in range(batch)]
        key = ("perturbation", start.layer, done)
        self._rngs = [stream(seed, *key, device=like.device) for seed in seeds]
        image = like.new_zeros(batch, 3, prior.resolution, prior.resolution)
        self._best = Best(self._variables, image, like.new_full([batch, len(TERMS)], math.inf))
        self._trace = Trace(like, plan.steps + 1, batch)
        self._loss: Tensor | None = self._evaluate()  # of the start, which the first step needs, too
        self._check_start()

    def step(self, i: int) -> None:
        """Take step i of 0 … steps − 1."""
        loss, self._loss = self._loss if self._loss is not None else self._evaluate(), None
        lr = self._plan.lr * learning_rate(self._settings.schedule, i, self._plan.steps)
        update(self._variables, self._adam, loss, lr)

    @torch.no_grad()
    def finish(self) -> None:
        """Evaluate the point that the last step reached."""
        self._evaluate()

    def best(self) -> State:
        """The best point so far."""
        return self._prior.replaced(self._start, self._best.values, self._settings)

    def _evaluate(self) -> Tensor:
        """The objective at the current point, summed over the batch; stores the point for samples that improved."""
        values = [v.value() for v in self._variables]
        image = self._prior.render(self._prior.replaced(self._start, values, self._settings), self._settings)
        latents = self._latents(values)
        noisy = self._objective.perturbed(image, latents, self._rngs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and noisy is None):  # only one of the two drives the search
            clean = self._objective(image, latents)
        with torch.no_grad():
            terms = clean.detach().t()
            self._best.keep(terms[:, 0], image, terms)
            self._trace.add(torch.cat([terms, self._usage().t()], 1))
        return (clean[0] if noisy is None else noisy).sum()

    def _check_start(self) -> None:
        """Raises `SettingsError` if the start's picture or loss is not finite: no step could repair it."""
        loss = self._best.loss
        if bool(torch.isfinite(loss).all()):
            return
        layer = self._start.layer
        broken = [name for name, value in self._start.values.items() if not bool(torch.isfinite(value).all())]
        if broken:
            what = f"{', '.join(broken[:3])} of its start are NaN or infinite"
        elif not bool(torch.isfinite(self._best.beside[0]).all()) or self._settings.dtype != "float32":
            what = f"the generator's picture is NaN or infinite in {self._settings.dtype}"
        else:
            what = "the loss is NaN or infinite"
        raise SettingsError(
            f"Round {layer} cannot begin: {what}. Check the generator's weights and the measurement, or choose float32."
        )

    def _latents(self, values: list[Tensor]) -> Tensor:
        """The latents being searched, [B, S, D]; S is 0 if there are none."""
        found = [value for v, value in zip(self._variables, values, strict=True) if v.ball == "latents"]
        return found[0] if found else values[0].new_zeros(len(self._start), 0, 1)

    def _usage(self) -> Tensor:
        """Fraction of each ball's radius in use, [3, B] in the order of BALLS; the maximum over balls of one name."""
        by_ball = {name: [v.usage() for v in self._variables if v.ball == name] for name in BALLS}
        nothing = self._variables[0].start.new_full([len(self._start)], math.nan)
        return torch.stack([torch.stack(by_ball[name]).amax(0) if by_ball[name] else nothing for name in BALLS])

    def snapshot(self, step: int, with_result: bool, projected: int = 0) -> Step:
        """The best point and the losses so far.

        This waits for the device. Otherwise a search does so once, to check its start; steps never wait.

        `projected` is the number of steps made by the range projection that follows this search.
        """
        image, terms = self._best.beside
        usage = self._usage().cpu().numpy()
        first, trace = self._trace.news()
        result = None
        if with_result:
            result = Result(
                self.best().cpu(), image.detach().cpu().clone(), self._start.layer, step, self._settings.samples
            )
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
    """Find variables of an earlier layer whose features are closest to z̃, those of this round (Alg. 1, line 5).

    G1 maps the round before's variables, inside the balls of that round, to this layer's input: so what earlier
    rounds found is kept.
    """

    def __init__(
        self,
        prior: Prior,
        target: State,
        before: Round,
        plan: RoundSettings,
        settings: SolverSettings,
        mask: Tensor | None = None,
    ):
        """
        Args:
            prior: the generative prior.
            target: z̃, at this round's layer.
            before: the round before.
            plan: this round's settings.
            settings: of the run.
            mask: see `Variable`.
        """
        self._prior, self._target, self._before = prior, target, before
        self._plan, self._settings = plan, settings
        centres, begins = (prior.searched(state, settings) for state in (before.start, before.best))
        self._variables = [
            Variable(s, before.plan.radius(s.ball), settings, mask, b.value)
            for s, b in zip(centres, begins, strict=True)
        ]
        self._adam = adam(self._variables)
        self._best = Best(self._variables)
        self._evaluate()

    @property
    def distance(self) -> Tensor:
        """Distance of the best point, [B]; see `Prior.distance`."""
        return self._best.loss

    def step(self, i: int) -> None:
        """Take projected Adam step i of 0 … range_steps − 1."""
        lr = self._plan.range_lr * learning_rate("ramp", i, self._plan.range_steps)
        update(self._variables, self._adam, self._evaluate(), lr)

    @torch.no_grad()
    def best(self) -> tuple[State, Round]:
        """The point of the range closest to z̃ so far, with the features it generates (line 6), and what gives it."""
        self._evaluate()
        inputs = self._prior.replaced(self._before.start, self._best.values, self._settings)
        return self._generated(inputs), replace(self._before, best=inputs)

    def _generated(self, inputs: State) -> State:
        """The state at z̃'s layer with features from `inputs`; all else that this round searches stays z̃'s."""
        prior, settings = self._prior, self._settings
        found = prior.enter(inputs, self._target.layer, settings)
        pairs = zip(prior.searched(found, settings), prior.searched(self._target, settings), strict=True)
        return prior.replaced(found, [(new if new.ball == "features" else old).value for new, old in pairs], settings)

    def _evaluate(self) -> Tensor:
        inputs = self._prior.replaced(self._before.start, [v.value() for v in self._variables], self._settings)
        distance = self._prior.distance(self._generated(inputs), self._target)
        with torch.no_grad():
            self._best.keep(distance.detach())
        return distance.sum()
