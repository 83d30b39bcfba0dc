"""The layout shared by the tabs: the picture in the middle, the state of a run on the right, and the event handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ilo.ui import text
from ilo.ui.bench import Bench
from ilo.ui.parts import player, timeline

# Moves the divider of the comparison and switches between the views of a result, in the browser, so that arrow keys do
# not wait for the server.
COMPARE_SCRIPT = """
element.addEventListener('input', (event) => {
  if (event.target.matches('.compare-cut'))
    event.target.closest('.compare').style.setProperty('--cut', event.target.value + '%');
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-view]');
  if (!button) return;
  const views = button.closest('.views');
  views.querySelectorAll('.view').forEach((view, i) => { view.hidden = i !== Number(button.dataset.view); });
  views.querySelectorAll('[data-view]').forEach((other) => other.setAttribute('aria-pressed', other === button));
});
"""
# Run and Stop take turns; whoever pressed one with the keyboard finds the focus on the other.
FOCUS_SCRIPT = """
const row = element.closest('.column').querySelector('.run-row');
let pressed = null;
row.addEventListener('focusin', (event) => { pressed = event.target.closest('button'); });
document.addEventListener('focusin', (event) => { if (!row.contains(event.target)) pressed = null; });
new MutationObserver(() => {
  if (pressed?.disabled) [...row.querySelectorAll('button')].find((button) => !button.disabled)?.focus();
}).observe(row, {attributes: true, subtree: true, attributeFilter: ['disabled']});
"""
# Shows on the picture that face detection is running, which may take a second.
LOOK_SCRIPT = "() => { document.querySelector('#BOX').parentElement.dataset.looking = '1'; }"
LOOKED_SCRIPT = "() => { delete document.querySelector('#BOX').parentElement.dataset.looking; }"
# The style sheet shows the controls and explanations of the current choice.
CHOICE_SCRIPT = "(value) => { document.querySelector('#TAB').setAttribute('data-NAME', value); }"
# On a narrow screen the picture is below the settings.
SHOW_SCRIPT = "() => { document.querySelector('#STAGE').scrollIntoView({block: 'nearest', behavior: 'smooth'}); }"
Start = Callable[[dict[str, Any], str], Iterator[Any]]  # (values, session) → a run's updates
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass
class Columns:
    """The middle and the right column of a tab."""

    notice: gr.HTML
    stage: gr.HTML
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML
    strips: gr.HTML
    panel: gr.HTML
    download: gr.DownloadButton

    @property
    def shown(self) -> list[Any]:
        """The components that change before a run."""
        return [self.stage, self.strips, self.progress, self.notice]

    @property
    def running(self) -> list[Any]:
        """The components that change during a run, in the order of `Bench.run`."""
        return [
            self.stage, self.strips, self.progress, self.panel, self.notice, self.run, self.stop, self.download,
        ]  # fmt: skip


def columns(
    prefix: str, stage: str, panel: str, more: Callable[[], None] | None = None, line: str | None = None
) -> Columns:
    """Build both columns inside the current row.

    Args:
        prefix: begins every element's id.
        stage, panel, line: first content of the stage, of the right column, and of the line under the stage.
        more: builds further components above the download.
    """

    def box(name: str, value: str | None = None, **options: Any) -> gr.HTML:
        return gr.HTML(value, elem_id=f"{prefix}{name}", apply_default_css=False, **options)

    with gr.Column(elem_id=f"{prefix}middle", min_width=320):
        notice = box("notice", elem_classes="notice-box")
        picture = box("stage", stage, js_on_load=COMPARE_SCRIPT + player.SCRIPT, elem_classes="bench-stage")
        with gr.Row(elem_classes="run-row"):
            run = gr.Button("Run", variant="primary", elem_id=f"{prefix}run", min_width=96, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id=f"{prefix}stop", min_width=80, scale=0)
            progress = box("progress", elem_classes="run-progress")
        strips = box("strips", line, js_on_load=timeline.SCRIPT + FOCUS_SCRIPT, elem_classes="strips")
    with gr.Column(elem_id=f"{prefix}right", elem_classes="bench-right", min_width=280):
        words = box("panel", panel)
        if more is not None:
            more()
        download = gr.DownloadButton(
            text.DOWNLOAD, interactive=False, elem_id=f"{prefix}download", elem_classes="download", size="md"
        )
        box("disclaimer", f'<p class="fine">{text.DISCLAIMER}</p>')
    return Columns(notice, picture, run, stop, progress, strips, words, download)


def heading(words: str) -> None:
    gr.HTML(f"<h2>{words}</h2>", apply_default_css=False, elem_classes="heading")


def pills(
    label: str, choices: list[tuple[str, str]], elem_id: str, elem_classes: str = "", chosen: str | None = None
) -> gr.Radio:
    """A group of buttons, initially at the first entry or at `chosen`; hidden if there is only one entry."""
    return gr.Radio(
        choices,
        value=choices[0][1] if chosen is None else chosen,
        label=label,
        show_label=False,
        container=False,
        elem_id=elem_id,
        elem_classes=elem_classes,
        min_width=0,
        visible=len(choices) > 1,
    )


def helps(words: dict[str, str]) -> None:
    """One sentence per choice; the style sheet shows that of the current choice."""
    lines = "".join(f'<p class="fine {kind}">{help_}</p>' for kind, help_ in words.items())
    gr.HTML(lines, apply_default_css=False)


class Wiring:
    """Connects a tab's components with its handlers.

    Args:
        bench: the handlers.
        named: name → component; every handler receives the values of all of them.
        shared: the columns of the tab.
    """

    def __init__(self, bench: Bench, named: dict[str, Any], shared: Columns):
        self._bench, self._shared = bench, shared
        self.names, self.inputs = list(named), list(named.values())

    def values(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))

    def with_values(self, handler: Callable[[dict[str, Any], str], Any]) -> Callable[..., Any]:
        """Wrap a handler of (values, session) in the form that Gradio calls."""

        def call(request: gr.Request, *values: Any) -> Any:
            return handler(self.values(values), self.session(request))

        return call

    def with_session(self, handler: Callable[[str], Any]) -> Callable[..., Any]:
        def call(request: gr.Request) -> Any:
            return handler(self.session(request))

        return call

    def session(self, request: gr.Request) -> str:
        """The session of a request."""
        session = request.session_hash or ""
        self._bench.visitors.asked(session)
        return session

    def photographs(
        self,
        upload: gr.UploadButton,
        box: gr.HTML,
        take: Callable[[dict[str, Any], str, str | None], Any],
        choose: Callable[[dict[str, Any], str, Any], Any],
        outputs: list[Any],
    ) -> None:
        """Connect an upload button, and the component `box` that shows the photograph, to their handlers."""

        def taken(request: gr.Request, path: str | None, *values: Any) -> Any:
            return take(self.values(values), self.session(request), path)

        def chosen(request: gr.Request, event: gr.EventData, *values: Any) -> Any:
            return choose(self.values(values), self.session(request), event._data)

        look, looked = (script.replace("BOX", str(box.elem_id)) for script in (LOOK_SCRIPT, LOOKED_SCRIPT))
        upload.upload(None, None, None, js=look, **PRIVATE)
        seen = upload.upload(taken, [upload, *self.inputs], outputs, concurrency_limit=2, **PRIVATE)
        seen.then(None, None, None, js=looked, **PRIVATE)
        box.click(chosen, self.inputs, outputs, concurrency_limit=2, **PRIVATE)

    def connect(self, page: gr.Blocks, *starts: tuple[gr.Button, Start]) -> None:
        """Connect the start buttons to their runs, and Stop, the download and a closed tab to the bench."""
        shared, bench = self._shared, self._bench
        show = SHOW_SCRIPT.replace("STAGE", str(shared.stage.elem_id))
        for button, run in starts:
            button.click(None, None, None, js=show, **PRIVATE)
            running = button.click(
                self._streaming(run),
                self.inputs,
                shared.running,
                trigger_mode="once",
                concurrency_limit=None,  # `Runs` limits the queue and refuses further runs with a message
                **PRIVATE,
            )
            running.then(
                self.with_session(bench.save), None, [shared.download, shared.notice], concurrency_limit=2, **PRIVATE
            )
        shared.stop.click(self.with_session(bench.stop), None, None, queue=False, **PRIVATE)
        page.unload(self.with_session(bench.leave))

    def _streaming(self, run: Start) -> Callable[..., Iterator[Any]]:
        def stream(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from run(self.values(values), self.session(request))

        return stream
