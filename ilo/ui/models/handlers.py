"""The handlers of the Models tab: fetch, remove and use models. Each one first checks that the owner is calling."""

from __future__ import annotations

import html
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ilo.engine import memory
from ilo.methods import preset
from ilo.photos import faces, portraits
from ilo.priors import load as models
from ilo.priors.load import Model
from ilo.priors.stylegan2 import memory as stylegan2
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.ui import text
from ilo.ui.bench import sentence
from ilo.ui.models.owner import Owner, why
from ilo.ui.parts import controls, painter, plots
from ilo.ui.runs.machine import Facts, Replica
from ilo.weights import download, registry
from ilo.weights.download import DownloadError
from ilo.weights.registry import Embedded, Entry
from ilo.weights.terminal import megabytes, state

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.2


class Fetching(threading.Thread):
    """A download that continues even if the tab that started it is closed."""

    def __init__(self, entry: Entry):
        super().__init__(name=f"fetching {entry.id}", daemon=True)
        self.entry = entry
        self.done, self.total = 0, entry.size
        self.words = ""
        self.error: str | None = None

    def run(self) -> None:
        try:
            download.fetch(self.entry, self._progress, self._say)
        except DownloadError as error:
            self.error = str(error)
        except Exception as error:
            self.error = sentence(error)

    def _progress(self, done: int, total: int | None) -> None:
        self.done, self.total, self.words = done, total, ""

    def _say(self, words: str) -> None:
        self.words = words

    def bar(self) -> str:
        """The progress bar as HTML."""
        share = self.done / self.total if self.total else 0.0
        of = f" of {megabytes(self.total)}" if self.total else ""
        return plots.progress(share, self.words or f"{self.entry.id}: {megabytes(self.done)}{of}", "running")


class ModelsTab:
    """The handlers; each one first checks that the owner is calling.

    Args:
        owner: the owner of the page.
        model: the model in use, which the owner may replace.
        place: its place in the list of the page's models.
        facts: those of the machines.
    """

    def __init__(self, owner: Owner, model: Model, place: int, facts: Facts):
        self.owner, self.model, self.place, self.facts = owner, model, place, facts

    def open(self, request: gr.Request) -> tuple[Any, ...]:
        """The page was loaded. → tab, table, notice."""
        if not self.owner.asks(request):
            return gr.Tab(visible=False), "", ""
        return gr.Tab(visible=True), self.table(), plots.notice(self.owner.notice)

    def fetch(self, request: gr.Request, name: str) -> Iterator[tuple[Any, ...]]:
        """Download. → progress, table, notice."""
        entry = self._entry(request, name)
        if isinstance(entry, str):
            yield "", gr.skip(), plots.notice(entry)
            return
        fetching = Fetching(entry)
        fetching.start()
        while fetching.is_alive():
            yield fetching.bar(), gr.skip(), ""
            fetching.join(PROGRESS_SECONDS)
        if fetching.error:
            yield "", self.table(), plots.notice(fetching.error)
        else:
            yield "", self.table(), plots.notice(text.fetched(entry.id, entry.kind), "info")

    def remove(self, request: gr.Request, name: str) -> tuple[Any, ...]:
        """Delete a download. → progress, table, notice."""
        entry = self._entry(request, name)
        if isinstance(entry, str):
            return "", gr.skip(), plots.notice(entry)
        try:
            gone = download.remove(entry)
        except DownloadError as error:
            return "", self.table(), plots.notice(str(error))
        words = f"{entry.id} was removed." if gone else f"{entry.id} is not downloaded."
        return "", self.table(), plots.notice(words, "info")

    def use(self, request: gr.Request, name: str) -> str:
        """Serve another generator, after testing that it works. → notice."""
        if not self.owner.asks(request):
            return plots.notice(text.NOT_OWNER)
        name = (name or "").strip()
        if not name:
            return plots.notice(text.WHICH_MODEL)
        if name not in registry.BY_ID and (path := Path(name).expanduser()).is_file():
            name = str(path.resolve())
        try:
            model = models.load(name)
            controls.check(model)
        except CheckpointError as error:
            return plots.notice(str(error))
        except Exception as error:
            return plots.notice(sentence(error))
        try:
            try_out(model)
        except Exception as error:
            log.exception("%s cannot be used", name)
            return plots.notice(text.model_unusable(Path(name).name, why(error)))
        self.owner.restart(name, self.place)
        return f'<div data-restart="">{plots.notice(text.RESTARTING, "info")}</div>'

    def table(self) -> str:
        """Every model with its terms, whether it is downloaded, and the memory that a run needs."""
        free = self.facts.free()
        rows = "".join(_row(entry, free) for entry in registry.ENTRIES)
        head = "".join(f"<th>{words}</th>" for words in ("Model", "Terms", "Where", "Memory per run"))
        known = "" if free is None else f"{memory.gigabytes(free)} of memory are free. "
        note = f"{known}This page uses {html.escape(self.model.id)}."
        return f'<table class="models"><tr>{head}</tr>{rows}</table><p class="fine">{note}</p>'

    def _entry(self, request: gr.Request, name: str) -> Entry | str:
        """The entry with this name, or a message that says what is wrong."""
        if not self.owner.asks(request):
            return text.NOT_OWNER
        entry = registry.BY_ID.get(name)
        if entry is None or isinstance(entry.source, Embedded):
            return text.WHICH_DOWNLOAD
        return entry


def try_out(model: Model) -> None:
    """Use a model as the page does, including a step of the solver. Raises any error that occurs."""
    painter.first_value(model, "")
    faces.eye_places(portraits.template(model))
    for step in Replica(model).warm_up(rounds=2):
        if not np.isfinite(step.losses["total"]).all():
            raise CheckpointError("its pictures are not finite")


def _row(entry: Entry, free: int | None) -> str:
    takes = ""
    if entry.kind == "generator" and entry.resolution:
        need = stylegan2.needed(models.usual_config(entry.resolution), preset())
        takes = f"{memory.gigabytes(need)}{'' if free is None or need < free else ', more than is free'}"
    cells = (entry.terms, state(entry), takes)
    name = f"<b>{html.escape(entry.id)}</b><br>{html.escape(entry.title)}"
    return f"<tr><td>{name}</td>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
