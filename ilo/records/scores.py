"""The numbers that rate the result of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ilo.guidance import Guidance
from ilo.objective import data_fidelity
from ilo.problem import Problem
from ilo.records import metrics
from ilo.state import Result

UNIT = 4.0  # squared errors on [−1, 1] are four times those on [0, 1]
SEEN = 5  # classes whose probabilities are given


def scores(problem: Problem | Guidance, result: Result) -> dict[str, Any]:
    """Rate a run on one picture.

    Returns:
        For one answer, the entries of `of_picture`. For several, "answers" has them for each one and "mean" for their
        mean. For a morph, "probabilities" has the classifier's five most probable classes and the wanted ones.
    """
    if isinstance(problem, Guidance):
        guide = problem.classifier
        (ranked,) = guide.top(result.image[:1], len(guide.names))
        wanted = {guide.names[i] for i in problem.targets}
        kept = [pair for n, pair in enumerate(ranked) if n < SEEN or pair[0] in wanted]
        return {"classifier": guide.name, "probabilities": {name: float(p) for name, p in kept}}
    if result.samples == 1:
        return dict(of_picture(problem, result.image))
    answers = [of_picture(problem, image) for image in result.image.split(1)]
    return {"answers": answers, "mean": of_picture(problem, result.mean)}


def of_picture(problem: Problem, image: Tensor) -> dict[str, float]:
    """Rate one picture [1, 3, R, R] in [−1, 1], with pixel values from 0 to 1.

    Returns:
        "fit", see there. Where the truth is known, the entries of `metrics.report`, too.
    """
    found = {"fit": fit(problem, image)}
    if problem.truth is None:
        return found
    return found | metrics.report(image.to(problem.truth.device), problem.truth, hole_of(problem))


@torch.no_grad()
def fit(problem: Problem, image: Tensor) -> float:
    """The data term of the solver for one picture [1, 3, R, R], with pixel values from 0 to 1."""
    residual = problem.expected(image.to(problem.y.device)) - problem.y
    return float(data_fidelity(residual, problem.operator.normaliser)) / UNIT


def hole_of(problem: Problem) -> Tensor | None:
    """The hidden part of the picture, [1, 1, R, R] with 1 = hidden; None if nothing is hidden."""
    mask = problem.operator.mask
    if mask is None or problem.truth is None or mask.shape[-1] != problem.truth.shape[-1] or bool(mask.all()):
        return None
    return 1 - mask
