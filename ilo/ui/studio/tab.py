"""The layout of the Studio tab, and its event handlers."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from ilo.methods import METHODS, PRESETS, preset
from ilo.priors.load import Model
from ilo.ui import examples, text
from ilo.ui.examples import Example
from ilo.ui.parts import controls, layout, painter, photographs, player, plots, tasks, views
from ilo.ui.parts.layout import PRIVATE, heading, helps, pills
from ilo.ui.runs.machine import Facts
from ilo.ui.studio.handlers import Studio


def build(page: gr.Blocks, model: Model, pictures: list[Example], make: Callable[[str], Studio], facts: Facts) -> None:
    """Lay out the tab inside `page`, which must be the current one; `facts` are those of the machines."""
    source = gr.State()
    suggested = facts.presets[model.id]
    named: dict[str, Any] = {"source": source}
    with gr.Row(elem_id="studio", elem_classes="bench", equal_height=False):
        with gr.Column(elem_id="left", elem_classes="bench-left", min_width=280):
            named |= _picture(model, pictures)
            named |= _task(model)
            named |= _method(model, facts)
        recorded = player.first()
        stage = plots.stage(None, text.PREVIEW, "") if recorded is None else player.stage(recorded, model)
        shared = layout.columns(
            "", stage, views.idle(facts.perceptual), line=player.line(recorded) if recorded else None
        )

    studio = make(shared.download.GRADIO_CACHE)
    upload, upload_mask = named.pop("upload"), named.pop("upload_mask")
    strip_of_examples, photo, room = named.pop("examples"), named.pop("photo"), named.pop("room")
    saved = named.pop("saved")
    wiring = layout.Wiring(studio, named, shared)
    names, inputs, canvas = wiring.names, wiring.inputs, named["painter"]

    def pick(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
        clicked = event._data.get("index") if isinstance(event._data, dict) else None
        return studio.pick(wiring.values(values), wiring.session(request), clicked)

    chosen = [source, canvas, photo, *shared.shown]
    strip_of_examples.click(pick, inputs, chosen, **PRIVATE)
    wiring.photographs(upload, photo, studio.upload, studio.rechoose, chosen)
    upload_mask.upload(studio.upload_mask, [upload_mask, canvas, source], [canvas, shared.notice], **PRIVATE)
    for name, key in {"task": "task", "method": "method", "truth": "truth", **tasks.choices()}.items():
        script = layout.CHOICE_SCRIPT.replace("TAB", "studio").replace("NAME", key)
        named[name].change(None, named[name], None, js=script, **PRIVATE)

    offered = tasks.offered()
    of_tasks = [component for name, component in named.items() if name.split(".")[0] in offered]
    preview = wiring.with_values(studio.preview)
    seen = [canvas.change, named["task"].change, named["truth"].change, *(each.change for each in of_tasks)]
    gr.on(seen, preview, inputs, shared.shown, trigger_mode="always_last", concurrency_limit=2, **PRIVATE)
    # What a preset says depends on the method and on all that is measured.
    fields = [name for name in names if name in controls.fields_of(preset(), model.layers)]
    fill = wiring.with_values(lambda values, _: studio.fill(values, fields))
    choices = [each.input for each in (named["method"], named["preset"], named["task"], *of_tasks)]
    gr.on(choices, fill, inputs, [named[name] for name in fields], trigger_mode="always_last", **PRIVATE)

    linked = [name for name in names if name not in ("source", "painter")]

    def follow(request: gr.Request) -> Any:
        values, panel = studio.follow(dict(request.query_params), linked)
        return *values, panel or gr.skip()

    def reopen(request: gr.Request, path: str | None, *values: Any) -> Any:
        return studio.reopen(wiring.values(values), wiring.session(request), path, linked)

    shown = [*(named[name] for name in linked), shared.panel, *chosen]
    saved.upload(reopen, [saved, *inputs], shown, concurrency_limit=2, **PRIVATE)

    opened = page.load(follow, None, [*(named[name] for name in linked), shared.panel], **PRIVATE)

    def seen_first(request: gr.Request, *values: Any) -> Any:
        linked_to = "task" in request.query_params
        return studio.opened(wiring.values(values), wiring.session(request), linked_to)

    opened.then(seen_first, inputs, shared.shown, **PRIVATE)
    page.load(lambda: controls.room(model, suggested, facts.free(), studio.runs.limits.steps), None, room, **PRIVATE)
    wiring.connect(page, (shared.run, studio.run))


def _picture(model: Model, pictures: list[Example]) -> dict[str, Any]:
    with gr.Row(elem_classes="sources"):
        heading("Picture")
        upload = gr.UploadButton("Upload", size="sm", elem_id="upload", min_width=64, scale=0)
        masked = [tasks.group(name) for name in tasks.painted()]
        upload_mask = gr.UploadButton(
            "Upload mask", size="sm", elem_id="upload-mask", elem_classes=masked, min_width=64, scale=0
        )
    strip = examples.build(pictures)
    photo = photographs.build("photograph")
    canvas = painter.build(model, pictures[0], paint=tasks.painting())
    truth = pills("Who damages the picture", [(label, key) for key, (label, _) in text.TRUTH.items()], "truth")
    helps({f"truth-{key}": help_ for key, (_, help_) in text.TRUTH.items()})
    return {
        "examples": strip,
        "upload": upload,
        "upload_mask": upload_mask,
        "photo": photo,
        "painter": canvas,
        "truth": truth,
    }


def _task(model: Model) -> dict[str, Any]:
    heading("Task")
    offered = tasks.offered()
    task = pills("Task", [(tasks.label(kind), name) for name, kind in offered.items()], "task")
    helps({tasks.group(name): html.escape(kind.help or kind.formula) for name, kind in offered.items()})
    return {"task": task, **tasks.controls(model.resolution)}


def _method(model: Model, facts: Facts) -> dict[str, Any]:
    suggested = facts.presets[model.id]
    heading("Method")
    with gr.Row(elem_classes="method-row"):
        method = pills("Method", [(each.title, name) for name, each in METHODS.items()], "method")
        preset = pills("Preset", [(name, name) for name in PRESETS], "preset", "preset", suggested)
    helps({f"by-{name}": each.sentence for name, each in METHODS.items()})
    with gr.Accordion("Layers, radii and weights", open=False, elem_id="advanced", elem_classes="advanced"):
        found = controls.advanced_controls(model, suggested, facts.formats)
        room = gr.HTML(elem_id="room", apply_default_css=False)
        saved = gr.UploadButton(text.OPEN, file_types=[".zip", ".json"], size="sm", elem_id="open-run")
    return {"method": method, "preset": preset, "room": room, "saved": saved, **found}
