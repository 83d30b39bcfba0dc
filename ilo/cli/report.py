"""The lines that `solve` prints about its result."""

from __future__ import annotations

from torch import Tensor

from ilo.guidance import Guidance
from ilo.problem import Problem
from ilo.records import scores
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
        return [f"{name.ljust(width)}  {_answer(problem, image)}" for name, image in zip(names, pictures, strict=True)]
    if problem.truth is None:
        return ["The truth is not known, so there are no errors to report."]
    return [_errors(scores.of_picture(problem, result.image))]


def _answer(problem: Problem, image: Tensor) -> str:
    """The fit of one picture [1, 3, R, R], and its errors if the truth is known."""
    found = scores.of_picture(problem, image)
    fit = f"fit {1e3 * found['fit']:.2f} × 10⁻³"
    return fit if problem.truth is None else f"{fit}; {_errors(found)}"


def _errors(found: dict[str, float]) -> str:
    """The errors of one picture, for inpainting also those in the hole."""
    values = found | {name: 1e3 * value for name, value in found.items() if name.startswith("mse")}
    line = ", ".join(words.format(values[name]) for name, words in NAMES.items() if name in values)
    hole = ", ".join(words.format(values[f"{name}_hole"]) for name, words in NAMES.items() if f"{name}_hole" in values)
    return f"{line}; in the hole {hole}" if hole else line
