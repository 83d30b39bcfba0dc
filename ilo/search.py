"""The two searches of Algorithm 1. Both run projected Adam and keep the best point.

No step reads a value back to the host, so a GPU never has to synchronise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ilo.engine.graph import Engine, StepByStep
from ilo.engine.streams import stream
from ilo.objective import TERMS, Objective
from ilo.priors.base import BALLS, Prior, State
from ilo.settings import RoundSettings, Schedule, SettingsError, SolverSettings
from ilo.state import TRACE_COLUMNS, Result, Step, to_uint8
from ilo.variables import Best, Variable, constrain, tensors_of, usages, variables_of

EAGER = StepByStep()


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


def loss_scale(dtype: str, resolution: int) -> float:
    """Factor on the loss in the backward pass: float16 ends at 6e-8, and a pixel's share of the loss may be less."""
    return 2.0 ** (int(math.log2(3 * resolution**2)) - 2) if dtype == "float16" else 1.0


class Descent:
    """Projected Adam. All that changes from step to step is on the device, so that a step can be captured and repeated.

    Attributes:
        at: number of the step that comes next, int64 [1].
    """

    def __init__(self, variables: Sequence[Variable], rates: Sequence[float], scale: float = 1.0):
        """
        Args:
            variables: what moves.
            rates: learning rate of each step.
            scale: a power of two that the loss is multiplied by in the backward pass only, for number formats in which
                small gradients would become 0.
        """
        self._scale = scale
        device = variables[0].start.device
        self.at = torch.zeros(1, dtype=torch.long, device=device)
        # A CPU computes with Python's numbers, which are float64; GPUs take the rate as float32.
        kind = torch.float64 if device.type == "cpu" else torch.float32
        self._rates, self._rate = (
            torch.tensor(rates, dtype=kind, device=device),
            torch.zeros(1, dtype=kind, device=device),
        )
        self._free = [v for v in variables if v.free]
        leaves = [v.leaf for v in self._free]
        capturable = device.type == "cuda"
        self._adam = torch.optim.Adam(leaves, self._rate[0], fused=True, capturable=capturable) if leaves else None

    def update(self, loss: Tensor) -> None:
        """Take one projected Adam step, v ← Π(v − Adam(∇_v loss)), for every variable v (Alg. 1, line 4).

        `loss` is the objective at their values, summed over the batch.
        """
        if self._adam is not None:
            self._adam.zero_grad()
            self._backward(loss)
            torch.index_select(self._rates, 0, self.at, out=self._rate)
            self._adam.step()
            constrain(self._free)
        self.at += 1

    def _backward(self, loss: Tensor) -> None:
        if self._scale == 1:
            loss.backward()
            return
        (loss * self._scale).backward()
        torch._foreach_mul_([v.leaf.grad for v in self._free if v.leaf.grad is not None], 1 / self._scale)


class Trace:
    """Collects one row [B, columns] per step on the device until they are fetched."""

    def __init__(self, like: Tensor, steps: int, batch: int):
        self._rows = like.new_full([steps, batch, len(TRACE_COLUMNS)], math.nan)
        self._told = 0

    def put(self, at: Tensor, row: Tensor) -> None:
        """Store the row of step `at`, int64 [1]."""
        self._rows.index_copy_(0, at, row[None])

    def news(self, count: int) -> tuple[int, np.ndarray]:
        """Fetch what is new in the first `count` rows: index of the first one, and float32 [n, B, columns]."""
        first, self._told = self._told, count
        return first, np.ascontiguousarray(self._rows[first:count].cpu().numpy())


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
        engine: Engine = EAGER,
    ):
        self._prior, self._objective, self._engine = prior, objective, engine
        self._start, self._plan, self._settings, self._done = start, plan, settings, done
        batch = len(start)
        searched = prior.searched(start, settings)
        like = searched[0].value
        self._balls = [s.ball for s in searched]
        self._variables = variables_of(searched, plan, settings, objective.mask)
        rates = [plan.lr * learning_rate(settings.schedule, i, plan.steps) for i in range(plan.steps)]
        self._descent = Descent(self._variables, rates, loss_scale(settings.dtype, prior.resolution))
        # Samples that differ only in their radii get the same noise.
        seeds = [settings.seed + (0 if settings.radius_scales else b) for b in range(batch)]
        key = ("perturbation", start.layer, done)
        self._rngs = [stream(seed, *key, device=like.device) for seed in seeds]
        image = like.new_zeros(batch, 3, prior.resolution, prior.resolution)
        self._best = Best(self._variables, batch, image, like.new_full([batch, len(TERMS)], math.inf))
        self._nothing = like.new_full([batch], math.nan)
        self._trace = Trace(like, plan.steps + 1, batch)
        self._run = engine.repeated(self._whole, self._rngs)
        self._loss: Tensor | None = self._evaluate()  # of the start, which the first step needs, too
        self._rows = 1  # of the trace so far
        self._check_start()

    def step(self) -> None:
        """Take the next step."""
        loss, self._loss = self._loss, None
        if loss is None:
            self._run()
            self._rows += 1
        else:
            self._descent.update(loss)

    def _whole(self) -> None:
        self._descent.update(self._evaluate())

    @torch.no_grad()
    def finish(self) -> None:
        """Evaluate the point that the last step reached; no step follows."""
        self._run = self._whole  # a graph's memory is given back
        self._evaluate()
        self._rows += 1

    def best(self) -> State:
        """The best point so far."""
        return self._prior.replaced(self._start, self._best.values, self._settings)

    def _evaluate(self) -> Tensor:
        """The objective at the current point, summed over the batch; stores the point for samples that improved."""
        values = tensors_of(self._variables)
        image = self._prior.render(self._prior.replaced(self._start, values, self._settings), self._settings)
        latents = self._latents(values)
        noisy = self._objective.perturbed(image, latents, self._rngs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and noisy is None):  # only one of the two drives the search
            clean = self._objective(image, latents)
        with torch.no_grad():
            self._keep(image, clean.detach().t())
        return (clean[0] if noisy is None else noisy).sum()

    def _keep(self, image: Tensor, terms: Tensor) -> None:
        """Store the point for samples that improved, and a row of the trace. `terms` is [B, 6]."""
        self._best.keep(terms[:, 0], image, terms)
        self._trace.put(self._descent.at, torch.cat([terms, self._usage().t()], 1))

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
        found = [value for ball, value in zip(self._balls, values, strict=True) if ball == "latents"]
        return found[0] if found else values[0].new_zeros(len(self._start), 0, 1)

    def _usage(self) -> Tensor:
        """Fraction of each ball's radius in use, [3, B] in the order of BALLS; the maximum over balls of one name."""
        found = list(zip([v.ball for v in self._variables], usages(self._variables), strict=True))
        by_ball = [[used for ball, used in found if ball == name] or [self._nothing] for name in BALLS]
        return torch.stack([torch.stack(used).amax(0) if len(used) > 1 else used[0] for used in by_ball])

    def snapshot(self, step: int, with_result: bool, projected: int = 0) -> Step:
        """The best point and the losses so far.

        This waits for the device. Otherwise a search does so once, to check its start; steps never wait.

        `projected` is the number of steps made by the range projection that follows this search.
        """
        image, terms = self._best.beside
        usage = self._usage().cpu().numpy()
        first, trace = self._trace.news(self._rows)
        result = None
        if with_result:
            kept, layer = image.detach().cpu().clone(), self._start.layer
            result = Result(self.best().cpu(), kept, layer, step, self._settings.samples, self._engine.name)
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
        engine: Engine = EAGER,
    ):
        """
        Args:
            prior: the generative prior.
            target: z̃, at this round's layer.
            before: the round before.
            plan: this round's settings.
            settings: of the run.
            mask: see `Variable`.
            engine: runs the steps.
        """
        self._prior, self._target, self._before = prior, target, before
        self._settings = settings
        centres, begins = (prior.searched(state, settings) for state in (before.start, before.best))
        self._variables = variables_of(centres, before.plan, settings, mask, begins)
        steps = plan.range_steps
        rates = [plan.range_lr * learning_rate("ramp", i, steps) for i in range(steps)]
        self._descent = Descent(self._variables, rates, loss_scale(settings.dtype, prior.resolution))
        self._best = Best(self._variables, len(target))
        self._run = engine.repeated(self._whole)
        self._evaluate()

    @property
    def distance(self) -> Tensor:
        """Distance of the best point, [B]; see `Prior.distance`."""
        return self._best.loss

    def step(self) -> None:
        """Take the next of `range_steps` projected Adam steps."""
        self._run()

    def _whole(self) -> None:
        self._descent.update(self._evaluate())

    @torch.no_grad()
    def best(self) -> tuple[State, Round]:
        """The point of the range closest to z̃ so far, with the features it generates (line 6), and what gives it.

        No step follows.
        """
        self._run = self._whole  # a graph's memory is given back
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
        inputs = self._prior.replaced(self._before.start, tensors_of(self._variables), self._settings)
        distance = self._prior.distance(self._generated(inputs), self._target)
        with torch.no_grad():
            self._best.keep(distance.detach())
        return distance.sum()
