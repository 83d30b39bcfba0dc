"""The controls of the method, and the solver settings that they describe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ilo.engine import memory
from ilo.methods import MORPH_METHODS, PRESETS, SERIES, morph_preset, preset
from ilo.operators import Operator, nominal
from ilo.operators.setting import MAX_SEED
from ilo.priors.base import BALLS
from ilo.priors.load import Model
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.records.recipe import Shared
from ilo.settings import (
    LEAST_HIDDEN,
    MOST_RADIUS,
    LossWeights,
    RoundSettings,
    SettingsError,
    SolverSettings,
    check_number,
    check_whole,
)
from ilo.ui import text
from ilo.ui.parts import tasks
from ilo.ui.parts.fields import number, whole

Values = Mapping[str, Any]

BALL_FIELDS = ("radius_features", "radius_latents", "radius_noise")


def _radii() -> tuple[float, ...]:
    """The positions of a radius slider: frozen, several values per decade from 0.1 % up, morphs' own, and no ball."""
    morphs = [morph_preset(method=method, layers=len(preset().rounds)) for method in MORPH_METHODS]
    own = {plan.radius(ball) for settings in morphs for plan in settings.rounds for ball in BALLS}
    usual = {float(f"{digit}e{n}") for n in range(-3, 1) for digit in SERIES}
    return tuple(sorted(own | usual | {0.0, MOST_RADIUS, math.inf}))


RADII = _radii()  # shares of the start's l1 norm
WEIGHT_FIELDS = {"mse": "Pixels", "perceptual": "Perceptual", "geodesic": "Geodesic", "dead_zone": "Dead zone"}
# The names that messages give to the fields of a round, as on their labels.
FIELD_NAMES = {
    "steps": "Adam steps",
    "lr": "step size",
    "radius_features": "ball around the features",
    "radius_latents": "ball around the latents",
    "radius_noise": "ball around the noise",
    "outer_iterations": "searches",
    "range_steps": "range steps",
}
ROUND_FIELDS = tuple(FIELD_NAMES)
UNUSED_ROUND = replace(preset().rounds[-1], steps=50)


def radius_position(radius: float) -> int:
    """The slider position closest to a radius."""
    if radius == 0 or math.isinf(radius):
        return RADII.index(radius)
    return min(range(1, len(RADII) - 1), key=lambda i: abs(math.log(RADII[i] / radius)))


def advanced_controls(model: Model, suggested: str, formats: Sequence[str]) -> dict[str, gr.components.Component]:
    """The controls for rounds, radii, loss weights, start and network, filled from the preset `suggested`.

    `formats`: the number formats to choose from.
    """
    layers = model.layers
    first = next(iter(tasks.offered().values()))
    start = fields_of(preset(suggested, operator=nominal(first.name, model.resolution, {}), prior=model), layers)
    found: dict[str, gr.components.Component] = {}
    found["rounds"] = gr.Slider(
        1,
        layers,
        start["rounds"],
        step=1,
        label="Rounds",
        info="The latent code, then one layer per round.",
        buttons=[],
    )
    with gr.Tabs(elem_id="rounds"):
        for k in range(layers):
            with gr.Tab("Code" if k == 0 else f"{4 * 2**k}×{4 * 2**k}", id=k, render_children=True):
                found |= _round_controls(k, start)
    found["radius_hidden"] = gr.Slider(
        100 * LEAST_HIDDEN,
        100,
        start["radius_hidden"],
        step=1,
        label="Inside holes, %",
        info="Of the features' ball: how much of it is left where the mask hides the picture.",
        buttons=[],
    )
    _subheading("Loss weights")
    with gr.Row():
        for name, label, info in (
            ("mse", "Pixels", "Squared error."),
            ("perceptual", "Perceptual", "Compares features."),
        ):
            found[f"weights.{name}"] = gr.Number(
                start[f"weights.{name}"], label=label, info=info, min_width=110, interactive=True
            )
    with gr.Row():
        for name, label, info in (
            ("geodesic", "Geodesic", "Keeps codes close."),
            ("dead_zone", "Dead zone", "Only errors over 0.1."),
        ):
            found[f"weights.{name}"] = gr.Number(
                start[f"weights.{name}"], label=label, info=info, min_width=110, interactive=True
            )
    found["sna"] = gr.Checkbox(
        start["sna"],
        label="Noise on features (SNA)",
        info="Only for a noisy input: gives the picture the same noise before features are compared.",
    )
    _subheading("Start and network")
    with gr.Row():
        found["seed"] = gr.Number(0, precision=0, label="Seed", info="Of the start.", min_width=80)
        found["covariance"] = gr.Dropdown(
            ["full", "diagonal"],
            value=start["covariance"],
            label="Latent covariance",
            info="Of w.",
            min_width=110,
        )
        found["dtype"] = gr.Dropdown(
            list(formats),
            value=start["dtype"],
            label="Precision",
            info="Of the network.",
            min_width=110,
            visible=len(formats) > 1,
        )
    return found


def check(model: Model) -> None:
    """Raises `CheckpointError` if the generator has fewer layers than the page has rounds for."""
    if model.layers < len(preset().rounds):
        raise CheckpointError(
            f"{model.id} makes pictures of {model.resolution} px; the page needs at least 32 px. Choose another model, "
            "or use this one with python -m ilo solve."
        )


def room(model: Model, suggested: str, free: int | None, steps: int) -> str:
    """The memory that a run with the suggested preset needs, the free memory if known, and the step limit."""
    needed = model.memory_needed(preset(suggested))
    words = text.room(
        memory.gigabytes(needed), None if free is None else memory.gigabytes(free), free is None or needed <= free
    )
    return f'<p class="fine">{words} {text.steps_allowed(steps)}</p>'


def _subheading(words: str) -> None:
    gr.HTML(f"<h3>{words}</h3>", apply_default_css=False, elem_classes="subheading")


def _round_controls(k: int, start: Values) -> dict[str, gr.components.Component]:
    found: dict[str, gr.components.Component] = {}
    with gr.Row():
        found[f"{k}.steps"] = gr.Number(
            start[f"{k}.steps"], precision=0, label="Adam steps", info="In each search.", min_width=90
        )
        found[f"{k}.lr"] = gr.Number(start[f"{k}.lr"], label="Step size", info="At the peak.", min_width=90)
    labels = {
        "radius_features": ("Ball around the features", "How much the features may change."),
        "radius_latents": ("Ball around the latents", "How much the latent codes may change."),
        "radius_noise": ("Ball around the noise", "How much each noise map may change."),
    }
    balls = {}
    for name, (label, info) in labels.items():
        if k or name != "radius_features":  # round 0 has none
            balls[name] = gr.Slider(
                0,
                len(RADII) - 1,
                start[f"{k}.{name}"],
                step=1,
                label=label,
                info=info,
                elem_classes="radius",
                buttons=[],
            )
    found |= {f"{k}.{name}": slider for name, slider in balls.items()}
    note = gr.HTML(radius_note({name: start[f"{k}.{name}"] for name in balls}), elem_classes="radius-note")
    for slider in balls.values():
        slider.change(None, list(balls.values()), note, js=_note_script(list(balls)), api_visibility="private")
    if k:
        with gr.Row():
            found[f"{k}.outer_iterations"] = gr.Number(
                start[f"{k}.outer_iterations"],
                precision=0,
                label="Searches",
                info="A projection between two.",
                min_width=90,
            )
            found[f"{k}.range_steps"] = gr.Number(
                start[f"{k}.range_steps"], precision=0, label="Range steps", info="In each projection.", min_width=90
            )
    return found


BALL_LABELS = {"radius_features": "features", "radius_latents": "latents", "radius_noise": "noise"}


def radius_note(positions: Mapping[str, int]) -> str:
    """The radius of every ball of a round, ball → position of its slider."""
    return "".join(
        f"<div><b>{BALL_LABELS[name]}</b> {radius_words(RADII[int(position)])}</div>"
        for name, position in positions.items()
    )


def radius_words(radius: float) -> str:
    """A radius as the page shows it, in percent."""
    if math.isinf(radius):
        return "no ball"
    return text.percent(radius) if radius else "frozen"


def _note_script(names: list[str]) -> str:
    """`radius_note` as a browser script, so that the text follows the slider without delay."""
    words = json.dumps([radius_words(radius) for radius in RADII])
    labels = json.dumps([BALL_LABELS[name] for name in names])
    return (
        f"(...positions) => {{ const words = {words}; return {labels}.map((name, i) =>"
        " `<div><b>${name}</b> ${words[positions[i]]}</div>`).join(''); }"
    )


def fields_of(settings: SolverSettings, layers: int) -> dict[str, Any]:
    """The values of the advanced controls for `settings`."""
    fields: dict[str, Any] = {"rounds": len(settings.rounds)}
    for k in range(layers):
        plan = settings.rounds[k] if k < len(settings.rounds) else UNUSED_ROUND
        for name in ROUND_FIELDS:
            value = getattr(plan, name)
            fields[f"{k}.{name}"] = radius_position(value) if name in BALL_FIELDS else value
    fields |= {f"weights.{name}": getattr(settings.weights, name) for name in WEIGHT_FIELDS}
    return fields | {
        "radius_hidden": round(100 * settings.radius_hidden),
        "sna": settings.sna,
        "covariance": settings.covariance,
        "dtype": settings.dtype,
    }


def shared_values(shared: Shared, layers: int) -> dict[str, Any]:
    """The values of the controls for the task and the settings of a link."""
    settings = shared.settings
    steps = sum(plan.steps for plan in settings.rounds)
    named = next((name for name, counts in PRESETS.items() if sum(counts) == steps), "Quick")
    return {
        "task": shared.task,
        **tasks.shown_values(shared.task, shared.operator),
        "method": settings.method,
        "preset": named,
        **fields_of(settings, layers),
        "seed": settings.seed,
    }


def preset_fields(values: Values, model: Model) -> dict[str, Any]:
    """The values of the advanced controls for the chosen preset, method and task. Raises `SettingsError`."""
    task = values["task"]
    operator = nominal(task, model.resolution, tasks.settings(task, values))
    return fields_of(preset(values["preset"], values["method"], operator=operator, prior=model), model.layers)


def solver_settings(values: Values, model: Model, operator: Operator) -> SolverSettings:
    """The solver settings in the controls for a measurement: the preset with the user's changes.

    Raises:
        SettingsError: a field is empty, or a value is not allowed.
    """
    base = preset(values["preset"], values["method"], seed=seed(values["seed"]), operator=operator, prior=model)
    count = whole("Rounds", values["rounds"])
    rounds = tuple(_round(k, values, base) for k in range(count))
    chosen = {name: _weight(label, values[f"weights.{name}"]) for name, label in WEIGHT_FIELDS.items()}
    try:
        weights = LossWeights(**chosen)
    except SettingsError as error:
        raise SettingsError(_relabelled(error, WEIGHT_FIELDS)) from None
    return replace(
        base,
        rounds=rounds,
        weights=weights,
        radius_hidden=number("Inside holes", values["radius_hidden"]) / 100,
        sna=values["sna"],
        covariance=values["covariance"],
        dtype=values["dtype"],
    )


def seed(value: Any) -> int:
    """The seed in a field. Raises `SettingsError` with the field's label."""
    found = whole("Seed", value)
    check_whole("Seed", found, 0, MAX_SEED)
    return found


def _weight(label: str, value: Any) -> float:
    found = number(f"Loss weight {label}", value)
    check_number(f"Loss weight {label}", found, 0.0, 1e6)
    return found


def _round(k: int, values: Values, base: SolverSettings) -> RoundSettings:
    """The settings of round k. Raises `SettingsError` with the layer and the field's label."""
    try:
        return _read_round(k, values, base)
    except SettingsError as error:
        words = _relabelled(error, FIELD_NAMES)
        raise SettingsError(f"{text.layer_size(k).capitalize()}: {words}") from None


def _relabelled(error: SettingsError, labels: Mapping[str, str]) -> str:
    """The message of an error with the page's labels instead of the names of the settings."""
    return re.sub(r"\w+", lambda word: labels.get(word[0], word[0]), str(error))


def _read_round(k: int, values: Values, base: SolverSettings) -> RoundSettings:
    plan = base.rounds[k] if k < len(base.rounds) else UNUSED_ROUND
    changed: dict[str, Any] = {}
    for name in ROUND_FIELDS:
        if f"{k}.{name}" not in values:
            changed[name] = getattr(plan, name)
        elif name in BALL_FIELDS:
            position = whole(name, values[f"{k}.{name}"])
            if not 0 <= position < len(RADII):
                raise SettingsError(f"{name} must be at a position from 0 to {len(RADII) - 1}, not {position}.")
            # A preset's radius that lies between two positions stays exact until its slider is moved.
            exact = getattr(plan, name)
            changed[name] = exact if position == radius_position(exact) else RADII[position]
        elif name == "lr":
            changed[name] = number(name, values[f"{k}.{name}"])
        else:
            changed[name] = whole(name, values[f"{k}.{name}"])
    return replace(plan, **changed)
