"""The Models tab, which only the page's owner sees: downloaded models, downloads, and the model in use."""

from __future__ import annotations

import gradio as gr

from ilo.priors.load import Model
from ilo.ui import text
from ilo.ui.models.handlers import ModelsTab
from ilo.ui.models.owner import Owner
from ilo.ui.parts.layout import PRIVATE, heading
from ilo.ui.runs.machine import Facts
from ilo.weights import registry
from ilo.weights.registry import Embedded

# After the server has stopped and started again, reload the page, or open the first model's if this address has gone.
RELOAD_SCRIPT = """
() => {
  if (!document.querySelector('#models-notice [data-restart]')) return;
  const wait = async (gone) => {
    try {
      const answer = await fetch(location.href, {cache: 'no-store'});
      if (answer.ok && gone) return location.reload();
      if (answer.status === 404 && gone) return location.assign('./' + location.search);
    } catch { gone = true; }
    setTimeout(() => wait(gone), 400);
  };
  wait(false);
}
"""


def build(page: gr.Blocks, model: Model, place: int, owner: Owner, facts: Facts) -> None:
    """Lay out the tab inside `page`, which must be the current one; see `ModelsTab`."""
    handlers = ModelsTab(owner, model, place, facts)
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
                    "", label="Name of a model, or a file on this machine", placeholder="ffhq-256, or network.pkl",
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
