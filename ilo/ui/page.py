"""The page: its theme, its tabs, and how it is served."""

from __future__ import annotations

import functools
import html
import logging
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier, ClassifierError
from ilo.engine import compiling, devices
from ilo.engine.background import Background
from ilo.perceptual.base import Perceptual
from ilo.perceptual.classifier_features import ROBUST
from ilo.perceptual.find import find_perceptual
from ilo.priors.load import Model
from ilo.ui import examples, text
from ilo.ui.models import tab as models_tab
from ilo.ui.models.owner import Owner
from ilo.ui.morph import tab as morph
from ilo.ui.morph.handlers import Morph
from ilo.ui.parts import controls, tasks
from ilo.ui.runs import Runs
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


def serve(model: Model, owner: Owner | None = None, limits: Limits | None = None, **options: Any) -> gr.Blocks:
    """Serve the page for one model until interrupted; `options` are those of `Blocks.launch`."""
    visitors = Visitors(limits)
    usual = compiling.named() == "eager" or model.device.type != "cpu"
    background = None if usual else Background(model)
    page = build(model, owner, visitors, background)
    page.launch(**launch_options(visitors), **options)
    return page


def build(
    model: Model,
    owner: Owner | None = None,
    visitors: Visitors | None = None,
    background: Background | None = None,
) -> gr.Blocks:
    """The page for one model, with the limits of `visitors`; with an owner, it also has the Models tab."""
    controls.check(model)
    visitors = visitors or Visitors()
    limits = visitors.limits
    perceptual = _perceptual(model)
    guides = _guides(model)
    pictures = examples.load()
    runs = Runs(model, perceptual, limits, background)
    cleaning = round(limits.kept_seconds / 12), round(limits.kept_seconds)
    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=cleaning) as page:
        gr.HTML(_header(model), elem_id="header", apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Studio", id="studio"):

                def make(cache: str) -> Studio:
                    return Studio(model, pictures, runs, Path(cache), visitors)

                studio.build(page, model, pictures, make, None if perceptual is None else perceptual.name)
            if guides:
                with gr.Tab("Morph", id="morph", render_children=True):

                    def make_morph(cache: str) -> Morph:
                        return Morph(model, guides, pictures[0], runs, Path(cache), visitors)

                    morph.build(page, model, guides, pictures[0], make_morph)
            if owner is not None:
                models_tab.build(page, model, owner)
    return page.queue(default_concurrency_limit=8, max_size=limits.queued, api_open=False)


def _perceptual(model: Model) -> Perceptual | None:
    """The perceptual distance: LPIPS if it is here, else the embedded features; None if both files are broken."""
    for name in (None, ROBUST):
        try:
            return find_perceptual(model.device, name)
        except ValueError as error:
            log.warning("A perceptual distance cannot be used. %s", error)
    return None


def _guides(model: Model) -> dict[str, Classifier]:
    """The available classifiers. Without any there is no Morph tab; the log says why."""
    found = {}
    fetched = [name for name in registry.ids("classifier") if registry.BY_ID[name].here]
    for name in dict.fromkeys((*classifier.EMBEDDED, *fetched)):
        try:
            found[name] = classifier.load(name, model.device)
        except ClassifierError as error:
            log.warning("The classifier %s cannot be used. %s", name, error)
    return found


def _header(model: Model) -> str:
    facts = f"Model: {model.id} ({model.resolution}×{model.resolution} px), running on {devices.words(model.device)}"
    return (
        f'<header><h1>{text.TITLE}</h1><p class="tagline">{html.escape(text.TAGLINE)}</p>'
        f'<p class="facts">{html.escape(facts)}</p></header>'
    )


@functools.cache
def _css() -> str:
    return (ASSETS / "studio.css").read_text(encoding="utf-8")


def launch_options(visitors: Visitors) -> dict[str, Any]:
    """How every page of the studio is served, for `Blocks.launch`."""

    def lifespan(app: Any) -> Any:
        return housekeeping.lifespan(app, visitors)

    return {
        "app_kwargs": {"middleware": [Middleware(Door, visitors=visitors)], "lifespan": lifespan},
        "theme": theme(),
        # In the head, because Gradio rewrites the selectors of its own `css` argument and breaks the nested ones.
        "head": f"<style>{_css()}\n{tasks.style()}</style>",
        "footer_links": [],
        "run_history": False,
        "show_error": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "max_file_size": visitors.limits.upload_bytes,
        "state_session_capacity": visitors.limits.sessions,
        "allowed_paths": [],
    }
