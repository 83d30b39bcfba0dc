"""The handlers of the Studio tab."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ilo.methods import METHODS
from ilo.operators import nominal
from ilo.photos import portraits
from ilo.photos.masks import fit_mask
from ilo.photos.pictures import PictureError, read_mask, to_picture
from ilo.photos.tasks import build_problem
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records.recipe import Shared
from ilo.settings import SettingsError
from ilo.ui import text
from ilo.ui.bench import Bench, sentence
from ilo.ui.examples import Example
from ilo.ui.parts import painter, photographs, player, plots, tasks, views
from ilo.ui.parts.controls import preset_fields, shared_values, solver_settings
from ilo.ui.parts.photographs import Source
from ilo.ui.runs.line import Runs
from ilo.ui.runs.order import Order, Run
from ilo.ui.studio import opening
from ilo.ui.studio.opening import Opened, opened_panel
from ilo.ui.visitors.visitors import Visitors


class Studio(Bench):
    """The Studio tab of one page, for all its visitors.

    Args:
        model, runs, cache, visitors: see `Bench`.
        examples: the pictures that the page offers.
    """

    def __init__(
        self, model: Model, examples: list[Example], runs: Runs, cache: Path, visitors: Visitors | None = None
    ):
        super().__init__(model, runs, cache, visitors)
        self.examples = examples
        self.first = Source(examples[0].name, examples[0].image)

    # Choosing the picture.

    def pick(self, values: dict[str, Any], session: str, index: Any) -> tuple[Any, ...]:
        """The user clicked an example. → source, painter, photograph, stage, strip, progress, notice."""
        if not isinstance(index, int) or not 0 <= index < len(self.examples):
            return *(gr.skip(),) * 6, plots.notice(text.GONE)
        example = self.examples[index]
        self.choosing(session)
        return self._choose(values, session, Source(example.name, example.image), example.crop)

    def upload(self, values: dict[str, Any], session: str, path: str | None) -> tuple[Any, ...]:
        """The user uploaded a picture. → as `pick`."""
        self.choosing(session)
        try:
            # The input of super-resolution may be tiny.
            source = photographs.read(path, self.model, smallest=2, damaged=values["truth"] == "given")
            return self._choose(values, session, source)
        except Exception as error:
            return *(gr.skip(),) * 6, plots.notice(sentence(error))
        finally:
            self.received(path)

    def rechoose(self, values: dict[str, Any], session: str, data: Any) -> tuple[Any, ...]:
        """The user chose another part of the photograph, or went back to the examples. → as `pick`."""
        if isinstance(data, dict) and data.get("choice") == "back":
            return self.pick(values, session, 0)
        self.choosing(session)
        try:
            return self._choose(values, session, photographs.choose(values["source"], data, self.model))
        except Exception as error:
            photo, notice = self.complaint(values, error)
            return gr.skip(), gr.skip(), photo, *(gr.skip(),) * 3, notice

    def _choose(
        self,
        values: dict[str, Any],
        session: str,
        source: Source,
        crop: tuple[float, float, float] = (0.5, 0.5, 1.0),
    ) -> tuple[Any, ...]:
        self.keep(session, source)
        drawn = painter.first_value(self.model, source.name, crop)
        seen = self.preview({**values, "source": source, "painter": drawn}, session)
        canvas = gr.HTML(value=drawn, picture=painter.shown(source.image, source.name, self.model, tasks.painting()))
        return source, canvas, gr.HTML(photo=photographs.shown(source, self.model)), *seen

    def upload_mask(self, path: str | None, value: Any, source: Source | None) -> tuple[Any, ...]:
        """The user uploaded a mask; one of the photograph's size is cropped like it. → painter, notice."""
        try:
            if path is None:
                raise PictureError(text.GONE)
            mask = read_mask(path)
            grid = painter.grid_of(self.model)
            _, crop, _ = painter.read_value(value, grid)
            height, width = mask.shape[-2:]
            part = source.part(crop) if source is not None else None
            if source is not None and source.photo and part is not None and source.photo.size == (width, height):
                fitted = portraits.mask_within(mask, part, grid)
                gr.Info(text.MASK_CUT)
            else:
                fitted, resized = fit_mask(mask, grid)
                if resized:
                    gr.Info(f"The mask was resized from {width}×{height} to {grid}×{grid} px.")
            return {**value, "mask": painter.pack(fitted, grid)}, ""
        except Exception as error:
            return gr.skip(), plots.notice(sentence(error))
        finally:
            self.received(path)

    # A link.

    def follow(self, query: Mapping[str, str], names: list[str]) -> tuple[list[Any], str]:
        """Values for the controls `names` from a link (skipped where it says nothing), and the panel's text."""
        unchanged = [gr.skip()] * len(names)
        if "task" not in query:
            return unchanged, ""
        try:
            values = self._linked(Shared.from_query(query, self.model), "link")
        except Exception as error:
            return unchanged, views.panel(text.READY, sentence(error))
        return [values.get(name, gr.skip()) for name in names], views.panel(text.READY, text.LINKED)

    def _linked(self, shared: Shared, what: str) -> dict[str, Any]:
        """The values of the controls for a link or a run. Raises `SettingsError` if they cannot show all settings."""
        operator = nominal(shared.task, self.model.resolution, shared.operator)
        values = shared_values(shared, self.model.layers)
        known = shared.task in tasks.offered() and shared.model == self.model.id and shared.settings.method in METHODS
        if not known or shared.measurement_seed or solver_settings(values, self.model, operator) != shared.settings:
            raise SettingsError(f"This page cannot show the settings of the {what}, so it ignores the {what}.")
        self.runs.check_steps(shared.settings.total_steps)
        self.runs.check_format(shared.settings.dtype)
        return values

    def reopen(self, values: dict[str, Any], session: str, path: str | None, names: list[str]) -> tuple[Any, ...]:
        """The user opened a saved run. → the controls `names`, panel, then as `pick`."""
        unchanged = [gr.skip()] * len(names)
        self.choosing(session)
        try:
            if path is None:
                raise PictureError(text.GONE)
            run = opening.read(Path(path), self.model)
            found = self._linked(run.shared, "run") | {"truth": "here" if run.recipe.damaged_here else "given"}
            chosen = self._reopened({**values, **found}, session, run)
            # Only after everything else has worked, so that a run is opened as a whole or not at all.
            return *(found.get(name, gr.skip()) for name in names), opened_panel(run), *chosen
        except Exception as error:
            return *unchanged, gr.skip(), *(gr.skip(),) * 6, plots.notice(sentence(error))
        finally:
            self.received(path)

    def _reopened(self, values: dict[str, Any], session: str, run: Opened) -> tuple[Any, ...]:
        """The picture and the mask of a saved run. → as `pick`."""
        if run.image is None:
            return *(gr.skip(),) * 3, *self.preview(values, session)
        source = Source(secrets.token_hex(8), to_picture(run.image))
        self.keep(session, source)
        drawn = painter.first_value(self.model, source.name)
        if run.mask is not None:
            drawn = {**drawn, "mask": painter.pack(run.mask, painter.grid_of(self.model))}
        seen = self.preview({**values, "source": source, "painter": drawn}, session)
        canvas = gr.HTML(value=drawn, picture=painter.shown(source.image, source.name, self.model, tasks.painting()))
        return source, canvas, gr.HTML(photo=None), *seen

    # The advanced settings.

    def fill(self, values: dict[str, Any], fields: list[str]) -> list[Any]:
        """The user chose a task, one of its settings, a method or a preset. → the controls `fields`."""
        try:
            found = preset_fields(values, self.model)
        except SettingsError:  # the preview tells it
            return [gr.skip()] * len(fields)
        return [found[name] for name in fields]

    # Before a run.

    def order(self, values: dict[str, Any]) -> tuple[Order, list[str]]:
        """The problem that the controls describe, and sentences about changes to the input.

        Raises:
            SettingsError, PictureError: with a sentence for the user.
        """
        task = values["task"]
        name, crop, mask = painter.read_value(values["painter"], painter.grid_of(self.model))
        source = values["source"] or self.first
        # The server may have dropped this session while its tab stayed open; do not solve another picture instead.
        if source.name != name:
            raise PictureError(text.GONE)
        damaged_here = values["truth"] != "given"
        image, part = source.picture(crop)
        problem, given, notes = build_problem(
            self.model,
            image,
            task,
            tasks.settings(task, values),
            mask=mask if tasks.paints(task) else None,
            crop=part,
            damaged_here=damaged_here,
        )
        if tasks.paints(task) and painter.grid_of(self.model) != self.model.resolution:
            notes = [note for note in notes if not note.startswith("The mask was")]
        placed, shown = source.placed(crop, self.model.resolution)
        settings = solver_settings(values, self.model, problem.operator)
        return Order(problem, settings, given, damaged_here, self.model.id, placed=placed, shown=shown), notes

    def preview(self, values: dict[str, Any], session: str) -> tuple[Any, ...]:
        """Show the input of the solver. → stage, strip, progress, notice."""
        if self.busy(session):
            return (gr.skip(),) * 4
        try:
            order, notes = self.order(values)
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), plots.notice(sentence(error))
        return self.opening(order), self.before(order), "", plots.notice(" ".join(notes), "info")

    def opened(self, values: dict[str, Any], session: str, linked: bool) -> tuple[Any, ...]:
        """A visitor has opened the page, perhaps with a link to a task. → as `preview`; a recorded run stays."""
        return self.preview(values, session) if linked or player.first() is None else (gr.skip(),) * 4

    def opening(self, order: Order) -> str:
        assert isinstance(order.problem, Problem)
        return plots.stage(views.measured(order.problem), text.PREVIEW, text.PREVIEW)

    def before(self, order: Order) -> str:
        return views.before(order)

    def owns(self, run: Run) -> bool:
        return isinstance(run.order.problem, Problem)

    def progress(self, run: Run) -> views.Progress:
        return views.Progress(run, self.model)
