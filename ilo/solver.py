"""Intermediate Layer Optimization (Daras et al. 2021, Algorithm 1), over StyleGAN2 in rounds.

`solve` is the algorithm; `Round` is one of its searches, a projected Adam; `project_to_range` is its lines 5 and 6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

from ilo.engine import engine
from ilo.guidance import Guidance
from ilo.objective import objective_of
from ilo.perceptual.base import Perceptual
from ilo.perceptual.find import find_perceptual
from ilo.priors.load import Model
from ilo.priors.stylegan2.latents import GaussianW
from ilo.priors.stylegan2.network import Generator
from ilo.problem import Problem
from ilo.search import RangeSearch, Round
from ilo.settings import RoundSettings, SettingsError, SolverSettings
from ilo.state import State, Step

Due = Callable[[], bool]


def every(seconds: float) -> Due:
    """A clock that answers True when `seconds` have passed since it last did."""
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
    model: Model,
    problem: Problem | Guidance,
    settings: SolverSettings,
    due: Due | None = None,
    perceptual: Perceptual | Literal["auto"] | None = "auto",
    due_result: Due | None = None,
    start: State | None = None,
) -> Iterator[Step]:
    """Reconstruct the picture behind a measurement; a plain generator that yields snapshots as the picture forms.

    Args:
        model: the generative prior, from `ilo.load`.
        problem: operator and measurement y of a batch of B pictures, or a classifier's guidance: B independent runs.
        settings: rounds, radii, loss weights, seed; see `ilo.preset`.
        due: asked after every step whether a snapshot is wanted now; the default says yes once a second.
        perceptual: the perceptual distance; "auto" takes what is in the local cache, None switches it off.
        due_result: asked when a snapshot is due, whether it shall carry a `Result`, too; the default once a second.
        start: latents and noise maps to begin with, at layer 0; None: drawn from the seed.

    Yields:
        `Step`s. The first shows the starting point. Every second or so, at each search's end and last of all, a step
        carries a `Result`, from which alone the picture can be rendered again. Closing the generator stops the run.

    Raises:
        SettingsError: more rounds than the generator has layers, or more memory than there is.
    """
    check_rounds(model, settings)
    due, due_result = due or every(1.0), due_result or every(1.0)
    if perceptual == "auto":
        wanted = settings.weights.perceptual > 0 and isinstance(problem, Problem)
        perceptual = find_perceptual(model.device) if wanted else None
    problem = problem.to(model.device)
    generator, latents = engine.prepare(model.generator, settings, len(problem)), model.latents
    objective = objective_of(problem, settings, perceptual)
    check_batch(problem, settings, start)
    state = start or State.random(model, settings.seed, batch=len(problem))  # z and noise maps; no features yet
    if settings.first_layer:
        state = state.enter(generator, latents, settings.first_layer, settings)
    done = 0

    for k, plan in enumerate(settings.rounds, settings.first_layer):
        for outer in range(plan.outer_iterations):  # line 3
            search = Round(generator, latents, objective, state, plan, settings, done)
            if done == 0:
                yield search.snapshot(0, with_result=True)
            for i in range(plan.steps):
                search.step(i)  # line 4: one projected Adam step
                if i + 1 < plan.steps and due():
                    yield search.snapshot(i + 1, with_result=due_result())
            search.finish()
            best = search.best()
            yield search.snapshot(plan.steps, with_result=True)  # the very last one is line 7
            done += plan.steps
            if outer + 1 < plan.outer_iterations:
                projection = project_to_range(generator, latents, best, plan, settings)  # lines 5–6
                for i, state in enumerate(projection):  # noqa: B007 (used when the loop has ended)
                    if i and due():
                        yield search.snapshot(plan.steps, with_result=due_result(), projected=i)
                done += plan.range_steps
        if k + 1 < settings.first_layer + len(settings.rounds):
            state = best.enter(generator, latents, k + 1, settings)  # the next layer's input, RGB included


def check_rounds(model: Model, settings: SolverSettings) -> None:
    """Raises `SettingsError` if the settings do not fit the model's layers."""
    layers, first, rounds = model.generator.config.num_layers, settings.first_layer, len(settings.rounds)
    if first == layers and rounds == 1:  # behind the last layer there is the picture
        if settings.rounds[0].outer_iterations > 1:
            raise SettingsError("The pixels have no range to project to; give one outer iteration.")
    elif first + rounds > layers:
        raise SettingsError(
            f"There are {rounds} rounds; allowed are at most {max(0, layers - first)}, one for each of the {layers} "
            f"layers of {model.id} from layer {first} on."
        )
    if len(settings.radius_scales) > 0 and any(plan.outer_iterations > 1 for plan in settings.rounds):
        raise SettingsError("Scaled radii and range projections do not go together; leave one of them away.")


def check_batch(problem: Problem | Guidance, settings: SolverSettings, start: State | None) -> None:
    """Raises `SettingsError` if a start or scaled radii are not one for each sample, or the start is no beginning."""
    count, scales = len(problem), len(settings.radius_scales)
    if scales not in (0, count):
        raise SettingsError(f"There are {scales} scales of the radii for {count} samples; give one for each, or none.")
    if start is not None and (start.layer != 0 or len(start.z) != count):
        raise SettingsError(
            f"The start has {len(start.z)} samples at layer {start.layer}; {count} at layer 0 are needed."
        )


def project_to_range(
    generator: Generator, latents: GaussianW, state: State, plan: RoundSettings, settings: SolverSettings
) -> Iterator[State]:
    """Algorithm 1, lines 5–6: latents whose G1(z) comes nearest to the features z̃, and the features that they make.

    Yields where it stands: first `state` itself, then after each of `plan.range_steps` steps, last the projected state.
    """
    yield state
    if state.features is None:  # round 0 has no intermediate variable: it never leaves the range
        return
    search = RangeSearch(generator, latents, state, plan, settings.covariance)
    for i in range(plan.range_steps):
        search.step(i)
        yield search.best() if i + 1 == plan.range_steps else state
