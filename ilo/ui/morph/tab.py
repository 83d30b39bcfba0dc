"""The layout of the Morph tab, and its event handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ilo.classifiers.classifier import Classifier
from ilo.methods import MORPH_METHODS, PRESETS, morph_preset
from ilo.priors.load import Model
from ilo.settings import SolverSettings
from ilo.ui import text
from ilo.ui.examples import Example
from ilo.ui.morph.handlers import NOBODY, Morph, class_names, radius_of, slider_names
from ilo.ui.parts import layout, painter, photographs, plots, views
from ilo.ui.parts.controls import RADII, radius_position
from ilo.ui.parts.layout import PRIVATE, heading, helps, pills

FIRST_CLASS = "goldfish"
OTHER_FACE = "(seed) => (Number(seed) || 0) + 1"


def build(
    page: gr.Blocks,
    model: Model,
    guides: dict[str, Classifier],
    example: Example,
    make: Callable[[str], Morph],
    suggested: str,
) -> None:
    """Lay out the tab inside `page`, which must be the current one; `suggested` is the preset chosen at first."""
    source = gr.State()
    named: dict[str, Any] = {"source": source}
    sweep: list[gr.Button] = []

    def more() -> None:
        sweep.append(gr.Button(text.SWEEP, elem_id="morph-sweep", size="md"))
        gr.HTML(f'<p class="fine">{text.SWEEP_HELP}</p>', apply_default_css=False)

    with gr.Row(elem_id="morph", elem_classes="bench", equal_height=False):
        with gr.Column(elem_id="morph-left", elem_classes="bench-left", min_width=280):
            named |= _start(model, example)
            named |= _aim(guides)
            named |= _method(model, suggested)
        panel = views.panel(text.READY, text.MORPH_READY_HELP, views.how(text.MORPH_HOW))
        shared = layout.columns("morph-", plots.stage(None, text.MORPH_PREVIEW, ""), panel, more)

    morph = make(shared.download.GRADIO_CACHE)
    upload, other, photo = named.pop("upload"), named.pop("other"), named.pop("photo")
    wiring = layout.Wiring(morph, named, shared)
    canvas, start, seed = named["painter"], named["start"], named["seed"]

    chosen = [source, canvas, photo, start, *shared.shown]
    wiring.photographs(upload, photo, morph.upload, morph.rechoose, chosen)
    for name in ("start", "guide", "method", "second"):
        script = layout.CHOICE_SCRIPT.replace("TAB", "morph").replace("NAME", name)
        named[name].change(None, named[name], None, js=script, **PRIVATE)
    other.click(None, seed, seed, js=OTHER_FACE, **PRIVATE)

    preview = wiring.with_values(morph.preview)
    seen = [canvas.change, start.change, seed.change]
    gr.on(seen, preview, wiring.inputs, shared.shown, trigger_mode="always_last", concurrency_limit=2, **PRIVATE)
    gr.on([page.load], preview, wiring.inputs, shared.shown, **PRIVATE)

    chosen = [named["class"], named["second"]]
    named["guide"].change(morph.classes, [named["guide"], *chosen], chosen, **PRIVATE)

    wiring.connect(page, (shared.run, morph.run), (sweep[0], morph.sweep))


def _start(model: Model, example: Example) -> dict[str, Any]:
    with gr.Row(elem_classes="sources"):
        heading("Start")
        upload = gr.UploadButton("Upload a photograph", size="sm", elem_id="morph-upload", min_width=64, scale=0)
    start = pills("Start", [(label, key) for key, (label, _) in text.STARTS.items()], "start")
    helps({f"start-{key}": help_ for key, (_, help_) in text.STARTS.items()})
    with gr.Row(elem_classes="start-face"):
        seed = gr.Number(0, precision=0, label="Seed", min_width=90)
        other = gr.Button("Another face", size="sm", elem_id="another", min_width=104, scale=0)
    with gr.Column(elem_classes="start-photo"):
        photo = photographs.build("morph-photograph")
        canvas = painter.build(model, example, "morph-painter")
    return {"upload": upload, "start": start, "seed": seed, "other": other, "photo": photo, "painter": canvas}


def _aim(guides: dict[str, Classifier]) -> dict[str, Any]:
    heading("Class")
    names = class_names(next(iter(guides.values())))
    first = FIRST_CLASS if FIRST_CLASS in names else names[0]
    with gr.Row():
        wanted = gr.Dropdown(names, value=first, label="Target class", filterable=True, elem_id="class")
        second = gr.Dropdown(
            [NOBODY, *names], value=NOBODY, label="Second class (optional)", filterable=True, elem_id="second"
        )
    share = gr.Slider(1, 99, 50, step=1, label="Share of the second class, %", buttons=[], elem_id="share")
    guide = pills("Classifier", [(text.GUIDES[name][0], name) for name in guides], "guide")
    helps({f"guide-{name}": text.GUIDES[name][1] for name in guides})
    return {"class": wanted, "second": second, "share": share, "guide": guide}


def _method(model: Model, suggested: str) -> dict[str, Any]:
    heading("Amount of change")
    gr.HTML(f'<p class="fine">{text.REACH_HELP}</p>', apply_default_css=False)
    found: dict[str, Any] = {}
    for method in MORPH_METHODS:
        found |= _radii(model, method)
    with gr.Row(elem_classes="method-row"):
        choices = [(method.title, name) for name, method in MORPH_METHODS.items()]
        found["method"] = pills("Method", choices, "morph-method")
        found["preset"] = pills("Preset", [(name, name) for name in PRESETS], "morph-preset", "preset", suggested)
    helps({f"by-{name}": method.sentence for name, method in MORPH_METHODS.items()})
    return found


def _radii(model: Model, method: str) -> dict[str, Any]:
    """The sliders of a method's radii, shown while it is chosen."""
    base = morph_preset(method=method, layers=model.layers)
    positions = [radius_position(radius_of(base, k)) for k in range(len(base.rounds))]
    found: dict[str, Any] = {}
    with gr.Column(elem_classes=f"radii radii-{method}"):
        for k, (name, position) in enumerate(zip(slider_names(base), positions, strict=True)):
            found[name] = gr.Slider(
                0, len(RADII) - 1, position, step=1, label=_label(base, k), elem_classes="radius", buttons=[]
            )
        note = gr.HTML(radii_note(positions, method), elem_classes="radius-note", apply_default_css=False)
    sliders = list(found.values())
    for slider in sliders:
        slider.change(None, sliders, note, js=_note_script(method), **PRIVATE)
    return found


def _label(settings: SolverSettings, k: int) -> str:
    if settings.method == "pixels":
        return "Pixels"
    return "Code" if k == 0 else f"{4 * 2**k}×{4 * 2**k}"


def radii_note(positions: list[int], method: str = "ilo") -> str:
    """The radii that a method's sliders show."""
    return f"ρ = {' · '.join(_words(RADII[position], method) for position in positions)}"


def _words(radius: float, method: str) -> str:
    if method == "pixels":
        return text.pixels_limit(radius)
    return "no ball" if radius == float("inf") else text.percent(radius)


def _note_script(method: str) -> str:
    """`radii_note` as a browser script, so that the text follows the slider without delay."""
    words = [_words(radius, method) for radius in RADII]
    return f"(...positions) => 'ρ = ' + positions.map((p) => {words}[p]).join(' · ')"
