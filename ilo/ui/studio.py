"""The Studio tab: where everything stands, and what it is wired to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ilo.models import Model
from ilo.ui import controls, examples, painter, plots, text, views
from ilo.ui.examples import Example
from ilo.ui.handlers import Studio

# Slides the divider of the comparison; without it the reader's arrow keys would wait for the server.
COMPARE_SCRIPT = """
element.addEventListener('input', (event) => {
  if (event.target.matches('.compare-cut'))
    event.target.closest('.compare').style.setProperty('--cut', event.target.value + '%');
});
"""
# Style sheets show the controls and explanations of what is chosen.
CHOICE_SCRIPT = "(value) => { document.querySelector('#studio').dataset.NAME = value; }"
# On a narrow screen the picture lies below the settings.
SHOW_SCRIPT = "() => { document.querySelector('#stage').scrollIntoView({block: 'nearest', behavior: 'smooth'}); }"
MAX_RUNS = 32  # visitors whose runs may wait in line


def build(
    page: gr.Blocks, model: Model, pictures: list[Example], make: Callable[..., Studio], perceptual: bool
) -> None:
    """Lay out the tab inside `page`, which must be the current one."""
    source = gr.State()
    named: dict[str, Any] = {"source": source}
    with gr.Row(elem_id="studio", equal_height=False):
        with gr.Column(elem_id="left", min_width=280):
            named |= _picture(model, pictures)
            named |= _task(model)
            named |= _method(model)
        with gr.Column(elem_id="middle", min_width=320):
            notice = gr.HTML(elem_id="notice", apply_default_css=False)
            stage = gr.HTML(
                plots.stage(None, text.PREVIEW, ""), elem_id="stage", js_on_load=COMPARE_SCRIPT, apply_default_css=False
            )
            with gr.Row(elem_id="run-row"):
                run = gr.Button("Run", variant="primary", elem_id="run", min_width=96, scale=0)
                stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80, scale=0)
                progress = gr.HTML(elem_id="progress", apply_default_css=False)
            strip = gr.HTML(elem_id="strips", apply_default_css=False)
        with gr.Column(elem_id="right", min_width=280):
            panel = gr.HTML(views.idle(perceptual), elem_id="panel", apply_default_css=False)
            download = gr.DownloadButton("Download everything (.zip)", interactive=False, elem_id="download", size="md")
            gr.HTML(f'<p class="fine">{text.DISCLAIMER}</p>', elem_id="disclaimer", apply_default_css=False)

    studio = make(cache=download.GRADIO_CACHE)
    upload, upload_mask = named.pop("upload"), named.pop("upload_mask")
    strip_of_examples = named.pop("examples")
    names, inputs = list(named), list(named.values())

    def with_values(handler: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: gr.Request, *values: Any) -> Any:
            return handler(dict(zip(names, values, strict=True)), request.session_hash)

        def call_all(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from handler(dict(zip(names, values, strict=True)), request.session_hash)

        return call_all if handler == studio.run else call

    def with_session(handler: Callable[[str], Any]) -> Callable[..., Any]:
        def call(request: gr.Request) -> Any:
            return handler(request.session_hash or "")

        return call

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    canvas = named["painter"]

    def pick(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
        clicked = event._data.get("index") if isinstance(event._data, dict) else None
        return studio.pick(dict(zip(names, values, strict=True)), request.session_hash or "", clicked)

    def take(request: gr.Request, path: str | None, *values: Any) -> Any:
        return studio.upload(dict(zip(names, values, strict=True)), request.session_hash or "", path)

    shown = [stage, strip, progress, notice]
    strip_of_examples.click(pick, inputs, [source, canvas, *shown], **private)
    upload.upload(take, [upload, *inputs], [source, canvas, *shown], **private)
    upload_mask.upload(studio.upload_mask, [upload_mask, canvas], [canvas, notice], **private)
    for name, key in (("task", "task"), ("deblur.kind", "blur"), ("method", "method"), ("truth", "truth")):
        named[name].change(None, named[name], None, js=CHOICE_SCRIPT.replace("NAME", key), **private)

    fields = [
        name for name in names if name in controls.fields_of(controls.preset(), model.generator.config.num_layers)
    ]
    fill = controls.fill_script(fields, model.generator.config.num_layers)
    for choice in (named["method"], named["preset"]):
        choice.input(None, [named["method"], named["preset"]], [named[f] for f in fields], js=fill, **private)

    seen = [canvas.change, named["task"].change, named["truth"].change]
    seen += [component.change for name, component in named.items() if "." in name and name.split(".")[0] in text.TASKS]
    gr.on(seen, with_values(studio.preview), inputs, shown, trigger_mode="always_last", concurrency_limit=2, **private)
    gr.on([page.load], with_values(studio.preview), inputs, shown, **private)

    run.click(None, None, None, js=SHOW_SCRIPT, **private)
    running = run.click(
        with_values(studio.run),
        inputs,
        [stage, strip, progress, panel, notice, run, stop, download],
        trigger_mode="once",
        concurrency_limit=MAX_RUNS,
        **private,
    )
    running.then(with_session(studio.save), None, [download, notice], concurrency_limit=2, **private)
    stop.click(with_session(studio.stop), None, None, queue=False, **private)
    page.unload(with_session(studio.leave))


def _heading(words: str) -> None:
    gr.HTML(f"<h2>{words}</h2>", apply_default_css=False, elem_classes="heading")


def _pills(label: str, choices: list[tuple[str, str]], elem_id: str) -> gr.Radio:
    """A choice whose first entry is chosen."""
    return gr.Radio(
        choices, value=choices[0][1], label=label, show_label=False, container=False, elem_id=elem_id, min_width=0
    )


def _helps(words: dict[str, str]) -> None:
    """One sentence for each choice; style sheets show that of the current one."""
    lines = "".join(f'<p class="fine {kind}">{help_}</p>' for kind, help_ in words.items())
    gr.HTML(lines, apply_default_css=False)


def _picture(model: Model, pictures: list[Example]) -> dict[str, Any]:
    with gr.Row(elem_id="sources"):
        _heading("Picture")
        upload = gr.UploadButton("Upload", size="sm", elem_id="upload", min_width=64, scale=0)
        upload_mask = gr.UploadButton(
            "Upload mask", size="sm", elem_id="upload-mask", elem_classes="for-inpaint", min_width=64, scale=0
        )
    strip = examples.build(pictures)
    canvas = painter.build(model, pictures[0].image, pictures[0].name)
    truth = _pills("Who damages the picture", [(label, key) for key, (label, _) in text.TRUTH.items()], "truth")
    _helps({f"truth-{key}": help_ for key, (_, help_) in text.TRUTH.items()})
    return {"examples": strip, "upload": upload, "upload_mask": upload_mask, "painter": canvas, "truth": truth}


def _task(model: Model) -> dict[str, Any]:
    _heading("Task")
    task = _pills("Task", [(label, name) for name, (label, _) in text.TASKS.items()], "task")
    _helps({f"for-{name}": help_ for name, (_, help_) in text.TASKS.items()})
    return {"task": task, **controls.task_controls(model)}


def _method(model: Model) -> dict[str, Any]:
    _heading("Method")
    with gr.Row(elem_id="method-row"):
        method = _pills("Method", [(label, name) for name, (label, _) in text.METHODS.items()], "method")
        preset = _pills("Preset", [(name, name) for name in text.PRESETS], "preset")
    _helps({f"by-{name}": help_ for name, (_, help_) in text.METHODS.items()})
    with gr.Accordion("Layers, radii and weights", open=False, elem_id="advanced"):
        found = controls.advanced_controls(model)
    return {"method": method, "preset": preset, **found}
