"""Code shared by the tabs: start, watch, stop and save a run, and turn errors into messages."""

from __future__ import annotations

import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ilo.classifiers.classifier import ClassifierError
from ilo.photos.pictures import PictureError
from ilo.priors.load import Model
from ilo.records.bundle import BundleError
from ilo.records.saving import zip_bundle
from ilo.settings import SettingsError
from ilo.solver import every
from ilo.ui import text
from ilo.ui.parts import photographs, plots, views
from ilo.ui.parts.photographs import Source
from ilo.ui.runs.line import Runs
from ilo.ui.runs.order import Order, Run
from ilo.ui.visitors import temporary
from ilo.ui.visitors.visitors import Visitors

PANEL_SECONDS = 0.5

log = logging.getLogger(__name__)


class Progress(Protocol):
    """The parts of a run that a tab shows, as HTML."""

    def stage(self) -> str: ...
    def pictures(self) -> str: ...
    def bar(self) -> str: ...
    def panel(self) -> str: ...
    def final_stage(self) -> str: ...
    def final_panel(self) -> str: ...


class Bench(ABC):
    """One tab of a page, for all visitors.

    Args:
        model: the generator, on the CPU: the handlers compute there, so that they work whatever a GPU does.
        runs: the queue of runs that all tabs share.
        cache: the folder of uploads and downloads; Gradio serves and empties it.
        visitors: the sessions on the page, and its limits.
    """

    def __init__(self, model: Model, runs: Runs, cache: Path, visitors: Visitors | None = None):
        self.model, self.runs, self.cache = model, runs, cache
        self.visitors = visitors or Visitors()
        self.limits = self.visitors.limits
        self.visitors.when_gone(self.leave)
        self._chosen: dict[str, Source | None] = {}  # session → its picture; None while it is being read
        self._here: set[str] = set()  # sessions that have started a run and not left
        self._finished: dict[str, Run] = {}  # session → its last run, until its download is written
        self._saved: dict[str, Path] = {}  # session → the download of the result on its page

    # To be defined by each tab.

    @abstractmethod
    def order(self, values: dict[str, Any]) -> tuple[Order, list[str]]:
        """The order that the controls describe, and sentences about changes to the input."""

    @abstractmethod
    def before(self, order: Order) -> str:
        """The line under the stage before the first preview of a run."""

    def opening(self, order: Order) -> Any:
        """The stage before the first preview of a run; a tab that says nothing leaves what is there."""
        return gr.skip()

    @abstractmethod
    def progress(self, run: Run) -> Progress:
        """The parts of a run that this tab shows."""

    @abstractmethod
    def owns(self, run: Run) -> bool:
        """Whether this tab started the run."""

    # Common to all tabs.

    def busy(self, session: str) -> bool:
        """Whether this tab shows a run in progress."""
        run = self.runs.of(session)
        return run is not None and self.owns(run)

    def run(self, values: dict[str, Any], session: str) -> Iterator[tuple[Any, ...]]:
        """Solve. → stage, strip, progress, panel, notice, run button, stop button, download."""
        try:
            self.runs.check_line()  # before building the problem, which takes longer
            order, notes = self.order(values)
            self._here.add(session)
            run = self.runs.start(session, order)
        except Exception as error:
            yield *(gr.skip(),) * 4, plots.notice(sentence(error)), *(gr.skip(),) * 3
            return
        if run is None:
            yield *(gr.skip(),) * 4, plots.notice(text.BUSY, "info"), *(gr.skip(),) * 3
            return
        try:
            notice = plots.notice(" ".join(notes), "info")
            bar = plots.progress(0, "starting", "running")
            buttons = gr.Button(interactive=False), gr.Button(interactive=True), gr.DownloadButton(interactive=False)
            yield self.opening(order), self.before(order), bar, gr.skip(), notice, *buttons
            progress = self.progress(run)
            yield from self._watch(run, progress, session)
            yield self._final(run, progress, session, notice)
        except Exception as error:
            buttons = gr.Button(interactive=True), gr.Button(interactive=False), self._earlier(session)
            yield *(gr.skip(),) * 4, plots.notice(sentence(error)), *buttons
        finally:
            run.stop()  # in case the tab was closed
            self.runs.forget(run)

    def _earlier(self, session: str) -> Any:
        """The download button for the result that the page still shows, if there is one."""
        path = self._saved.get(session)
        return gr.DownloadButton(interactive=path is not None and path.exists())

    def choosing(self, session: str) -> None:
        """Note that a session's picture is being read."""
        self._chosen.setdefault(session, None)

    def keep(self, session: str, source: Source) -> None:
        """Keep a session's picture until its tab is closed.

        Raises:
            PictureError: the tab was closed after `choosing`; nothing is kept.
        """
        if session not in self._chosen:
            source.forget()
            raise PictureError(text.GONE)
        self._chosen.pop(session, None)  # move the latest choice to the end
        self._chosen[session] = source
        self._forget_pictures(session)

    def _forget_pictures(self, last: str) -> None:
        """Drop the oldest pictures beyond the limits; the session `last` keeps its picture."""
        chosen = [(session, source) for session, source in list(self._chosen.items()) if source is not None]
        total, count = sum(source.size for _, source in chosen), len(chosen)
        for session, source in chosen:
            if session == last or (total <= self.limits.pictures_bytes and count <= self.limits.sessions):
                break
            total, count = total - source.size, count - 1
            source.forget()
            self._chosen.pop(session, None)

    def received(self, path: str | None) -> None:
        """An uploaded file was read; delete it soon. Another session may just have uploaded the same file."""
        if path is not None and temporary.is_upload(Path(path), self.cache):
            temporary.delete_later(Path(path), self.limits.read_seconds, self.limits)

    def complaint(self, values: dict[str, Any], error: Exception) -> tuple[Any, Any]:
        """Show an error about the choice of a face. → photograph, notice."""
        photo = photographs.shown(values["source"], self.model) if isinstance(error, SettingsError) else None
        if photo is None:
            return gr.skip(), plots.notice(sentence(error))
        # Show it beside the eye positions, and keep what the user typed so that it can be corrected.
        return gr.HTML(photo={**photo, "problem": sentence(error)}), gr.skip()

    def stop(self, session: str) -> None:
        """Stop this session's run and keep its best picture so far."""
        self.runs.stop(session)

    def leave(self, session: str) -> None:
        """The visitor has closed the tab: release everything of the session."""
        self.runs.stop(session)
        self._here.discard(session)
        source = self._chosen.pop(session, None)
        if source is not None:
            source.forget()  # Gradio would keep a closed tab's state for an hour
        self._finished.pop(session, None)
        self._outdated(session)

    def _outdated(self, session: str) -> None:
        """Delete a session's download later, because its page shows another result or is closed."""
        path = self._saved.pop(session, None)
        if path is not None:
            # A broken connection looks like a closed tab, so do not delete it at once.
            temporary.delete_later(path, self.limits.left_seconds, self.limits)

    def save(self, session: str) -> tuple[Any, ...]:
        """Write the download of the run that has just ended. → download, notice."""
        run = self._finished.pop(session, None)
        if run is None or run.recorder is None:
            return gr.skip(), gr.skip()
        name = f"ilo-{run.recorder.recipe.task}-{run.order.settings.method}.zip"
        try:
            path = zip_bundle(run.recorder, self.cache / temporary.DOWNLOADS / secrets.token_hex(16) / name, self.model)
        except BundleError as error:
            return gr.skip(), plots.notice(text.SAVING_FAILED + str(error).replace(f"{self.cache}/", ""))
        except Exception as error:
            return gr.skip(), plots.notice(text.SAVING_FAILED + sentence(error))
        self._saved[session] = path
        if session not in self._here:  # the tab was closed meanwhile
            self._outdated(session)
        return gr.DownloadButton(value=str(path), interactive=True), gr.skip()

    def _watch(self, run: Run, progress: Progress, session: str) -> Iterator[tuple[Any, ...]]:
        skip, seen, films, line, last = gr.skip(), -1, 0, 0, -1
        due, lost = every(PANEL_SECONDS), every(PANEL_SECONDS)
        while run.live:
            seen = run.wait(seen, PANEL_SECONDS)
            if self.visitors.unheard(session) and not run.stopping.is_set():
                run.stop()
            elif not self.visitors.reads(session):
                # Unread messages would pile up, and Gradio only notices a closed stream when it sends something.
                if lost():
                    yield (skip,) * 8
            elif run.status == "waiting":
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
                    progress.pictures() if new_film else skip,
                    progress.bar(),
                    progress.panel() if due() or new_film or new_round else skip,
                    *(skip,) * 4,
                )

    def _final(self, run: Run, progress: Progress, session: str, notice: str) -> tuple[Any, ...]:
        skip = gr.skip()
        buttons = gr.Button(interactive=True), gr.Button(interactive=False)
        if run.status == "failed":
            notice = plots.notice(run.error or text.FAILED)
        elif run.turn_over:
            notice = plots.notice(text.turn_over(self.limits.turn_seconds), "info")
        recorder = run.recorder
        if recorder is None or recorder.result is None or run.step is None:
            failed = run.status == "failed"
            notice = notice if failed else plots.notice(text.STOPPED_EARLY, "info")
            panel = views.panel("Failed" if failed else "Stopped", text.NOTHING)
            return skip, skip, "", panel, notice, *buttons, self._earlier(session)
        self._outdated(session)
        if len(recorder.result.image) == 1 and session in self._here:  # a comparison of several runs has no download
            self._finished[session] = run
            for other in list(self._finished)[: -self.limits.results]:  # runs whose download nobody requested
                self._finished.pop(other, None)
        bar = plots.progress(run.step.done / run.step.total, "done" if run.status == "done" else "stopped")
        return progress.final_stage(), progress.pictures(), bar, progress.final_panel(), notice, *buttons, skip


def sentence(error: Exception) -> str:
    """The message for the user; errors that the user did not cause are also logged."""
    if isinstance(error, (SettingsError, PictureError, ClassifierError)):
        return str(error)
    log.error("a handler failed", exc_info=error)
    return text.FAILED
