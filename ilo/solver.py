"""Intermediate Layer Optimization (Daras et al. 2021, Algorithm 1).

`solve` runs the algorithm; `LayerSearch` implements line 4, projected Adam, and `RangeSearch` lines 5 and 6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch

from ilo.engine import engine
from ilo.engine.graph import engine_for
from ilo.guidance import Guidance
from ilo.objective import objective_of
from ilo.perceptual.base import Perceptual
from ilo.perceptual.find import find_perceptual
from ilo.priors.base import Prior, State
from ilo.problem import Problem
from ilo.search import LayerSearch, RangeSearch, Round
from ilo.settings import RoundSettings, SettingsError, SolverSettings
from ilo.state import Step

Due = Callable[[], bool]


def every(seconds: float) -> Due:
    """A function that returns True when at least `seconds` have passed since it last returned True."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < seconds:
            return False
        last = now
        return True

    return due


def solve(
    prior: Prior,
    problem: Problem | Guidance,
    settings: SolverSettings,
    due: Due | None = None,
    perceptual: Perceptual | Literal["auto"] | None = "auto",
    due_result: Due | None = None,
    start: State | None = None,
    stop_at: int | None = None,
    run_by: str | None = None,
) -> Iterator[Step]:
    """Reconstruct the picture behind a measurement, yielding snapshots as it forms.

    Args:
        prior: generative prior, from `ilo.load`.
        problem: operator and measurements y of B pictures, or a classifier's guidance for B independent runs.
        settings: rounds, radii, loss weights and seed; see `ilo.preset`.
        due: called after every step; returns whether to yield a snapshot now. Default: once a second.
        perceptual: perceptual distance; "auto" uses the best one available locally, None switches it off.
        due_result: called when a snapshot is due; returns whether to attach a `Result`. Default: once a second.
        start: initial state at layer 0; None draws it from the seed.
        stop_at: number of optimisation steps after which to end with a `Result`, to replay a stopped run; None runs to
            the end.
        run_by: the engine of the run that is repeated, "eager" or "cuda-graph"; None: the faster one on the device.

    Yields:
        Snapshots. The first one shows the starting point. About once a second, and at the end of each search, a
        snapshot carries a `Result`, from which the picture can be rendered again. Closing the generator stops the run.

    Raises:
        SettingsError: there are more rounds than layers, or the run does not fit into memory.
    """
    with engine.running(prior, settings, len(problem) * settings.samples):
        yield from _solve(prior, problem, settings, due, perceptual, due_result, start, stop_at, run_by)


def _solve(
    prior: Prior,
    problem: Problem | Guidance,
    settings: SolverSettings,
    due: Due | None,
    perceptual: Perceptual | Literal["auto"] | None,
    due_result: Due | None,
    start: State | None,
    stop_at: int | None,
    run_by: str | None,
) -> Iterator[Step]:
    """`solve`, in the number format of the settings."""
    check_rounds(prior, settings)
    due, due_result = due or every(1.0), due_result or every(1.0)
    if perceptual == "auto":
        wanted = settings.weights.perceptual > 0 and isinstance(problem, Problem)
        perceptual = find_perceptual(prior.device) if wanted else None
    prior = engine.prepare(prior, settings, len(problem) * settings.samples)
    problem = problem.to(prior.device).repeated(settings.samples)
    objective = objective_of(problem, settings, perceptual)
    check_batch(problem, settings, start)
    state = start or prior.draw(settings.seed, len(problem))  # no features yet
    if settings.first_layer:
        with torch.no_grad():
            state = prior.enter(state, settings.first_layer, settings)
    done, before, runner = 0, None, engine_for(prior.device, prior.engine, run_by)

    for k, plan in enumerate(settings.rounds, settings.first_layer):
        for outer in range(plan.outer_iterations):  # line 3
            centre = state
            search = LayerSearch(prior, objective, state, plan, settings, done, runner)
            if done == 0:
                yield search.snapshot(0, with_result=True)
            for i in range(plan.steps):
                if done + i == stop_at:
                    return
                search.step()  # line 4: one projected Adam step
                stopping = done + i + 1 == stop_at
                if i + 1 < plan.steps and (stopping or due()):
                    yield search.snapshot(i + 1, with_result=stopping or due_result())
            search.finish()
            best = search.best()
            yield search.snapshot(plan.steps, with_result=True)  # the last one is line 7
            done += plan.steps
            if k == 0 or outer + 1 == plan.outer_iterations:
                state = best  # round 0 has no intermediate variable: it never leaves the range
                continue
            if before is None or settings.range_from == "latents":
                first = replace(best, layer=0)
                before = Round(first, first, RoundSettings())
            projection = RangeSearch(prior, best, before, plan, settings, objective.mask, runner)
            for i in range(plan.range_steps):
                if done + i == stop_at:
                    return
                projection.step()  # line 5
                stopping = done + i + 1 == stop_at
                if stopping or due():
                    yield search.snapshot(plan.steps, with_result=stopping or due_result(), projected=i + 1)
            state, before = projection.best()  # line 6
            done += plan.range_steps
        before = Round(centre, best, plan)
        if k + 1 < settings.first_layer + len(settings.rounds):
            with torch.no_grad():
                state = prior.enter(best, k + 1, settings)  # the next layer's input


def check_rounds(prior: Prior, settings: SolverSettings) -> None:
    """Raises `SettingsError` if the settings do not fit the prior's layers."""
    layers, first, rounds = prior.layers, settings.first_layer, len(settings.rounds)
    if first == layers and rounds == 1:  # the search is over the pixels
        if settings.rounds[0].outer_iterations > 1:
            raise SettingsError("The pixels have no range to project to; give one outer iteration.")
    elif first + rounds > layers:
        raise SettingsError(
            f"There are {rounds} rounds; allowed are at most {max(0, layers - first)}, one for each of the {layers} "
            f"layers of {prior.id} from layer {first} on."
        )
    if settings.samples > 1 and settings.radius_scales:
        raise SettingsError("Scaled radii and several samples do not go together; use one of them.")
    if len(settings.radius_scales) > 0 and any(plan.outer_iterations > 1 for plan in settings.rounds):
        raise SettingsError("Scaled radii and range projections do not go together; use one of them.")


def check_batch(problem: Problem | Guidance, settings: SolverSettings, start: State | None) -> None:
    """Raises `SettingsError` unless `start` has one state per sample at layer 0 and `radius_scales` one per sample."""
    count, scales = len(problem), len(settings.radius_scales)
    if scales not in (0, count):
        raise SettingsError(f"There are {scales} scales of the radii for {count} samples; give one for each, or none.")
    if start is not None and (start.layer != 0 or len(start) != count):
        raise SettingsError(
            f"The start has {len(start)} samples at layer {start.layer}; {count} at layer 0 are needed."
        )
