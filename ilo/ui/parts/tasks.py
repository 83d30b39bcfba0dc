"""The tasks of the page and their controls, built from the settings that the operators declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ilo.operators import OPERATORS, Operator
from ilo.operators.setting import Setting
from ilo.settings import check_number, check_whole
from ilo.ui.parts.fields import number, typed, whole

MOST_POSITIONS = 1000  # a setting with more whole numbers than this has a text field instead of a slider


def offered() -> dict[str, type[Operator]]:
    """Name → operator, for the operators whose settings all have a control."""
    return {name: kind for name, kind in OPERATORS.items() if all(setting.kind != "parts" for setting in kind.declared)}


def label(kind: type[Operator]) -> str:
    """The text on the task's button."""
    return kind.label or kind.title


def painted() -> list[str]:
    """The tasks whose mask the user paints on the picture."""
    return [name for name, kind in offered().items() if kind.mask_setting() is not None]


def painting() -> list[str]:
    """The same for the painter; "" stands for the first task, before any choice."""
    names = painted()
    return ["", *names] if next(iter(offered())) in names else names


def paints(task: Any) -> bool:
    """Whether the user paints a mask for this task."""
    return isinstance(task, str) and task in painted()


def group(task: str) -> str:
    """CSS class of everything that is shown for one task only."""
    return f"for-{task}"


def choices() -> dict[str, str]:
    """Choice control → the tab's data attribute from which the style sheet reads its value."""
    return {
        f"{task}.{setting.name}": f"{task}-{setting.name}"
        for task, kind in offered().items()
        for setting in kind.declared
        if setting.kind == "choice"
    }


def controls(resolution: int) -> dict[str, gr.components.Component]:
    """The controls of every task, by task and setting; the style sheet shows only those of the chosen task."""
    found: dict[str, gr.components.Component] = {}
    for task, kind in offered().items():
        own = [setting for setting in kind.declared if setting.kind != "mask"]
        if own:
            with gr.Row(elem_classes=["task-controls", group(task)]):
                found |= {f"{task}.{setting.name}": _control(task, setting, resolution) for setting in own}
    return found


def _control(task: str, setting: Setting, resolution: int) -> gr.components.Component:
    first = setting.suggest(resolution)
    words = f"{setting.label}, {setting.unit}" if setting.unit and setting.unit != "×" else setting.label
    shown = [] if setting.when is None else [_when(task, *setting.when)]
    if setting.kind == "choice":
        return gr.Radio(
            [(text, value) for value, text in setting.choices],
            value=first,
            label=words,
            show_label=False,
            elem_classes=["whole-row", *shown],
        )
    if setting.offers is not None:
        buttons = [(f"{setting.unit}{value}", value) for value in setting.offers(resolution)]
        return gr.Radio(buttons, value=first, label=words, elem_classes=shown)
    if setting.optional:
        empty = "" if first is None else f"{setting.scale * first:g}"
        return gr.Textbox(
            empty, label=words, placeholder=setting.optional, min_width=60, max_lines=1, elem_classes=["narrow", *shown]
        )
    if setting.kind == "seed" or (setting.kind == "whole" and setting.high - setting.low > MOST_POSITIONS):
        return gr.Number(first, precision=0, label=words, min_width=60, elem_classes=["narrow", *shown])
    low, high = _range(setting, resolution)
    return gr.Slider(
        setting.scale * low,
        setting.scale * high,
        setting.scale * first,
        step=setting.scale * setting.step,
        label=words,
        min_width=100 if shown else 120,
        elem_classes=shown,
        buttons=[],
    )


def _range(setting: Setting, resolution: int) -> tuple[float, float]:
    """The slider's range."""
    if setting.slider is not None:
        return setting.slider(resolution)
    return setting.low, setting.high if setting.fits is None else setting.fits(resolution)


def settings(task: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The operator settings in the controls of a task. Raises `SettingsError` for an empty or wrong field."""
    kind = offered().get(task) if isinstance(task, str) else None
    declared = () if kind is None else kind.declared
    return {
        setting.name: _value(setting, values[f"{task}.{setting.name}"])
        for setting in declared
        if f"{task}.{setting.name}" in values
    }


def _value(setting: Setting, value: Any) -> Any:
    name = setting.label
    if setting.kind == "choice":
        return value
    if setting.optional:
        value = typed(name, value)
        if value is None:
            return None
    if setting.kind == "number":
        value = number(name, value)
        check_number(name, value, setting.scale * setting.low, setting.scale * setting.high)
        return value / setting.scale
    value = whole(name, value)
    check_whole(name, value, int(setting.low), int(setting.high))
    return value


def shown_values(task: str, operator: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the controls for an operator's settings."""
    own = {setting.name: setting for setting in OPERATORS[task].declared}
    return {
        f"{task}.{name}": "" if value is None else value if own[name].scale == 1 else own[name].scale * value
        for name, value in operator.items()
    }


def style() -> str:
    """A style sheet that shows only the controls of the chosen task, and each setting only where it applies."""
    names = list(offered())
    rules = [f":is(#studio, #morph) :is({', '.join(f'.{group(name)}' for name in names)}) {{ display: none; }}"]
    rules += [f"{_chosen(name)} .{group(name)} {{ display: flex; }}" for name in names]
    tools = '.painter-presets, .painter-mask, .painter-cursor, button[data-mode="paint"], button[data-mode="erase"]'
    unpainted = "".join(f":not({_chosen(name, '')})" for name in painted())
    rules.append(f"#studio{unpainted} :is({tools}, [data-do], .painter-size) {{ display: none; }}")
    rules.append(f"#studio{unpainted} .painter-view {{ cursor: grab; }}")
    for control, key in choices().items():
        task, name = control.split(".")
        setting = next(setting for setting in OPERATORS[task].declared if setting.name == name)
        for value, _ in setting.choices:
            touched = f"[data-{key}]" if value == setting.default else ""
            rules.append(
                f'#studio{touched}:not([data-{key}="{value}"]) .{_when(task, name, value)} {{ display: none; }}'
            )
    return "\n".join(rules)


def _chosen(task: str, tab: str = "#studio") -> str:
    """CSS selector of the tab while `task` is chosen; the first task is chosen at the start."""
    chosen = f'[data-task="{task}"]'
    return f"{tab}:is(:not([data-task]), {chosen})" if task == next(iter(offered())) else f"{tab}{chosen}"


def _when(task: str, choice: str, value: str) -> str:
    """CSS class of everything that is shown for one value of a task's choice."""
    return f"when-{task}-{choice}-{value}"
