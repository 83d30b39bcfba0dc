"""The handlers of the Morph tab, and what it shows of a run."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from ilo.classifiers.classifier import Classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.morph import TRUNCATION
from ilo.photos.pictures import SMALLEST_SIDE, PictureError, from_uint8, to_tensor
from ilo.priors.load import Model
from ilo.settings import RoundSettings, SettingsError, SolverSettings, check_choice
from ilo.state import to_uint8
from ilo.ui import text
from ilo.ui.bench import Bench, sentence
from ilo.ui.examples import Example
from ilo.ui.parts import painter, photographs, plots, sharing, views
from ilo.ui.parts.controls import RADII, radius_position, seed
from ilo.ui.parts.fields import number, whole
from ilo.ui.parts.photographs import Places, Source
from ilo.ui.parts.timeline import timeline
from ilo.ui.runs.line import Runs
from ilo.ui.runs.order import Order, Run
from ilo.ui.visitors.visitors import Visitors

NOBODY = "—"  # no second class
SEEN = 5  # classes whose probabilities are shown
MOSAIC_LABELS = tuple(text.SWEEP_SCALES.values())[1:]  # of the four tiles, row by row


def slider_names(settings: SolverSettings) -> list[str]:
    """The names of the sliders of the rounds' radii."""
    if settings.method == "pixels":
        return ["pixels.radius"]
    return [f"{k}.radius" for k in range(len(settings.rounds))]


def radius_name(settings: SolverSettings, k: int) -> str:
    """The radius that slider k moves: of the latent code in round 0, of the features (or the pixels) in others."""
    return "radius_features" if settings.first_layer + k else "radius_latents"


def radius_of(settings: SolverSettings, k: int) -> float:
    """The radius of slider k."""
    return getattr(settings.rounds[k], radius_name(settings, k))


def _with_radius(plan: RoundSettings, name: str, radius: float) -> RoundSettings:
    changed: dict[str, Any] = {name: radius}
    return replace(plan, **changed)


def _chosen(position: Any, exact: float) -> float:
    """The radius at a slider's position; `exact`, the preset's, while the slider has not been moved."""
    place = whole("A radius", position)
    if not 0 <= place < len(RADII):
        raise SettingsError(f"A radius must be at a position from 0 to {len(RADII) - 1}, not {place}.")
    return exact if place == radius_position(exact) else RADII[place]


def class_names(guide: Classifier) -> list[str]:
    """The classes of a classifier, sorted."""
    return sorted(set(guide.names))


class Morph(Bench):
    """The Morph tab of one page, for all its visitors.

    Args:
        model, runs, cache, visitors: see `Bench`.
        guides: name → classifier, at least one.
        example: the photograph that is used until the user uploads one.
    """

    def __init__(
        self,
        model: Model,
        guides: dict[str, Classifier],
        example: Example,
        runs: Runs,
        cache: Path,
        visitors: Visitors | None = None,
    ):
        super().__init__(model, runs, cache, visitors)
        self.guides = guides
        self.first = Source(example.name, example.image)

    # The start.

    def upload(self, values: dict[str, Any], session: str, path: str | None) -> tuple[Any, ...]:
        """The user uploaded a picture. → source, painter, photograph, start, stage, strips, progress, notice."""
        self.choosing(session)
        try:
            return self._choose(values, session, photographs.read(path, self.model, SMALLEST_SIDE, damaged=False))
        except Exception as error:
            return *(gr.skip(),) * 7, plots.notice(sentence(error))
        finally:
            self.received(path)

    def classes(self, name: str, wanted: str | None, second: str | None) -> tuple[Any, ...]:
        """The user chose another classifier; classes that it also knows stay chosen. → class, second class."""
        if name not in self.guides:
            return gr.skip(), gr.skip()
        names = class_names(self.guides[name])
        return (
            gr.Dropdown(names, value=wanted if wanted in names else names[0]),
            gr.Dropdown([NOBODY, *names], value=second if second in names else NOBODY),
        )

    def rechoose(self, values: dict[str, Any], session: str, data: Any) -> tuple[Any, ...]:
        """The user chose another part of the photograph. → as `upload`."""
        self.choosing(session)
        try:
            return self._choose(values, session, photographs.choose(values["source"], data, self.model))
        except Exception as error:
            photo, notice = self.complaint(values, error)
            return gr.skip(), gr.skip(), photo, *(gr.skip(),) * 4, notice

    def _choose(self, values: dict[str, Any], session: str, source: Source) -> tuple[Any, ...]:
        self.keep(session, source)
        drawn = painter.first_value(self.model, source.name)
        values = {**values, "source": source, "painter": drawn, "start": "photo"}
        canvas = gr.HTML(value=drawn, picture=painter.shown(source.image, source.name, self.model))
        photo = gr.HTML(photo=photographs.shown(source, self.model))
        return source, canvas, photo, "photo", *self.preview(values, session)

    def photo(self, values: dict[str, Any]) -> tuple[torch.Tensor | None, Places]:
        """The cropped photograph [1, 3, R, R] (None for a generated face), and its place in the uploaded photograph."""
        if values["start"] != "photo":
            return None, (None, None)
        source = values["source"] or self.first
        name, crop, _ = painter.read_value(values["painter"], painter.grid_of(self.model))
        if source.name != name:
            raise PictureError(text.GONE)
        image, part = source.picture(crop)
        return to_tensor(image, self.model.resolution, part), source.placed(crop, self.model.resolution)

    def first_picture(self, values: dict[str, Any]) -> np.ndarray:
        """The starting picture of a run, uint8 [R, R, 3]."""
        photo, _ = self.photo(values)
        if photo is not None:
            return to_uint8(photo)[0]
        settings = morph_preset(layers=self.model.layers, seed=seed(values["seed"]))
        with torch.no_grad():
            state = self.model.sample(settings.seed, settings, TRUNCATION)
            return to_uint8(self.model.render(state, settings))[0]

    def preview(self, values: dict[str, Any], session: str) -> tuple[Any, ...]:
        """Show the starting picture of the run. → stage, strips, progress, notice."""
        if self.busy(session):
            return (gr.skip(),) * 4
        try:
            picture = self.first_picture(values)
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), plots.notice(sentence(error))
        return plots.stage(picture, text.MORPH_PREVIEW, text.MORPH_PREVIEW), "", "", ""

    # A run.

    def settings(self, values: dict[str, Any]) -> SolverSettings:
        """The solver settings in the controls. Raises `SettingsError`."""
        layers = self.model.layers
        base = morph_preset(values["preset"], values["method"], layers=layers, seed=seed(values["seed"]))
        names = slider_names(base)
        plans = (
            _with_radius(plan, radius_name(base, k), _chosen(values[names[k]], radius_of(base, k)))
            for k, plan in enumerate(base.rounds)
        )
        return replace(base, rounds=tuple(plans))

    def order(self, values: dict[str, Any]) -> tuple[Order, list[str]]:
        check_choice("The classifier", values["guide"], tuple(self.guides))
        if not values["class"]:
            raise SettingsError("Choose a target class.")
        classes = {values["class"]: 1.0}
        if values["second"] not in (None, NOBODY, values["class"]):
            share = number("Share of the second class", values["share"]) / 100
            if not 0 < share < 1:
                raise SettingsError(f"Share of the second class must be 1 to 99 %, not {100 * share:g} %.")
            classes = {values["class"]: 1 - share, values["second"]: share}
        settings = self.settings(values)
        if values.get("sweep"):
            settings = replace(settings, radius_scales=tuple(text.SWEEP_SCALES))
        photo, (placed, shown) = self.photo(values)
        guidance = Guidance(self.guides[values["guide"]], classes)
        return Order(guidance, settings, photo, False, self.model.id, placed=placed, shown=shown), []

    def sweep(self, values: dict[str, Any], session: str) -> Iterator[tuple[Any, ...]]:
        """The same run with five radii. → as `run`."""
        yield from self.run({**values, "sweep": True}, session)

    def before(self, order: Order) -> str:
        return ""

    def owns(self, run: Run) -> bool:
        return isinstance(run.order.problem, Guidance)

    def progress(self, run: Run) -> MorphProgress:
        return MorphProgress(run, self.model)


class MorphProgress(views.Progress):
    """The state of a guided run as text, numbers and drawings."""

    @property
    def _guidance(self) -> Guidance:
        assert isinstance(self._run.order.problem, Guidance)
        return self._run.order.problem

    @property
    def _sweeping(self) -> bool:
        return len(self._step.previews) > 1

    def headline(self) -> str:
        step, settings = self._step, self._settings
        if step.inverting:
            return text.INVERTING
        if settings.method == "pixels":
            return "Pixels"
        return text.headline(step.round, len(settings.rounds))

    def stage(self) -> str:
        if self._sweeping:
            return plots.stage(_mosaic(self._step.previews), self.headline(), text.MOSAIC, MOSAIC_LABELS)
        return plots.stage(self._step.preview, self.headline(), "The face so far")

    def pictures(self) -> str:
        if not self._sweeping:
            tiles = views.film(self._run)
            if not self._run.live:
                tiles[self._begins] = replace(tiles[self._begins], left=True)
            return timeline(tiles, f"{id(self._run)} {self._run.live}", "From the start to the result")
        cells = zip(text.SWEEP_SCALES.values(), self._step.previews, strict=True)
        return plots.strip([(label, pixels, f"Every radius {label}.") for label, pixels in cells])

    def panel(self) -> str:
        step = self._step
        if step.inverting:
            return views.panel(self.headline(), text.INVERTING_HELP)
        if self._sweeping:
            return views.panel(self.headline(), text.SWEEP_HELP, self._compared())
        words = text.PIXELS_HELP if self._settings.method == "pixels" else self._sentence()
        return views.panel(self.headline(), words, self._seen(), *self._drawings())

    def final_stage(self) -> str:
        recorder = self._run.recorder
        assert recorder is not None
        assert recorder.result is not None
        if self._sweeping:
            return plots.stage(_mosaic(to_uint8(recorder.result.image)), "", text.MOSAIC, MOSAIC_LABELS)
        start, after = self._start_and_result()
        return self._in_photograph(plots.compare(start, after, "start", self._guidance.title))

    def final_panel(self) -> str:
        run, recorder = self._run, self._run.recorder
        assert recorder is not None
        assert recorder.result is not None
        stopped = run.status != "done"
        if self._sweeping:
            return views.panel("Stopped" if stopped else "Done", text.SWEEP_DONE, self._compared())
        (probabilities,) = self._probabilities()
        headline, words = text.morph_finished(stopped, probabilities)
        start, after = self._start_and_result()
        distance = float(np.linalg.norm((after / 255 - start / 255).ravel()))
        changed = f'<p class="fine">{html.escape(text.changed_by(distance, after.size))}</p>'
        link = sharing.links(recorder, self._model)
        return views.panel(headline, words, changed, self._seen(), *self._drawings(), *self._saved(), link)

    def _start_and_result(self) -> tuple[np.ndarray, np.ndarray]:
        """The pictures before and after, uint8 [R, R, 3]; a photograph's start is its inversion."""
        recorder = self._run.recorder
        assert recorder is not None
        assert recorder.result is not None
        return recorder.film[self._begins][1], to_uint8(recorder.result.image)[0]

    @property
    def _begins(self) -> int:
        """Index of the start in the film."""
        recorder = self._run.recorder
        assert recorder is not None
        return int(self._run.order.input_image is not None and len(recorder.film) > 1)

    def _sentence(self) -> str:
        return super()._sentence() if self._step.round else text.MORPH_CODE_HELP

    def _probabilities(self) -> list[dict[str, float]]:
        """For each picture that is shown: wanted class → its probability."""
        guide = self._guidance.classifier
        with torch.no_grad():
            rows = guide(from_uint8(self._step.previews)).softmax(1)
        return [{guide.names[i]: float(row[i]) for i in self._guidance.targets} for row in rows]

    def _compared(self) -> str:
        found = self._probabilities()
        cells = zip(text.SWEEP_SCALES.values(), found, strict=True)
        rows = [(label, [f"{100 * p:.0f} %" for p in wanted.values()]) for label, wanted in cells]
        return views.section("Probability at each radius", plots.table(list(found[0]), rows))

    def _seen(self) -> str:
        """The five most probable classes of the shown picture; the wanted classes are always among them."""
        guide, wanted = self._guidance.classifier, {self._guidance.classifier.names[i] for i in self._guidance.targets}
        (seen,) = guide.top(from_uint8(self._step.preview[None]), len(guide.names))
        missing = [pair for pair in seen[SEEN:] if pair[0] in wanted]
        return views.section(text.SEES, _bars([*seen[: SEEN - len(missing)], *missing], wanted))

    def _drawings(self) -> tuple[str, ...]:
        recorder = self._run.recorder
        assert recorder is not None
        chart = views.curve(recorder, "classifier", 1.0, self._step.total, self._boundaries(), "Classifier loss")
        drawn = (views.section("Classifier loss", chart),)
        return drawn if self._settings.method == "pixels" else (*drawn, self._balls())


def _bars(top: list[tuple[str, float]], wanted: set[str]) -> str:
    rows = "".join(
        f'<div class="seen{" wanted" if name in wanted else ""}"><span>{html.escape(name)}</span>'
        f'<span class="ball"><i style="width: {100 * p:.1f}%"></i></span><b>{100 * p:.0f} %</b></div>'
        for name, p in top
    )
    return f'<div class="seen-list">{rows}</div>'


def _mosaic(pictures: np.ndarray) -> np.ndarray:
    """uint8 [5, R, R, 3] → [2R, 2R, 3]: all but the first picture, whose radii are 0."""
    _, a, b, c, d = pictures
    return np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
