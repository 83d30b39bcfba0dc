"""Morphing a face towards a class: where a guided run starts (Daras et al. 2021, Figure 5).

A run starts from a face that the generator draws, or from a photograph, which is inverted first through all layers;
what the inversion changes at a layer is added there throughout the run. The usual rounds then minimise a classifier's
loss instead of a measurement error; the l1 balls limit how far each round may move from that face. The baseline
(Santurkar et al. 2019) minimises the same loss over the pixels directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ilo.guidance import Guidance
from ilo.methods import preset
from ilo.operators import undamaged
from ilo.priors.base import Prior, State
from ilo.priors.corrected import Corrected, corrected
from ilo.problem import Problem
from ilo.settings import SolverSettings
from ilo.solver import Due, check_rounds, solve
from ilo.state import Step

TRUNCATION = 0.7


def inversion(settings: SolverSettings) -> SolverSettings:
    """Settings for inverting a photograph before a guided run: ILO's Quick preset, through all its rounds.

    Recipes of version 1, whose radii are absolute, were inverted over the latent code alone.
    """
    method = "csgm" if settings.scale == "absolute" else "ilo"
    return replace(preset("Quick", method, seed=settings.seed), covariance=settings.covariance)


def total_steps(settings: SolverSettings, photo: bool) -> int:
    """Number of optimisation steps of a guided run, including the inversion of a photograph."""
    return settings.total_steps + (inversion(settings).total_steps if photo else 0)


def morph(
    prior: Prior,
    guidance: Guidance,
    settings: SolverSettings,
    photo: Tensor | None = None,
    due: Due | None = None,
    due_result: Due | None = None,
    stop_at: int | None = None,
    run_by: str | None = None,
) -> Iterator[Step]:
    """Morph a face towards the classes of `guidance`.

    Args:
        prior: the generative prior.
        guidance: classifier and target classes.
        settings: settings of the guided run, for example from `morph_preset`.
        photo: photograph [1, 3, R, R] in [−1, 1], inverted first by ILO; None starts from a face drawn with the
            settings' seed.
        due, due_result, stop_at, run_by: as in `ilo.solve`; the steps of the inversion count as well.

    Yields:
        The steps of the inversion, marked `inverting`, then those of the guided run. `done` and `total` count both.
        `step` and `steps` count all rounds of the inversion as one search.
    """
    check_rounds(prior, settings)
    total = total_steps(settings, photo is not None)
    before = total - settings.total_steps
    count = max(1, len(settings.radius_scales))
    if photo is None:
        start = prior.sample(settings.seed, settings, TRUNCATION)
    else:
        found: dict[int, State] = {}  # the best state of each round
        problem = Problem(undamaged(prior.resolution), photo)
        for step in solve(prior, problem, inversion(settings), due, None, due_result, stop_at=stop_at, run_by=run_by):
            if step.result is not None:
                found[step.round] = step.result.state.to(prior.device)
            yield replace(step, step=step.done, steps=before, total=total, inverting=True)
        if stop_at is not None and stop_at <= before:
            return
        prior, start = corrected(prior, list(found.values()), settings)
    guidance = replace(guidance, batch=count)
    end = None if stop_at is None else stop_at - before
    for step in solve(prior, guidance, settings, due, None, due_result, start.expand(count), end, run_by):
        result = step.result
        if isinstance(prior, Corrected) and result is not None:
            result = replace(result, state=_plain(prior, result.state, settings))
        yield replace(step, done=before + step.done, total=total, first=before + step.first, result=result)


@torch.no_grad()
def _plain(prior: Corrected, state: State, settings: SolverSettings) -> State:
    """The state behind the last correction, so that the generator alone renders the picture from it."""
    layer = max(state.layer, prior.last)
    return prior.in_format(settings.dtype).enter(state.to(prior.device), layer, settings).cpu()
