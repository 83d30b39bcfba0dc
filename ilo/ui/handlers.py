"""What the page does when something is pressed. Every handler answers with a sentence rather than an exception."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ilo.bundle import BundleError, zip_bundle
from ilo.losses import Perceptual
from ilo.masks import fit_mask
from ilo.models import Model
from ilo.pictures import PictureError, read_mask, read_picture
from ilo.settings import SettingsError
from ilo.solver import every
from ilo.state import to_uint8
from ilo.tasks import build_problem
from ilo.ui import painter, plots, text, views
from ilo.ui.controls import operator_settings, solver_settings
from ilo.ui.examples import Example
from ilo.ui.runs import Order, Run, Runs

PANEL_SECONDS = 0.5
LARGEST_KEPT = 1024  # pixels per side of an upload that a session remembers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The picture that a session has chosen."""

    name: str  # no two uploads have the same
    image: Image.Image


class Studio:
    """The Studio tab of one page, for all its visitors.

    Args:
        model: what solves.
        examples: pictures to begin with.
        perceptual: the perceptual distance; None where it is off.
        cache: the folder that downloads are written to; Gradio serves and empties it.
    """

    def __init__(self, model: Model, examples: list[Example], perceptual: Perceptual | None, cache: Path):
        self.model, self.examples, self.cache = model, examples, cache
        self.first = Source(examples[0].name, examples[0].image)
        self.runs = Runs(model, perceptual)
        self._finished: dict[str, Run] = {}  # session → its last run, until its download is made

    # Choosing the picture.

    def pick(self, values: dict[str, Any], session: str, index: Any) -> tuple[Any, ...]:
        """An example was clicked. → source, painter, stage, strip, progress, notice."""
        if not isinstance(index, int) or not 0 <= index < len(self.examples):
            return *(gr.skip(),) * 5, plots.notice(text.GONE)
        example = self.examples[index]
        return self._choose(values, session, Source(example.name, example.image), example.crop)

    def upload(self, values: dict[str, Any], session: str, path: str | None) -> tuple[Any, ...]:
        """A picture was uploaded. → source, painter, stage, strip, progress, notice."""
        try:
            if path is None:
                raise PictureError(text.GONE)
            image = read_picture(path, smallest=2)  # what is to be enlarged may be tiny
            image.thumbnail((LARGEST_KEPT, LARGEST_KEPT), Image.Resampling.BICUBIC)
            return self._choose(values, session, Source(secrets.token_hex(8), image))
        except Exception as error:
            return *(gr.skip(),) * 5, plots.notice(_sentence(error))

    def _choose(
        self,
        values: dict[str, Any],
        session: str,
        source: Source,
        crop: tuple[float, float, float] = (0.5, 0.5, 1.0),
    ) -> tuple[Any, ...]:
        drawn = painter.first_value(self.model, source.name, crop)
        seen = self.preview({**values, "source": source, "painter": drawn}, session)
        return source, gr.HTML(value=drawn, picture=painter.shown(source.image, source.name, self.model)), *seen

    def upload_mask(self, path: str | None, value: Any) -> tuple[Any, ...]:
        """A mask was uploaded. → painter, notice."""
        try:
            if path is None:
                raise PictureError(text.GONE)
            mask = read_mask(path)
            grid = painter.grid_of(self.model)
            fitted, resized = fit_mask(mask, grid)
            height, width = mask.shape[-2:]
            if resized:
                gr.Info(f"The mask was {width}×{height} and has been resized to {grid}×{grid}.")
            if not isinstance(value, dict):
                raise SettingsError("The crop could not be read; load the page again.")
            return {**value, "mask": painter.pack(fitted, grid)}, ""
        except Exception as error:
            return gr.skip(), plots.notice(_sentence(error))

    # Before a run.

    def order(self, values: dict[str, Any]) -> tuple[Order, list[str]]:
        """The problem that the controls describe, and sentences about what was done to the input.

        Raises:
            SettingsError, PictureError: with a sentence for the user.
        """
        task = values["task"]
        name, crop, mask = painter.read_value(values["painter"], painter.grid_of(self.model))
        source = values["source"] or self.first
        # A session may have been forgotten while its tab stayed open; another picture must not be solved instead.
        if source.name != name:
            raise PictureError(text.GONE)
        damaged_here = values["truth"] != "given"
        problem, given, notes = build_problem(
            self.model,
            source.image,
            task,
            operator_settings(task, values),
            mask=mask if task == "inpaint" else None,
            crop=crop,
            damaged_here=damaged_here,
        )
        if task == "inpaint" and painter.grid_of(self.model) != self.model.resolution:
            notes = [note for note in notes if not note.startswith("The mask was")]
        return Order(problem, solver_settings(values), given, damaged_here), notes

    def preview(self, values: dict[str, Any], session: str) -> tuple[Any, ...]:
        """Show what the solver will get to see. → stage, strip, progress, notice."""
        if self.runs.of(session) is not None:
            return (gr.skip(),) * 4
        try:
            order, notes = self.order(values)
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), plots.notice(_sentence(error))
        stage = plots.stage(views.measured(order.problem), text.PREVIEW, text.PREVIEW)
        return stage, views.before(order.problem), "", plots.notice(" ".join(notes), "info")

    # A run.

    def run(self, values: dict[str, Any], session: str) -> Iterator[tuple[Any, ...]]:
        """Solve. → stage, strip, progress, panel, notice, run button, stop button, download."""
        try:
            order, notes = self.order(values)
            run = self.runs.start(session, order)
        except Exception as error:
            yield *(gr.skip(),) * 4, plots.notice(_sentence(error)), *(gr.skip(),) * 3
            return
        if run is None:
            yield *(gr.skip(),) * 4, plots.notice(text.BUSY, "info"), *(gr.skip(),) * 3
            return
        try:
            notice = plots.notice(" ".join(notes), "info")
            bar = plots.progress(0, "starting", "running")
            buttons = gr.Button(interactive=False), gr.Button(interactive=True), gr.DownloadButton(interactive=False)
            yield gr.skip(), views.before(order.problem), bar, gr.skip(), notice, *buttons
            progress = views.Progress(run, self.model)
            yield from self._watch(run, progress)
            yield self._final(run, progress, session, notice)
        finally:
            run.stop()  # the tab was closed, or the run has ended anyway

    def stop(self, session: str) -> None:
        """Stop this session's run; its best picture so far stays."""
        self.runs.stop(session)

    def leave(self, session: str) -> None:
        """The tab was closed."""
        self.runs.stop(session)
        self._finished.pop(session, None)

    def save(self, session: str) -> tuple[Any, ...]:
        """Write the download of the run that has just ended. → download, notice."""
        run = self._finished.pop(session, None)
        if run is None or run.recorder is None:
            return gr.skip(), gr.skip()
        name = f"ilo-{run.recorder.recipe.task}-{run.order.settings.method}.zip"
        try:
            path = zip_bundle(run.recorder, self.cache / secrets.token_hex(16) / name, self.model)
        except BundleError as error:
            return gr.skip(), plots.notice(text.SAVING_FAILED + str(error).replace(f"{self.cache}/", ""))
        except Exception as error:
            return gr.skip(), plots.notice(text.SAVING_FAILED + _sentence(error))
        return gr.DownloadButton(value=str(path), interactive=True), gr.skip()

    def _watch(self, run: Run, progress: views.Progress) -> Iterator[tuple[Any, ...]]:
        skip, seen, films, line, last = gr.skip(), -1, 0, 0, -1
        due = every(PANEL_SECONDS)
        while run.live:
            seen = run.wait(seen, PANEL_SECONDS)
            if run.status == "waiting":
                ahead = self.runs.ahead(run)
                if ahead and ahead != line:
                    line = ahead
                    panel = views.panel("Waiting", text.waiting(ahead))
                    yield skip, skip, plots.progress(0, "waiting", "running"), panel, *(skip,) * 4
            elif run.live and run.step is not None and run.recorder is not None:
                new_film = len(run.recorder.film) != films  # at the start and at each round's end
                films = len(run.recorder.film)
                new_round, last = run.step.round != last, run.step.round
                yield (
                    progress.stage(),
                    views.pictures_of(run) if new_film else skip,
                    progress.bar(),
                    progress.panel() if due() or new_film or new_round else skip,
                    *(skip,) * 4,
                )

    def _final(self, run: Run, progress: views.Progress, session: str, notice: str) -> tuple[Any, ...]:
        skip = gr.skip()
        buttons = gr.Button(interactive=True), gr.Button(interactive=False)
        if run.status == "failed":
            notice = plots.notice(run.error or text.FAILED)
        recorder = run.recorder
        if recorder is None or recorder.result is None or run.step is None:
            notice = notice if run.status == "failed" else plots.notice(text.STOPPED_EARLY, "info")
            return skip, skip, "", skip, notice, *buttons, skip
        self._finished[session] = run
        problem = run.order.problem
        stage = plots.compare(views.measured(problem), to_uint8(recorder.result.image)[0], "measured", "reconstruction")
        share = run.step.done / run.step.total
        bar = plots.progress(share, "done" if run.status == "done" else "stopped")
        return stage, views.pictures_of(run), bar, progress.final(), notice, *buttons, skip


def _sentence(error: Exception) -> str:
    """What to tell the user; what the user cannot have caused goes to the log."""
    if isinstance(error, (SettingsError, PictureError)):
        return str(error)
    log.error("a handler failed", exc_info=error)
    return text.FAILED
