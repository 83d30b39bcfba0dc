"""The Python code that repeats a run, as a script and as a Jupyter notebook."""

from __future__ import annotations

import json
from pprint import pformat
from typing import Any

from ilo import methods
from ilo.engine.compiling import batch_of
from ilo.guidance import Guidance
from ilo.methods import MORPH_METHODS, MORPH_PRESETS, morph_preset
from ilo.operators import OPERATORS
from ilo.priors.base import Prior
from ilo.problem import Problem
from ilo.records.recipe import Recipe, without_defaults
from ilo.settings import MORPH, SolverSettings
from ilo.weights import registry

Cell = tuple[str, str]  # (one sentence, code)
SAVED = "again.png"  # where the code saves its picture
WIDTH = 100  # characters of a line
PICTURES = "ilo.photos.pictures"


def python_of(recipe: Recipe, preset: str | None = None) -> str:
    """Write a script that repeats a run in the folder of its bundle and saves the picture as again.png.

    Args:
        recipe: recipe of the run.
        preset: name of the preset that gives the recipe's settings, from `preset_of`; None writes out all settings.
    """
    return "\n\n".join(code for _, code in _cells(recipe, preset)) + "\n"


def notebook_of(recipe: Recipe, preset: str | None = None) -> str:
    """The same code as a Jupyter notebook (nbformat 4), one sentence above each cell. Arguments as in `python_of`."""
    cells: list[dict[str, Any]] = []
    for sentence, code in _cells(recipe, preset):
        cells.append(_cell("markdown", sentence))
        cells.append({**_cell("code", code), "execution_count": None, "outputs": []})
    cells.append(_cell("markdown", "The picture:"))
    cells.append({**_cell("code", "to_picture(picture)"), "execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    numbered = [{"id": f"cell-{n}", **cell} for n, cell in enumerate(cells, 1)]
    notebook = {"cells": numbered, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def preset_of(problem: Problem | Guidance, settings: SolverSettings, prior: Prior) -> str | None:
    """Name of the preset that gives these settings for this problem, or None."""
    if isinstance(problem, Problem):
        return methods.preset_of(settings, operator=problem.operator, noise=problem.noise, prior=prior)
    seed, method = settings.seed, settings.method
    if method not in MORPH_METHODS:
        return None
    made = {name: morph_preset(name, method, layers=prior.layers, seed=seed) for name in MORPH_PRESETS}
    return next((name for name, each in made.items() if each == settings), None)


def _cell(kind: str, source: str) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}


def _cells(recipe: Recipe, preset: str | None) -> list[Cell]:
    what = _guidance(recipe) if recipe.task == MORPH else _problem(recipe)
    return [_generator(recipe), what, _settings(recipe, preset), _run(recipe)]


def _generator(recipe: Recipe) -> Cell:
    device = recipe.engine.get("device", "cpu")
    threads = recipe.engine.get("threads")
    lines = ["import ilo", f"from {PICTURES} import {', '.join(_readers(recipe))}"]
    if device == "cpu" and isinstance(threads, int) and threads > 0:
        lines.insert(1, "import torch")
        lines += ["", f"torch.set_num_threads({threads})  # as in the run, for the same last bits"]
    where = "" if device == "cpu" else f", {device!r}"
    note = "" if recipe.model in registry.ids("generator") else "  # or the path of its file"
    return "Load the generator.", "\n".join([*lines, "", f"generator = ilo.load({recipe.model!r}{where}){note}"])


def _readers(recipe: Recipe) -> list[str]:
    """What the code needs to read and write pictures."""
    mask = ["read_mask"] if _has_mask(recipe) else []
    picture = ["read_picture"] if _has_picture(recipe) else []
    return [*mask, *picture, "to_picture", *(["to_tensor"] if picture else [])]


def _has_mask(recipe: Recipe) -> bool:
    """Whether the run keeps its mask in mask.png; other operators draw theirs again."""
    kind = OPERATORS.get(recipe.task)
    return recipe.mask_sha256 is not None and kind is not None and kind.mask_setting() is not None


def _has_picture(recipe: Recipe) -> bool:
    """Whether the run began with a picture, not with a bare measurement or a generated face."""
    return recipe.input_sha256 not in (None, recipe.measurement_sha256)


def _problem(recipe: Recipe) -> Cell:
    given = {"mask": 'read_mask("mask.png")'} if _has_mask(recipe) else {}
    given |= {name: repr(value) for name, value in recipe.operator.items() if name.isidentifier()}
    arguments = "".join(f", {name}={value}" for name, value in given.items())
    operator = f"operator = ilo.build({recipe.task!r}, generator.resolution{arguments})"
    if recipe.damaged_here:
        seed = f", {recipe.measurement_seed}" if recipe.measurement_seed or recipe.noise is not None else ""
        noise = "" if recipe.noise is None else f", noise_model({recipe.noise!r})"
        lines = [
            *(["from ilo.operators import noise_model", ""] if noise else []),
            'truth = to_tensor(read_picture("input.png"), generator.resolution)',
            operator,
            f"problem = ilo.Problem.damage(truth, operator{seed}{noise})",
        ]
        return "Read the picture and damage it: the solver sees only the result of the operator.", "\n".join(lines)
    if _has_picture(recipe):
        lines = [
            operator,
            'given = to_tensor(read_picture("input.png", smallest=1), operator.upload_side)',
            "problem = ilo.Problem(operator, operator.given(given))",
        ]
        return "Read the picture, which was damaged already.", "\n".join(lines)
    lines = [
        "from safetensors.torch import load_file",
        "",
        operator,
        'problem = ilo.Problem(operator, load_file("measurement.safetensors")["y"])',
    ]
    return "Read the measurement.", "\n".join(lines)


def _guidance(recipe: Recipe) -> Cell:
    values = {name: value for name, value in recipe.operator.items() if name.isidentifier()}
    name, classes = values.pop("classifier", None), values.pop("classes", {})
    values.pop("classifier_sha256", None)
    more = "".join(f", {key}={value!r}" for key, value in values.items())
    lines = [
        "from ilo.classifiers import classifier",
        "from ilo.guidance import Guidance",
        "",
        f"guide = classifier.load({name!r}, generator.device)",
        f"guidance = Guidance(guide, {classes!r}{more})",
    ]
    if not _has_picture(recipe):
        return "Choose the classifier and the class to follow.", "\n".join(lines)
    lines.append('photo = to_tensor(read_picture("input.png"), generator.resolution).to(generator.device)')
    return "Choose the classifier and the class to follow, and read the photograph to start from.", "\n".join(lines)


def _settings(recipe: Recipe, preset: str | None) -> Cell:
    settings = recipe.settings
    if preset is None:
        written = pformat(without_defaults(settings), width=WIDTH, sort_dicts=False)
        return "The settings of the run, round by round.", f"settings = ilo.SolverSettings.from_dict(\n{written}\n)"
    if recipe.task == MORPH:
        made = f"morph_preset({preset!r}, {settings.method!r}, layers=generator.layers, seed={settings.seed})"
        return "The settings of the preset.", f"from ilo.methods import morph_preset\n\nsettings = {made}"
    noise = "" if recipe.noise is None else ", noise=problem.noise"
    measured = f"operator=operator{noise}, prior=generator"
    made = f"ilo.preset({preset!r}, {settings.method!r}, seed={settings.seed}, {measured})"
    return "The settings of the preset, which follow what was measured.", f"settings = {made}"


def _run(recipe: Recipe) -> Cell:
    lines, more = [], ""
    settings, ran_on = recipe.settings, recipe.engine.get("engine")
    if ran_on == "compiled":
        lines += [
            "from ilo.engine.compiling import chosen",
            "",
            f"generator = chosen(generator, settings, batch={batch_of(1, settings)})  # compiled, where that is ready",
        ]
    elif recipe.engine.get("device", "cpu") != "cpu" and isinstance(ran_on, str):
        more = f", run_by={ran_on!r}"
    if recipe.stopped_at is not None:
        more += f", stop_at={recipe.stopped_at}"
    if recipe.task == MORPH:
        photo = ", photo" if _has_picture(recipe) else ""
        lines[:0] = ["from ilo.morph import morph"]
        lines += ["", f"*_, last = morph(generator, guidance, settings{photo}{more})"]
    else:
        if recipe.perceptual is not None:
            lines[:0] = ["from ilo.perceptual.find import find_perceptual"]
            lines += ["", f"perceptual = find_perceptual(generator.device, {recipe.perceptual!r})"]
            more = f", perceptual=perceptual{more}"
        elif settings.weights.perceptual:
            more = f", perceptual=None{more}"
        lines.append(f"*_, last = ilo.solve(generator, problem, settings{more})")
    lines += [
        "picture = last.result.image  # [1, 3, R, R] in [−1, 1]",
        f'to_picture(picture).save("{SAVED}")',
    ]
    return "Run the solver and save the picture.", "\n".join(lines)
