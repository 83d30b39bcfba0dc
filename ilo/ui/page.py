"""The page: its theme, its tabs, and how it is served."""

from __future__ import annotations

import functools
import html
import json
import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier, ClassifierError
from ilo.priors.load import Model
from ilo.ui import examples, text
from ilo.ui.api import Api
from ilo.ui.models import tab as models_tab
from ilo.ui.models.owner import Owner
from ilo.ui.morph import tab as morph
from ilo.ui.morph.handlers import Morph
from ilo.ui.parts import controls, player, sharing, tasks
from ilo.ui.runs.line import Runs
from ilo.ui.runs.machine import Maker, OneDevice
from ilo.ui.studio import tab as studio
from ilo.ui.studio.handlers import Studio
from ilo.ui.visitors import housekeeping
from ilo.ui.visitors.door import Door
from ilo.ui.visitors.limits import Limits
from ilo.ui.visitors.visitors import Visitors
from ilo.weights import registry
from ilo.weights.registry import ASSETS

log = logging.getLogger(__name__)

ACCENT = gr.themes.Color(
    "#e8f6f8", "#c9ebf0", "#9bdbe4", "#64c4d2", "#2fa8ba", "#118a9e", "#0b7285", "#0a5c6c", "#0c4a57", "#0d3d48",
    "#062730", name="accent",
)  # fmt: skip
SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# Opens the page of another model: of the one that a link names, with the rest of the link, or of the one chosen.
OPEN_SCRIPT = """
window.openModel = (model, chosen) => {
  const pages = PAGES, query = new URLSearchParams(location.search);
  const parts = location.pathname.replace(/\\/$/, '').split('/');
  const here = Object.values(pages).includes(parts.at(-1)) ? parts.pop() : '';
  if (!(model in pages) || pages[model] === here) return;
  const kept = (name) => name === 'owner' || name.startsWith('__');
  if (chosen) [...query.keys()].filter((name) => !kept(name)).forEach((name) => query.delete(name));
  const address = [...parts, pages[model]].join('/') + (query.size ? '?' + query : '');
  chosen ? location.assign(address || '/') : location.replace(address || '/');
};
window.openModel(new URLSearchParams(location.search).get('model'), false);
"""
CHOOSE_SCRIPT = """
element.addEventListener('change', (event) => {
  if (event.target.matches('select')) window.openModel(event.target.value, true);
});
"""


def theme() -> gr.themes.Base:
    """One accent colour, one neutral, the system's own fonts."""
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=gr.themes.colors.stone,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    ).set(
        body_background_fill="#fdfcfa",
        body_background_fill_dark="#171614",
        input_background_fill="#f4f1ec",
        input_background_fill_dark="#23211e",
        slider_color="#0b7285",
        slider_color_dark="#4cc3d5",
    )


def serve(
    models: Sequence[Model],
    owner: Owner | None = None,
    limits: Limits | None = None,
    makers: Sequence[Maker] | None = None,
    mcp: bool = False,
    **options: Any,
) -> gr.Blocks:
    """Serve the page until interrupted; see `build`.

    Args:
        models, owner, limits, makers: see `build`.
        mcp: whether the functions of `ilo.ui.api` are also MCP tools.
        options: those of `Blocks.launch`.
    """
    visitors = Visitors(limits)
    page = build(models, owner, visitors, makers)
    page.launch(**launch_options(visitors, models, mcp), **options)
    return page


def build(
    models: Sequence[Model],
    owner: Owner | None = None,
    visitors: Visitors | None = None,
    makers: Sequence[Maker] | None = None,
) -> gr.Blocks:
    """The page, with an address of its own for each model but the first.

    Args:
        models: the models that visitors choose among, on the CPU.
        owner: with an owner, the page has the Models tab.
        visitors: its visitors, with the limits of the page.
        makers: make the machines for the runs; None: the CPU.

    Raises:
        CheckpointError: a model is too small for the page.
        SettingsError: a machine cannot be made.
    """
    for model in models:
        controls.check(model)
    visitors = visitors or Visitors()
    limits, guides, pictures = visitors.limits, _guides(), examples.load()
    runs = Runs(makers or [partial(OneDevice, models)], limits)
    cleaning = round(limits.kept_seconds / 12), round(limits.kept_seconds)

    def fill(model: Model) -> None:
        gr.HTML(_header(models, model, runs), elem_id="header", apply_default_css=False, js_on_load=CHOOSE_SCRIPT)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Studio", id="studio"):

                def make(cache: str) -> Studio:
                    return Studio(model, pictures, runs, Path(cache), visitors)

                studio.build(page, model, pictures, make, runs.facts[0])
            if guides:
                with gr.Tab("Morph", id="morph", render_children=True):

                    def make_morph(cache: str) -> Morph:
                        return Morph(model, guides, pictures[0], runs, Path(cache), visitors)

                    suggested = runs.facts[0].presets[model.id]
                    morph.build(page, model, guides, pictures[0], make_morph, suggested)
            if owner is not None:
                models_tab.build(page, model, models.index(model), owner, runs.facts[0])

    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=cleaning) as page:
        fill(models[0])
        Api(models, guides, pictures, runs, Path(page.GRADIO_CACHE), visitors).connect(page)
    for model, path in list(zip(models, paths(models), strict=True))[1:]:
        with page.route(model.id, path, show_in_navbar=False):
            fill(model)
    return page.queue(default_concurrency_limit=8, max_size=limits.queued, api_open=False)


def paths(models: Sequence[Model]) -> list[str]:
    """The last part of each model's address; the first model has none."""
    found = [""]
    for model in models[1:]:
        path = "model-" + re.sub(r"[^A-Za-z0-9.-]+", "-", model.id)
        found.append(path if path not in found else f"{path}-{len(found)}")
    return found


def _guides() -> dict[str, Classifier]:
    """The available classifiers. Without any there is no Morph tab; the log says why."""
    found = {}
    fetched = [name for name in registry.ids("classifier") if registry.BY_ID[name].here]
    for name in dict.fromkeys((*classifier.EMBEDDED, *fetched)):
        try:
            found[name] = classifier.load(name)
        except ClassifierError as error:
            log.warning("The classifier %s cannot be used. %s", name, error)
    return found


def _header(models: Sequence[Model], model: Model, runs: Runs) -> str:
    machines = dict.fromkeys((facts.device or facts.name, facts.name) for facts in runs.facts)
    devices = html.escape(text.together([name for _, name in machines]))
    facts = f"Model: {html.escape(_size(model))}, running on {devices}"
    if len(models) > 1:
        options = "".join(
            f'<option value="{html.escape(each.id)}"{" selected" * (each is model)}>{html.escape(_size(each))}</option>'
            for each in models
        )
        facts = f'<label>Model: <select id="model">{options}</select></label> running on {devices}'
    return (
        f'<header><h1>{text.TITLE}</h1><p class="tagline">{html.escape(text.TAGLINE)}</p>'
        f'<p class="facts">{facts}</p></header>'
    )


def _size(model: Model) -> str:
    return f"{model.id} ({model.resolution}×{model.resolution} px)"


def _opening(models: Sequence[Model]) -> str:
    """A script for the head that opens the page of a model, also of the model that a link names."""
    if len(models) < 2:
        return ""
    pages = dict(zip((model.id for model in models), paths(models), strict=True))
    return "<script>" + OPEN_SCRIPT.replace("PAGES", json.dumps(pages).replace("<", "\\u003c")) + "</script>"


def _splash() -> str:
    recorded = player.first()
    return "" if recorded is None else player.splash(recorded)


@functools.cache
def _css() -> str:
    return (ASSETS / "studio.css").read_text(encoding="utf-8")


def _head(models: Sequence[Model]) -> str:
    """What the page's head holds: styles and scripts."""
    styles = (_css(), tasks.style(), sharing.style(), _splash())
    return f"<style>{chr(10).join(styles)}</style>{sharing.script()}{_opening(models)}"


def launch_options(visitors: Visitors, models: Sequence[Model] = (), mcp: bool = False) -> dict[str, Any]:
    """How every page of the studio is served, for `Blocks.launch`."""

    def lifespan(app: Any) -> Any:
        return housekeeping.lifespan(app, visitors)

    return {
        "app_kwargs": {"middleware": [Middleware(Door, visitors=visitors)], "lifespan": lifespan},
        "theme": theme(),
        # In the head, because Gradio rewrites the selectors of its own `css` argument and breaks the nested ones.
        "head": _head(models),
        "footer_links": ["api", "settings"],
        "run_history": False,
        "show_error": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": mcp,
        "max_file_size": visitors.limits.upload_bytes,
        "state_session_capacity": visitors.limits.sessions,
        "allowed_paths": [],
    }
