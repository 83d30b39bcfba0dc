"""The method's controls, and the settings that they stand for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ilo.engine import memory
from ilo.methods import METHODS, PRESETS, preset
from ilo.priors.load import Model
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.records.recipe import Shared
from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings
from ilo.ui import text
from ilo.ui.parts import tasks
from ilo.ui.parts.fields import number, whole

Values = Mapping[str, Any]

# What a radius slider can stand at: frozen, some values a decade, no ball.
_DIGITS = (1, 1.25, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8)
RADII = (0.0, *(float(f"{d}e{n}") for n in range(-4, 0) for d in _DIGITS), 1.0, math.inf)
BALL_FIELDS = ("radius_features", "radius_latents", "radius_noise")
ROUND_FIELDS = ("steps", "lr", *BALL_FIELDS, "outer_iterations", "range_steps")
WEIGHT_FIELDS = ("mse", "perceptual", "geodesic", "dead_zone")
UNUSED_ROUND = RoundSettings(steps=50, radius_features=0.02, radius_latents=0.02, radius_noise=0.02)


def radius_position(radius: float) -> int:
    """The slider's position that comes nearest to a radius."""
    if radius == 0 or math.isinf(radius):
        return RADII.index(radius)
    return min(range(1, len(RADII) - 1), key=lambda i: abs(math.log(RADII[i] / radius)))


def elements(model: Model, layer: int) -> dict[str, int]:
    """p of each ball of round `layer`; of the largest map for the noise."""
    config = model.generator.config
    first = max(0, 2 * layer - 1)
    features = 0
    if layer:
        side = 2 * 2**layer
        features = config.channels[side] * side * side
    return {
        "radius_features": features,
        "radius_latents": (config.num_ws - first) * config.w_dim,
        "radius_noise": max(config.noise_sizes[first : 5 + 2 * layer]) ** 2,
    }


def advanced_controls(model: Model) -> dict[str, gr.components.Component]:
    """Rounds with their radii, loss weights, and the rest; filled with the suggested preset."""
    layers = model.layers
    first = next(iter(tasks.offered().values()))
    start = fields_of(preset(model.preset, task=first.name), layers)
    found: dict[str, gr.components.Component] = {}
    found["rounds"] = gr.Slider(
        1, layers, start["rounds"], step=1, label="Rounds", info="The latent code, then a layer each.", buttons=[]
    )
    with gr.Tabs(elem_id="rounds"):
        for k in range(layers):
            with gr.Tab("Code" if k == 0 else f"{4 * 2**k}×{4 * 2**k}", id=k, render_children=True):
                found |= _round_controls(model, k, start)
    _subheading("Loss weights")
    with gr.Row():
        for name, label, info in (
            ("mse", "Pixels", "Squared error."),
            ("perceptual", "Perceptual", "Features, not pixels."),
        ):
            found[f"weights.{name}"] = gr.Number(
                start[f"weights.{name}"], label=label, info=info, min_width=110, interactive=True
            )
    with gr.Row():
        for name, label, info in (
            ("geodesic", "Geodesic", "Codes stay together."),
            ("dead_zone", "Dead zone", "Errors above 0.1."),
        ):
            found[f"weights.{name}"] = gr.Number(
                start[f"weights.{name}"], label=label, info=info, min_width=110, interactive=True
            )
    _subheading("Start and network")
    with gr.Row():
        found["seed"] = gr.Number(0, precision=0, label="Seed", info="Another start.", min_width=80)
        found["covariance"] = gr.Dropdown(
            ["full", "diagonal"], value=start["covariance"], label="Covariance", info="Of the codes.", min_width=110
        )
        found["dtype"] = gr.Dropdown(
            ["float32", "bfloat16"], value=start["dtype"], label="Numbers", info="Network's.", min_width=110
        )
    return found


def check(model: Model) -> None:
    """Raises `CheckpointError` if the generator has fewer layers than the page has rounds for."""
    if model.layers < len(preset().rounds):
        raise CheckpointError(
            f"{model.id} makes pictures of {model.resolution} px; the page needs 32 px at least. Choose another one, "
            "or use it with python -m ilo solve."
        )


def room(model: Model, steps: int) -> str:
    """The memory of a run with the suggested preset, beside what is free now; and the steps that a run may have."""
    needed, free = model.memory_needed(preset(model.preset)), memory.available(model.device)
    words = text.room(memory.gigabytes(needed), memory.gigabytes(free), needed <= free)
    return f'<p class="fine">{words} {text.steps_allowed(steps)}</p>'


def _subheading(words: str) -> None:
    gr.HTML(f"<h3>{words}</h3>", apply_default_css=False, elem_classes="subheading")


def _round_controls(model: Model, k: int, start: Values) -> dict[str, gr.components.Component]:
    found: dict[str, gr.components.Component] = {}
    p = elements(model, k)
    with gr.Row():
        found[f"{k}.steps"] = gr.Number(start[f"{k}.steps"], precision=0, label="Steps", info="Of Adam.", min_width=90)
        found[f"{k}.lr"] = gr.Number(start[f"{k}.lr"], label="Step size", info="At its peak.", min_width=90)
    labels = {
        "radius_features": ("Ball around the features", "How far the features may bend."),
        "radius_latents": ("Ball around the latents", "How far the latent codes may move."),
        "radius_noise": ("Ball around the noise", "How far each noise map may move."),
    }
    balls = {}
    for name, (label, info) in labels.items():
        if p[name]:
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
    note = gr.HTML(radius_note({name: start[f"{k}.{name}"] for name in balls}, p), elem_classes="radius-note")
    for slider in balls.values():
        slider.change(None, list(balls.values()), note, js=_note_script(list(balls), p), api_visibility="private")
    if k:
        with gr.Row():
            found[f"{k}.outer_iterations"] = gr.Number(
                start[f"{k}.outer_iterations"], precision=0, label="Searches", info="Projections between.", min_width=90
            )
            found[f"{k}.range_steps"] = gr.Number(
                start[f"{k}.range_steps"], precision=0, label="Range steps", info="Of one projection.", min_width=90
            )
    return found


BALL_LABELS = {"radius_features": "features", "radius_latents": "latents", "radius_noise": "noise"}


def radius_note(positions: Mapping[str, int], p: Mapping[str, int]) -> str:
    """ρ and r = ρ·p of every ball of a round."""
    rows = []
    for name, position in positions.items():
        radius = RADII[int(position)]
        if math.isinf(radius):
            words = "no ball"
        elif radius == 0:
            words = "frozen"
        else:
            words = f"ρ = {radius:g}, r = ρ·{p[name]} = {radius * p[name]:.4g}"
        rows.append(f"<div><b>{BALL_LABELS[name]}</b> {words}</div>")
    return "".join(rows)


def _note_script(names: list[str], p: Mapping[str, int]) -> str:
    """`radius_note` in the browser, so that the words follow the slider at once."""
    radii = json.dumps([str(r) for r in RADII])
    parts = json.dumps([[BALL_LABELS[name], p[name]] for name in names])
    return (
        f"(...positions) => {{ const radii = {radii}; return {parts}.map(([name, p], i) => {{"
        " const text = radii[positions[i]], rho = Number(text);"
        " const words = text === 'inf' ? 'no ball' : rho === 0 ? 'frozen'"
        " : `ρ = ${rho}, r = ρ·${p} = ${Number((rho * p).toPrecision(4))}`;"
        " return `<div><b>${name}</b> ${words}</div>`; }).join(''); }"
    )


def fields_of(settings: SolverSettings, layers: int) -> dict[str, Any]:
    """What the advanced controls show for some settings."""
    fields: dict[str, Any] = {"rounds": len(settings.rounds)}
    for k in range(layers):
        plan = settings.rounds[k] if k < len(settings.rounds) else UNUSED_ROUND
        for name in ROUND_FIELDS:
            value = getattr(plan, name)
            fields[f"{k}.{name}"] = radius_position(value) if name in BALL_FIELDS else value
    fields |= {f"weights.{name}": getattr(settings.weights, name) for name in WEIGHT_FIELDS}
    return fields | {"covariance": settings.covariance, "dtype": settings.dtype}


def shared_values(shared: Shared, layers: int) -> dict[str, Any]:
    """What the controls show for the task and the settings of a link."""
    settings = shared.settings
    steps = tuple(plan.steps for plan in settings.rounds)
    named = next((name for name, counts in PRESETS.items() if steps in (counts, (sum(counts),))), "Quick")
    return {
        "task": shared.task,
        **tasks.shown_values(shared.task, shared.operator),
        "method": settings.method,
        "preset": named,
        **fields_of(settings, layers),
        "seed": settings.seed,
    }


def fill_script(names: list[str], layers: int) -> str:
    """A script (method, preset, task) → the values of the advanced controls `names`."""
    rows: list[list[Any]] = []  # those that differ; most tasks share theirs
    row_of = {}
    for task, method, name in itertools.product(tasks.offered(), METHODS, PRESETS):
        fields = fields_of(preset(name, method, task=task), layers)
        row = [fields[field] for field in names]
        rows += [] if row in rows else [row]
        row_of[f"{method} {name} {task}"] = rows.index(row)
    key = "`${method} ${preset} ${task}`"
    return f"(method, preset, task) => ({json.dumps(rows)})[({json.dumps(row_of)})[{key}]]"


def solver_settings(values: Values) -> SolverSettings:
    """The settings that the controls stand for: the preset, with what was changed in the fold.

    Raises:
        SettingsError: a field is empty, or a value is not allowed.
    """
    base = preset(values["preset"], values["method"], seed=whole("The seed", values["seed"]))
    count = whole("The number of rounds", values["rounds"])
    rounds = tuple(_round(k, values, base) for k in range(count))
    weights = LossWeights(
        **{name: number(f"The loss weight {name}", values[f"weights.{name}"]) for name in WEIGHT_FIELDS}
    )
    return SolverSettings(
        rounds=rounds,
        method=base.method,
        weights=weights,
        seed=base.seed,
        schedule=base.schedule,
        covariance=values["covariance"],
        noise_maps=base.noise_maps,
        sna=base.sna,
        skip=base.skip,
        dtype=values["dtype"],
    )


def _round(k: int, values: Values, base: SolverSettings) -> RoundSettings:
    plan = base.rounds[k] if k < len(base.rounds) else UNUSED_ROUND
    changed: dict[str, Any] = {}
    for name in ROUND_FIELDS:
        if f"{k}.{name}" not in values:
            changed[name] = getattr(plan, name)
        elif name in BALL_FIELDS:
            position = whole(f"Round {k + 1}'s {name}", values[f"{k}.{name}"])
            if not 0 <= position < len(RADII):
                raise SettingsError(f"Round {k + 1}'s {name} is at {position}; allowed is 0 to {len(RADII) - 1}.")
            # A preset's radius that lies between two positions stays exact until its slider is moved.
            exact = getattr(plan, name)
            changed[name] = exact if position == radius_position(exact) else RADII[position]
        elif name == "lr":
            changed[name] = number(f"Round {k + 1}'s step size", values[f"{k}.{name}"])
        else:
            changed[name] = whole(f"Round {k + 1}'s {name}", values[f"{k}.{name}"])
    return RoundSettings(**changed)
