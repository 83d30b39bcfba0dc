"""README.txt of a bundle: what was run, what the files are, and how to repeat the run, in plain sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from ilo.methods import METHODS, MORPH_METHODS
from ilo.operators import OPERATORS
from ilo.records.recipe import Recipe
from ilo.records.recorder import Recorder
from ilo.settings import MORPH
from ilo.text.words import shown

WIDTH = 90  # characters of a line
FILE_WIDTH = 25  # characters of a file's name, with the space after it
ABOUT = {
    "result.png": "The picture that the solver found.",
    "result-large.png": "The result, enlarged to 512 pixels per side (bicubic) if it is smaller.",
    "strip.png": "All pictures in a row: the input, the start, each round, the truth if it is known.",
    "input.png": "The picture that the run began with, cropped.",
    "mask.png": "The mask: white was hidden from the solver.",
    "measurement.png": "The measurement as a picture: all that the solver saw.",
    "measurement.safetensors": "The measurement y as numbers.",
    "scores.json": "The errors of the result; for a morph, what the classifier sees.",
    "recipe.json": "Model, task and all settings: enough to repeat the run.",
    "notebook.ipynb": "A Jupyter notebook that repeats the run; open it in this folder.",
    "latents.safetensors": "The state of the generator, from which it draws result.png.",
    "trace.csv": "The losses of every step.",
    "trajectory.mp4": "A film of the search.",
    "photo.png": "The whole photograph with the result in it.",
    "mean.png": "The mean of all answers.",
    "spread.png": "Where the answers differ: their standard deviation, amplified four times.",
    "README.txt": "This text.",
}


def readme_of(recorder: Recorder, names: Iterable[str]) -> str:
    """Write the README of a run whose bundle has the files `names`."""
    recipe = recorder.final_recipe()
    parts = [
        "ILO Studio: one run\n===================",
        *(textwrap.fill(sentence, WIDTH) for sentence in (_task(recipe), _search(recorder, recipe))),
        "Files\n-----\n" + "\n".join(_file(name) for name in names),
        "Repeat the run\n--------------\n"
        + textwrap.fill(
            "With ILO Studio installed, `python -m ilo replay FOLDER` (or the .zip itself) repeats the run and "
            "compares the pictures: on the same machine they are the same, byte for byte. notebook.ipynb shows the "
            "same run in Python, step by step.",
            WIDTH,
        ),
        textwrap.fill("A reconstruction is one plausible picture, not an identification of a person.", WIDTH),
    ]
    return "\n\n".join(parts) + "\n"


def _task(recipe: Recipe) -> str:
    model = f"the generator {_name(recipe.model)} ({recipe.resolution}×{recipe.resolution} pixels)"
    settings = ", ".join(f"{name} {_value(value)}" for name, value in recipe.operator.items() if "sha256" not in name)
    if recipe.task == MORPH:
        start = "a generated face" if recipe.input_sha256 is None else "a photograph"
        return f"Task: {start} was changed towards a class of pictures, with {model}. Settings: {settings}."
    kind = OPERATORS.get(recipe.task)
    title = _name(recipe.task) if kind is None else f"{kind.title} ({kind.formula})"
    damaged = "The studio damaged the picture, so the original is known." if recipe.damaged_here else (
        "The picture was damaged already, so no original is known."
    )  # fmt: skip
    return f"Task: {title}, with {model}. {f'Settings: {settings}. ' if settings else ''}{damaged}"


def _search(recorder: Recorder, recipe: Recipe) -> str:
    settings = recipe.settings
    found = (MORPH_METHODS if recipe.task == MORPH else METHODS).get(settings.method)
    method = settings.method if found is None else f"{found.title} ({found.sentence.rstrip('.')})"
    rounds = f"{len(settings.rounds)} round{'s' * (len(settings.rounds) > 1)}"
    counts = ", ".join(str(n) for n in settings.steps_of_rounds)
    words = f"Method: {method}. {rounds} of {counts} steps, random seed {settings.seed}."
    if settings.samples > 1:
        words += f" {settings.samples} answers, from as many random starts."
    if recipe.stopped_at is not None:
        words += f" The run was stopped after step {recipe.stopped_at} of {recorder.total}."
    return words


def _file(name: str) -> str:
    words = ABOUT.get(name)
    if words is None:
        words = "One of the answers." if name.startswith("answer-") else "The best picture at that point of the search."
    return textwrap.fill(words, WIDTH, initial_indent=name.ljust(FILE_WIDTH), subsequent_indent=" " * FILE_WIDTH)


def _name(text: str) -> str:
    return text if text.isprintable() and len(text) <= WIDTH else shown(text)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " + ".join(f"{_name(str(name))} {share:g}" for name, share in value.items())
    return _name(value) if isinstance(value, str) else shown(value)
