"""From a run to what the page shows of it."""

from __future__ import annotations

import html
import math
import time

import numpy as np
import torch

from ilo import metrics
from ilo.models import Model
from ilo.problem import Problem
from ilo.recorder import TRACE_HEADER, Recorder
from ilo.settings import SolverSettings
from ilo.state import Result, to_uint8
from ilo.ui import plots, text
from ilo.ui.controls import elements
from ilo.ui.runs import Run

UNIT = 4.0  # squared errors on [−1, 1] are four times those on [0, 1], which the page reports


def panel(headline: str, sentence: str, *parts: str) -> str:
    """The column on the right."""
    head = f'<h3 class="headline" aria-live="polite">{html.escape(headline)}</h3>'
    return f'<div class="panel">{head}<p class="sentence">{html.escape(sentence)}</p>{"".join(parts)}</div>'


def section(title: str, content: str) -> str:
    return f"<section><h4>{html.escape(title)}</h4>{content}</section>"


def idle(perceptual: bool) -> str:
    """The right column before the first run."""
    steps = "".join(f"<li><b>{html.escape(name)}.</b> {html.escape(words)}</li>" for name, words in text.HOW)
    note = text.PERCEPTUAL_ON if perceptual else text.PERCEPTUAL_OFF
    return panel(
        text.READY,
        text.READY_HELP,
        section("How it works", f"<ol class='how'>{steps}</ol>"),
        f'<p class="fine">{html.escape(note)}</p>',
    )


def measured(problem: Problem) -> np.ndarray:
    """The measurement as a picture, uint8 [R, R, 3]."""
    return to_uint8(problem.operator.picture(problem.y))[0]


def truth(problem: Problem) -> np.ndarray | None:
    return None if problem.truth is None else to_uint8(problem.truth)[0]


@torch.no_grad()
def residual(problem: Problem, result: Result) -> tuple[np.ndarray, str]:
    """What the reconstruction leaves unexplained of the measurement, as a picture, and what that picture shows."""
    operator = problem.operator
    difference = problem.y - operator(result.image.to(problem.y.device))
    if len(operator.measurement_shape) == 1:
        return to_uint8(operator.picture(difference))[0], text.RESIDUAL_BACK_HELP
    return to_uint8(operator.picture((4 * difference).clamp(-1, 1)))[0], text.RESIDUAL_HELP


def before(problem: Problem) -> str:
    """The small pictures before a run."""
    pictures = [("measured", measured(problem), text.PREVIEW)]
    known = truth(problem)
    if known is not None:
        pictures.append(("truth", known, "The picture itself, which the solver never sees."))
    return plots.strip(pictures)


def pictures_of(run: Run) -> str:
    """The small pictures while and after a run: the problem and its solution, and the film of the rounds."""
    recorder, problem = run.recorder, run.order.problem
    if recorder is None:
        return before(problem)
    cells = [("measured", measured(problem), text.PREVIEW)]
    known = truth(problem)
    if not run.live and recorder.result is not None:
        cells.append(("reconstruction", to_uint8(recorder.result.image)[0], "The best picture that was found."))
    if known is not None:
        cells.append(("truth", known, "The picture itself, which the solver never sees."))
    if not run.live and recorder.result is not None:
        pixels, help_ = residual(problem, recorder.result)
        cells.append((text.RESIDUAL, pixels, help_))
    film = [
        (text.film_label(name), pixels, f"The best picture at the end of: {name}.") for name, pixels in recorder.film
    ]
    if not run.live and not recorder.complete and recorder.result is not None:
        film.append(("stopped", to_uint8(recorder.result.image)[0], "The best picture when the run was stopped."))
    return plots.strip(cells) + plots.strip(film, "film")


class Progress:
    """What is going on in a run, in words, numbers and drawings."""

    def __init__(self, run: Run, model: Model):
        self._run, self._model = run, model

    def stage(self) -> str:
        step = self._run.step
        assert step is not None
        badge = text.headline(step.round, len(self._settings.rounds))
        return plots.stage(step.preview, badge, "The reconstruction so far")

    def bar(self) -> str:
        step = self._run.step
        assert step is not None
        elapsed = time.monotonic() - self._run.started
        left = elapsed / step.done * (step.total - step.done) if step.done else math.nan
        return plots.progress(step.done / step.total, text.remaining(left) if step.done else "starting", "running")

    def panel(self) -> str:
        step = self._run.step
        assert step is not None
        plan = self._settings.rounds[step.round]
        rho = plan.radius_features if math.isfinite(plan.radius_features) else None
        p = elements(self._model, step.round)["radius_features"]
        return panel(
            text.headline(step.round, len(self._settings.rounds)), text.sentence(step.round, rho, p), *self._drawings()
        )

    def final(self) -> str:
        """The panel after the run."""
        run, recorder, step = self._run, self._run.recorder, self._run.step
        assert recorder is not None
        assert recorder.result is not None
        assert step is not None
        stopped = run.status != "done"
        done = recorder.stopped_at if stopped and recorder.stopped_at is not None else step.done
        headline, sentence = text.finished(stopped, done, step.total, run.ended - run.started)
        note = "" if recorder.recipe.perceptual else f'<p class="fine">{html.escape(text.PERCEPTUAL_SHORT)}</p>'
        return panel(headline, sentence, _scores(run.order.problem, recorder.result), *self._drawings(), note)

    @property
    def _settings(self) -> SolverSettings:
        return self._run.order.settings

    def _drawings(self) -> tuple[str, str]:
        recorder, step = self._run.recorder, self._run.step
        assert recorder is not None
        assert step is not None
        boundaries, done = [], 0
        for plan in self._settings.rounds:
            boundaries.append(done)
            done += plan.total_steps
        names = {k: text.layer_size(k) for k in range(len(self._settings.rounds)) if k or len(boundaries) == 1}
        bars = plots.ball_bars({name: self._run.usage.get(k, {}) for k, name in names.items()})
        return section("Measured error", _curve(recorder, step.total, boundaries)), section("Balls in use", bars)


def _curve(recorder: Recorder, total: int, boundaries: list[int]) -> str:
    trace = recorder.trace
    done, error = TRACE_HEADER.index("done"), TRACE_HEADER.index("mse")
    return plots.loss_chart(trace[:, done], trace[:, error] / UNIT, total, boundaries)


def _scores(problem: Problem, result: Result) -> str:
    """The errors on the [0, 1] scale: the measured one, and the true ones where the truth is known."""
    with torch.no_grad():
        residual_ = problem.operator(result.image) - problem.y
    fit = float(residual_.square().sum()) / problem.operator.normaliser / UNIT
    if problem.truth is None:
        return section("Scores", plots.table(["MSE"], [("measured", [_number(fit)])]))
    mask = problem.operator.mask
    hole = None if mask is None or bool(mask.all()) else 1 - mask
    scores = metrics.report(result.image, problem.truth, hole)
    rows = [("measured", [_number(fit), "", ""]), ("true", _three(scores, ""))]
    if hole is not None:
        rows.append(("true, hole alone", _three(scores, "_hole")))
    return section("Scores", plots.table(["MSE", "PSNR", "SSIM"], rows))


def _three(scores: dict[str, float], suffix: str) -> list[str]:
    ssim = scores.get(f"ssim{suffix}")
    return [
        _number(scores[f"mse{suffix}"]),
        f"{scores[f'psnr{suffix}']:.1f} dB",
        "–" if ssim is None else f"{ssim:.3f}",
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"
