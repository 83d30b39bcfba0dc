"""What the page shows of a run."""

from __future__ import annotations

import html
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ilo.photos.faces import Placed
from ilo.photos.pictures import from_uint8
from ilo.photos.portraits import CORNERS
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records import metrics, scores
from ilo.records.recorder import TRACE_HEADER, Recorder
from ilo.settings import SolverSettings
from ilo.state import Result, Step, to_uint8
from ilo.ui import text
from ilo.ui.parts import plots, sharing
from ilo.ui.parts.network import Node, network
from ilo.ui.parts.timeline import Tile, timeline
from ilo.ui.runs.order import Order, Run

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


def before(order: Order) -> str:
    """The line before a run: the input, a place for each round, and the truth."""
    assert isinstance(order.problem, Problem)
    return timeline(_framed(order.problem, _to_come(order, 0)), "before")


def film(run: Run) -> list[Tile]:
    """The best picture at the start, after each round, and at the step where a run was stopped."""
    recorder, tiles = run.recorder, []
    assert recorder is not None
    problem = run.order.problem if isinstance(run.order.problem, Problem) else None
    frames = [(text.film_label(name), pixels) for name, pixels in recorder.film]
    stopped = not run.live and not recorder.complete and recorder.result is not None
    if stopped and recorder.result is not None:
        frames.append(("stopped", to_uint8(recorder.result.image)[0]))
    for label, pixels in frames:
        score = "" if problem is None else _score(problem, pixels)
        tiles.append(Tile(label, plots.data_uri(pixels), text.film_help(label), score))
    if run.live:
        return tiles + _to_come(run.order, len(tiles), now=True)
    return [*tiles[:-1], replace(tiles[-1], right=True)] if tiles else []


def _to_come(order: Order, done: int, now: bool = False) -> list[Tile]:
    """Places for the pictures of a run that follow the first `done`; `now`: it is on its way to the next."""
    inverted = not isinstance(order.problem, Problem) and order.input_image is not None
    names = ["start", "inverted"] if inverted else ["start"]
    for k, plan in enumerate(order.settings.rounds, order.settings.first_layer):
        name = "pixels" if order.settings.method == "pixels" else f"round {k}"
        names += [name if i == 0 else f"{name}, search {i + 1}" for i in range(plan.outer_iterations)]
    labels = [text.film_label(name) for name in names[done:]]
    return [Tile(label, None, text.film_help(label), now=now and i == 0) for i, label in enumerate(labels)]


def _framed(problem: Problem, rounds: Sequence[Tile], compared: bool = False) -> list[Tile]:
    """The rounds between the input and the truth."""
    tiles = [Tile(text.MEASURED, plots.data_uri(measured(problem)), text.PREVIEW, left=compared), *rounds]
    known = truth(problem)
    if known is not None:
        tiles.append(Tile(text.TRUTH_LABEL, plots.data_uri(known), text.TRUTH_HELP))
    return tiles


@torch.no_grad()
def _score(problem: Problem, pixels: np.ndarray) -> str:
    """The PSNR of a picture, uint8 [R, R, 3]; without a truth, its fit to the input."""
    image = from_uint8(pixels[None])
    if problem.truth is not None:
        return text.decibels(metrics.report(image, problem.truth)["psnr"])
    return f"fit {_number(scores.fit(problem, image))}"


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
        run, recorder, problem = self._run, self._run.recorder, self._problem
        if recorder is None:
            return before(run.order)
        tiles = _framed(problem, film(run), compared=not run.live)
        if not run.live and recorder.result is not None:
            pixels, help_ = residual(problem, recorder.result)
            tiles.append(Tile(text.RESIDUAL, plots.data_uri(pixels), help_))
        return timeline(tiles, f"{id(run)} {run.live}")

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
        searched = range(self._settings.first_layer, self._settings.first_layer + len(self._settings.rounds))
        nodes = [
            Node(
                "code" if k == 0 else str(4 * 2**k),
                text.capitalized(text.layer_size(k)),
                self._run.usage.get(k, {}),
                k in searched,
                self._run.live and k == self._step.round,
            )
            for k in range(self._model.layers)
        ]
        return section("Share of the allowed change used", network(nodes))

    def _drawings(self) -> tuple[str, ...]:
        recorder = self._run.recorder
        assert recorder is not None
        title = f"Fit to the input ({text.MSE})"
        chart = curve(recorder, "mse", scores.UNIT * MILLI, self._step.total, self._boundaries(), title)
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
    found = scores.of_picture(problem, result.image)
    if problem.truth is None:
        return section("Scores", plots.table([text.MSE], [(text.FIT, [_number(found["fit"])])]))
    rows = [(text.FIT, [_number(found["fit"]), "", ""]), (text.TRUE, _three(found, ""))]
    if "mse_hole" in found:
        rows.append((text.TRUE_HOLE, _three(found, "_hole")))
    return section("Scores", plots.table([text.MSE, "PSNR", "SSIM"], rows))


def _three(found: dict[str, float], suffix: str) -> list[str]:
    ssim = found.get(f"ssim{suffix}")
    return [
        _number(found[f"mse{suffix}"]),
        f"{found[f'psnr{suffix}']:.1f} dB",
        "–" if ssim is None else f"{ssim:.3f}",
    ]


def _number(mse: float) -> str:
    """An MSE in units of 10⁻³, with two decimals or, below 0.1, three."""
    return f"{mse / MILLI:.2f}" if mse >= 0.1 * MILLI else f"{mse / MILLI:.3f}"
