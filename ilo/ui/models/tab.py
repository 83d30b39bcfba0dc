"""The Models tab: what is here, what can be fetched, which one the page uses. Only the page's owner gets to see it.

The owner is who knows the key: it is part of the address that is printed at the start, or chosen as `ILO_OWNER_KEY`.
"""

from __future__ import annotations

import argparse
import hmac
import html
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ilo.cli.models import megabytes, state
from ilo.engine import memory
from ilo.photos import faces, portraits
from ilo.priors import load as models
from ilo.priors.load import Model
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.settings import preset
from ilo.text.words import reason
from ilo.ui import text
from ilo.ui.bench import sentence
from ilo.ui.parts import painter, plots
from ilo.ui.runs import warm_up
from ilo.ui.studio import controls
from ilo.ui.studio.layout import PRIVATE, heading
from ilo.ui.visitors import temporary
from ilo.weights import download, registry
from ilo.weights.download import DownloadError
from ilo.weights.registry import Embedded, Entry

log = logging.getLogger(__name__)

KEY = "ILO_OWNER_KEY"
PROGRESS_SECONDS = 0.2
RESTART_SECONDS = 0.5  # until then the answer is on its way
# Once the page has gone and come back, it is another one.
RELOAD_SCRIPT = """
() => {
  if (!document.querySelector('#models-notice [data-restart]')) return;
  const wait = async (gone) => {
    try {
      const answer = await fetch(location.href, {cache: 'no-store'});
      if (answer.ok && gone) return location.reload();
    } catch { gone = true; }
    setTimeout(() => wait(gone), 400);
  };
  wait(false);
}
"""


@dataclass(frozen=True)
class Owner:
    """Who may choose the models of a page."""

    key: str
    address: str  # of the page, with the key
    restart: Callable[[str], None]  # serve another model instead
    fall_back: Callable[[Exception], None]  # serve the model before again; does not return
    notice: str = ""  # why it is not the chosen one that is served

    @classmethod
    def of(cls, options: argparse.Namespace) -> Owner:
        """The owner of the page that app.py serves with these options."""
        key = os.environ.get(KEY) or secrets.token_urlsafe(16)
        host = "127.0.0.1" if options.host == "0.0.0.0" else options.host

        def start(model: str, *more: str) -> None:
            command = [sys.executable, sys.argv[0], "--host", options.host, "--port", str(options.port)]
            command += ["--max-steps", str(options.max_steps), *["--share"] * options.share, "--model", model, *more]
            os.execve(sys.executable, command, {**temporary.outside(), KEY: key})

        def restart(model: str) -> None:
            threading.Timer(RESTART_SECONDS, start, (model, "--instead", options.model)).start()

        def fall_back(error: Exception) -> None:
            start(options.instead, "--notice", text.model_failed(Path(options.model).name, _why(error)))

        address = f"http://{host}:{options.port}/?owner={key}"
        return cls(key, address, restart, fall_back, options.notice)

    def asks(self, request: gr.Request) -> bool:
        """Whether a request is the owner's."""
        given = str(request.query_params.get("owner", ""))
        return hmac.compare_digest(given.encode(), self.key.encode())


class Fetching(threading.Thread):
    """A download that goes on whatever becomes of the tab that asked for it."""

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
        self.done, self.total = done, total

    def _say(self, words: str) -> None:
        self.words = words

    def bar(self) -> str:
        """What has come so far, as HTML."""
        share = self.done / self.total if self.total else 0.0
        of = f" of {megabytes(self.total)}" if self.total else ""
        return plots.progress(share, self.words or f"{self.entry.id}: {megabytes(self.done)}{of}", "running")


class ModelsTab:
    """The handlers; each one asks whether it is the owner who calls."""

    def __init__(self, owner: Owner, model: Model):
        self.owner, self.model = owner, model

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
        words = f"{entry.id} was removed." if gone else f"{entry.id} is not here."
        return "", self.table(), plots.notice(words, "info")

    def use(self, request: gr.Request, name: str) -> str:
        """Serve another generator, after a look at whether it can be used. → notice."""
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
            return plots.notice(text.model_unusable(Path(name).name, _why(error)))
        self.owner.restart(name)
        return f'<div data-restart="">{plots.notice(text.RESTARTING, "info")}</div>'

    def table(self) -> str:
        """Every model: what it is, on what terms, whether it is here, and what a run with it takes."""
        free = memory.available(self.model.device)
        rows = "".join(_row(entry, free) for entry in registry.ENTRIES)
        head = "".join(f"<th>{words}</th>" for words in ("Model", "Terms", "Where", "Memory of a run"))
        note = f"{memory.gigabytes(free)} of memory are free. This page uses {html.escape(self.model.id)}."
        return f'<table class="models"><tr>{head}</tr>{rows}</table><p class="fine">{note}</p>'

    def _entry(self, request: gr.Request, name: str) -> Entry | str:
        """The entry that the owner means, or what is wrong."""
        if not self.owner.asks(request):
            return text.NOT_OWNER
        entry = registry.BY_ID.get(name)
        if entry is None or isinstance(entry.source, Embedded):
            return text.WHICH_DOWNLOAD
        return entry


def try_out(model: Model) -> None:
    """Do with a model what the page does with it, a step of the solver included. Raises whatever goes wrong."""
    painter.first_value(model, "")
    faces.eye_places(portraits.template(model))
    for step in warm_up(model, rounds=2):
        if not np.isfinite(step.losses["total"]).all():
            raise CheckpointError("its pictures are not finite")


def _why(error: Exception) -> str:
    """What has gone wrong, on one line."""
    return reason(error) or type(error).__name__


def _row(entry: Entry, free: int) -> str:
    takes = ""
    if entry.kind == "generator" and entry.resolution:
        need = memory.needed(models.usual_config(entry.resolution), preset())
        takes = f"{memory.gigabytes(need)}{'' if need < free else ', more than is free'}"
    cells = (entry.terms, state(entry), takes)
    name = f"<b>{html.escape(entry.id)}</b><br>{html.escape(entry.title)}"
    return f"<tr><td>{name}</td>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def build(page: gr.Blocks, model: Model, owner: Owner) -> None:
    """Lay out the tab inside `page`, which must be the current one."""
    handlers = ModelsTab(owner, model)
    offered = [entry.id for entry in registry.ENTRIES if not isinstance(entry.source, Embedded)]
    with gr.Tab("Models", id="models", visible=False, render_children=True) as tab:
        notice = gr.HTML(elem_id="models-notice", elem_classes="notice-box", apply_default_css=False)
        with gr.Row(elem_id="models-row"):
            with gr.Column(elem_id="models-list", min_width=320, scale=3):
                table = gr.HTML(elem_id="models-table", apply_default_css=False)
            with gr.Column(elem_id="models-do", min_width=280, scale=1):
                heading("Fetch")
                name = gr.Dropdown(offered, value=offered[0], label="Model", elem_id="models-name")
                with gr.Row():
                    get = gr.Button("Fetch", variant="primary", elem_id="models-fetch", size="md", min_width=96)
                    drop = gr.Button("Remove", elem_id="models-remove", size="md", min_width=80)
                progress = gr.HTML(elem_id="models-progress", elem_classes="run-progress", apply_default_css=False)
                heading("Use")
                wanted = gr.Textbox(
                    "", label="A model's name, or a file on this machine", placeholder="ffhq-256, or network.pkl",
                    elem_id="models-wanted", max_lines=1,
                )  # fmt: skip
                use = gr.Button("Use it for this page", elem_id="models-use", size="md")
                gr.HTML(f'<p class="fine">{text.USE_HELP}</p>', apply_default_css=False)
    page.load(handlers.open, None, [tab, table, notice], **PRIVATE)
    shown = [progress, table, notice]
    get.click(handlers.fetch, name, shown, trigger_mode="once", concurrency_limit=2, **PRIVATE)
    drop.click(handlers.remove, name, shown, **PRIVATE)
    gr.on([use.click, wanted.submit], handlers.use, wanted, notice, **PRIVATE).then(
        None, None, None, js=RELOAD_SCRIPT, **PRIVATE
    )
