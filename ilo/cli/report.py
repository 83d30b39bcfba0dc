"""The lines that `solve` prints about its result."""

from __future__ import annotations

import torch
from torch import Tensor

from ilo.guidance import Guidance
from ilo.objective import data_fidelity
from ilo.problem import Problem
from ilo.records import metrics
from ilo.state import Result

NAMES = {"mse": "MSE {:.2f} × 10⁻³", "psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}"}


def lines(problem: Problem | Guidance, result: Result) -> list[str]:
    """The errors against the truth, on the [0, 1] scale, or the classes of a morph.

    Several answers get one line each, with their fit to the input, and a last one for their mean.
    """
    if isinstance(problem, Guidance):
        (top,) = problem.classifier.top(result.image)
        return [f"{problem.classifier.name} sees " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in top)]
    if result.samples > 1:
        pictures = [*result.image.split(1), result.mean]
        width = len(f"answer {result.samples}")
        names = [*(f"answer {n}" for n in range(1, result.samples + 1)), "mean"]
        return [
            f"{name.ljust(width)}  {_fit(problem, image)}{_after_fit(problem, image)}"
            for name, image in zip(names, pictures, strict=True)
        ]
    if problem.truth is None:
        return ["The truth is not known, so there are no errors to report."]
    return [_errors(problem, problem.truth, result.image)]


def _after_fit(problem: Problem, image: Tensor) -> str:
    return "" if problem.truth is None else f"; {_errors(problem, problem.truth, image)}"


@torch.no_grad()
def _fit(problem: Problem, image: Tensor) -> str:
    """The data term of one picture [1, 3, R, R], on the [0, 1] scale like the errors."""
    expected = problem.to(image.device).expected(image)
    fit = float(data_fidelity(expected - problem.y.to(image.device), problem.operator.normaliser)) / 4
    return f"fit {1e3 * fit:.2f} × 10⁻³"


def _errors(problem: Problem, truth: Tensor, image: Tensor) -> str:
    """The errors of one picture [1, 3, R, R], for inpainting also those in the hole."""
    mask = problem.operator.mask
    fits = mask is not None and mask.shape[-1] == truth.shape[-1] and bool((mask < 1).any())
    values = metrics.report(image, truth, 1 - mask if mask is not None and fits else None)
    values |= {name: 1e3 * value for name, value in values.items() if name.startswith("mse")}
    line = ", ".join(words.format(values[name]) for name, words in NAMES.items() if name in values)
    hole = ", ".join(words.format(values[f"{name}_hole"]) for name, words in NAMES.items() if f"{name}_hole" in values)
    return f"{line}; in the hole {hole}" if hole else line
