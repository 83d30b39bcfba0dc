"""What the page shows of a run."""

from __future__ import annotations

import html
import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from ilo.photos.faces import Placed
from ilo.photos.portraits import CORNERS
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records import metrics
from ilo.records.recorder import TRACE_HEADER, Recorder
from ilo.settings import SolverSettings
from ilo.state import Result, Step, to_uint8
from ilo.ui import text
from ilo.ui.parts import plots, sharing
from ilo.ui.runs.order import Run

UNIT = 4.0  # squared errors on [−1, 1] are four times those on [0, 1], which the page reports
MILLI = 1e-3  # the page shows the MSE in units of 10⁻³


def panel(headline: str, sentence: str, *parts: str) -> str:
    """The column on the right."""
    head = f'<h3 class="headline" aria-live="polite">{html.escape(headline)}</h3>'
    return f'<div class="panel">{head}<p class="sentence">{html.escape(sentence)}</p>{"".join(parts)}</div>'


def section(title: str, content: str) -> str:
    return f"<section><h4>{html.escape(title)}</h4>{content}</section>"


def idle(perceptual: str | None) -> str:
    """The Studio's right column before the first run; `perceptual` is the available distance, or None."""
    return panel(
        text.READY, text.READY_HELP, how(text.HOW), f'<p class="fine">{html.escape(text.PERCEPTUAL[perceptual])}</p>'
    )


def how(points: Sequence[tuple[str, str]]) -> str:
    steps = "".join(f"<li><b>{html.escape(name)}.</b> {html.escape(words)}</li>" for name, words in points)
    return section("How it works", f"<ol class='how'>{steps}</ol>")


def measured(problem: Problem) -> np.ndarray:
    """The measurement as a picture, uint8 [R, R, 3]."""
    return to_uint8(problem.operator.picture(problem.y))[0]


def truth(problem: Problem) -> np.ndarray | None:
    return None if problem.truth is None else to_uint8(problem.truth)[0]


@torch.no_grad()
def residual(problem: Problem, result: Result) -> tuple[np.ndarray, str]:
    """The residual as a picture, and a sentence that explains the picture."""
    operator = problem.operator
    difference = problem.y - operator(result.image.to(problem.y.device))
    if len(operator.measurement_shape) == 1:
        return to_uint8(operator.picture(difference))[0], text.RESIDUAL_BACK_HELP
    return to_uint8(operator.picture((4 * difference).clamp(-1, 1)))[0], text.RESIDUAL_HELP


def before(problem: Problem) -> str:
    """The small pictures before a run."""
    pictures = [(text.MEASURED, measured(problem), text.PREVIEW)]
    known = truth(problem)
    if known is not None:
        pictures.append((text.TRUTH_LABEL, known, text.TRUTH_HELP))
    return plots.strip(pictures)


def film(run: Run) -> str:
    """The best picture at the start, after each round, and at the step where a run was stopped."""
    recorder = run.recorder
    assert recorder is not None
    frames = [
        (text.film_label(name), pixels, f"The best picture at the end of: {name}.") for name, pixels in recorder.film
    ]
    if not run.live and not recorder.complete and recorder.result is not None:
        frames.append(("stopped", to_uint8(recorder.result.image)[0], "The best picture when the run was stopped."))
    return plots.strip(frames, "film")


class Progress:
    """The state of a run as text, numbers and drawings."""

    def __init__(self, run: Run, model: Model):
        self._run, self._model = run, model

    @property
    def _problem(self) -> Problem:
        assert isinstance(self._run.order.problem, Problem)
        return self._run.order.problem

    def pictures(self) -> str:
        """The small pictures during and after a run: the problem, its solution, and one picture per round."""
        recorder, problem = self._run.recorder, self._problem
        if recorder is None:
            return before(problem)
        found = None if self._run.live else recorder.result
        cells = [(text.MEASURED, measured(problem), text.PREVIEW)]
        known = truth(problem)
        if found is not None:
            cells.append(("reconstruction", to_uint8(found.image)[0], "The best picture that the solver found."))
        if known is not None:
            cells.append((text.TRUTH_LABEL, known, text.TRUTH_HELP))
        if found is not None:
            pixels, help_ = residual(problem, found)
            cells.append((text.RESIDUAL, pixels, help_))
        return plots.strip(cells) + film(self._run)

    def final_stage(self) -> str:
        recorder = self._run.recorder
        assert recorder is not None
        assert recorder.result is not None
        found = to_uint8(recorder.result.image)[0]
        return self._in_photograph(plots.compare(measured(self._problem), found, text.MEASURED, "reconstruction"))

    def _in_photograph(self, crop: str) -> str:
        """The comparison `crop`; for a face cut out of a photograph, also the comparison of the whole photograph."""
        shown, recorder = self._run.order.shown, self._run.recorder
        if shown is None:
            return crop
        assert recorder is not None
        assert recorder.result is not None
        after = shown.with_result(to_uint8(recorder.result.image)[0])
        photo = plots.compare(shown.photo(), after, *text.PHOTO_COMPARED, cut=_beside(shown))
        return plots.switched([(text.CROP_VIEW, crop), (text.PHOTO_VIEW, photo)])

    def stage(self) -> str:
        return plots.stage(self._step.preview, self.headline(), "The reconstruction so far")

    def bar(self) -> str:
        step = self._step
        elapsed = time.monotonic() - self._run.started
        left = elapsed / step.done * (step.total - step.done) if step.done else math.nan
        return plots.progress(step.done / step.total, text.remaining(left) if step.done else "starting", "running")

    def headline(self) -> str:
        return text.headline(self._step.round, len(self._settings.rounds))

    def panel(self) -> str:
        return panel(self.headline(), self._sentence(), *self._drawings())

    def final_panel(self) -> str:
        """The panel after the run."""
        run, recorder, step = self._run, self._run.recorder, self._step
        assert recorder is not None
        assert recorder.result is not None
        stopped = run.status != "done"
        done = recorder.stopped_at if stopped and recorder.stopped_at is not None else step.done
        headline, sentence = text.finished(stopped, done, step.total, run.ended - run.started)
        note = f'<p class="fine">{html.escape(text.PERCEPTUAL_USED[recorder.recipe.perceptual])}</p>'
        link = sharing.links(recorder, self._model)
        return panel(
            headline, sentence, _scores(self._problem, recorder.result), *self._drawings(), note, *self._saved(), link
        )

    def _saved(self) -> list[str]:
        """A sentence about photo.png in the download, if the run used a photograph."""
        placed = self._run.order.placed is not None
        return [f'<p class="fine">{html.escape(text.PHOTO_SAVED)}</p>'] * placed

    @property
    def _settings(self) -> SolverSettings:
        return self._run.order.settings

    @property
    def _step(self) -> Step:
        assert self._run.step is not None
        return self._run.step

    def _sentence(self) -> str:
        step = self._step
        plan = self._settings.rounds[step.round - self._settings.first_layer]
        rho = plan.radius_features if math.isfinite(plan.radius_features) else None
        return text.sentence(step.round, rho)

    def _boundaries(self) -> list[int]:
        """The steps at which the rounds start."""
        begins = itertools.accumulate(self._settings.steps_of_rounds)
        before = self._step.total - self._settings.total_steps  # a photograph's inversion
        return [before, *(before + n for n in begins)][:-1]

    def _balls(self) -> str:
        layers = range(self._settings.first_layer, self._settings.first_layer + len(self._settings.rounds))
        # In a reconstruction, the latent code has no ball.
        shown = [k for k in layers if k or len(layers) == 1 or math.isfinite(self._settings.rounds[0].radius_latents)]
        usage = {text.layer_size(k): self._run.usage.get(k, {}) for k in shown}
        return section("Share of the allowed change used", plots.ball_bars(usage))

    def _drawings(self) -> tuple[str, ...]:
        recorder = self._run.recorder
        assert recorder is not None
        title = f"Fit to the input ({text.MSE})"
        chart = curve(recorder, "mse", UNIT * MILLI, self._step.total, self._boundaries(), title)
        return section(title, chart), self._balls()


def _beside(placed: Placed) -> int:
    """Divider position, in percent of the square that shows the photograph, that leaves the whole crop on its right."""
    height, width = placed.photo().shape[:2]
    edge = placed.alignment.to_photo(CORNERS)[:, 0].min() + (max(width, height) - width) / 2
    return round(min(max(100 * edge / max(width, height), 0), 50))


def curve(recorder: Recorder, term: str, unit: float, total: int, boundaries: list[int], name: str) -> str:
    """Chart of one term of the objective over the steps."""
    trace = recorder.trace
    done, error = TRACE_HEADER.index("done"), TRACE_HEADER.index(term)
    return plots.loss_chart(trace[:, done], trace[:, error] / unit, total, boundaries, name)


def _scores(problem: Problem, result: Result) -> str:
    """MSE on the [0, 1] scale: the fit to the input and, where the truth is known, the true errors."""
    with torch.no_grad():
        residual_ = problem.operator(result.image) - problem.y
    fit = float(residual_.square().sum()) / problem.operator.normaliser / UNIT
    if problem.truth is None:
        return section("Scores", plots.table([text.MSE], [(text.FIT, [_number(fit)])]))
    mask = problem.operator.mask
    hole = None if mask is None or bool(mask.all()) else 1 - mask
    scores = metrics.report(result.image, problem.truth, hole)
    rows = [(text.FIT, [_number(fit), "", ""]), (text.TRUE, _three(scores, ""))]
    if hole is not None:
        rows.append((text.TRUE_HOLE, _three(scores, "_hole")))
    return section("Scores", plots.table([text.MSE, "PSNR", "SSIM"], rows))


def _three(scores: dict[str, float], suffix: str) -> list[str]:
    ssim = scores.get(f"ssim{suffix}")
    return [
        _number(scores[f"mse{suffix}"]),
        f"{scores[f'psnr{suffix}']:.1f} dB",
        "–" if ssim is None else f"{ssim:.3f}",
    ]


def _number(mse: float) -> str:
    """An MSE in units of 10⁻³, with two decimals or, below 0.1, three."""
    return f"{mse / MILLI:.2f}" if mse >= 0.1 * MILLI else f"{mse / MILLI:.3f}"
