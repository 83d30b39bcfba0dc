"""The code that repeats a run gives the same picture; so do the cells of the notebook."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ilo.classifiers import classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset, preset
from ilo.morph import morph
from ilo.operators import Gaussian, build
from ilo.perceptual.find import find_perceptual
from ilo.photos.pictures import to_tensor
from ilo.problem import Problem
from ilo.records.recipe import Recipe, make_recipe
from ilo.records.recorder import Recorder
from ilo.records.saving import write_bundle
from ilo.records.script import SAVED, notebook_of, preset_of, python_of
from ilo.settings import RoundSettings, SolverSettings
from ilo.solver import solve

FEW = SolverSettings(rounds=(RoundSettings(steps=3), RoundSettings(steps=2, radius_features=0.02)), seed=4)


def picture(side=64):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    return to_tensor(small.resize((64, 64), Image.Resampling.BICUBIC), side)


def hole():
    mask = torch.ones(64, 64)
    mask[10:30, 20:50] = 0
    return mask


def solved(model, problem, settings, image, stop=None, perceptual=None, **recorded):
    recipe = make_recipe(
        model, problem, settings, input_image=image, perceptual=perceptual, **{"measurement_seed": 0, **recorded}
    )
    recorder = Recorder(recipe, problem, image)
    if isinstance(problem, Guidance):
        steps = morph(model, problem, settings, image)
    else:
        always = (lambda: True) if stop else None
        steps = solve(model, problem, settings, due=always, perceptual=perceptual, due_result=always)
    for step in steps:
        recorder.add(step)
        if step.done == stop:
            break
    return recorder


def repeated(code, monkeypatch, folder):
    """The picture that the code saves when it is run in a bundle."""
    monkeypatch.chdir(folder)
    exec(compile(code, "run.py", "exec"), {"__name__": "__main__"})
    return np.asarray(Image.open(folder / SAVED))


def damaged(model):
    operator = build("inpaint", 64, mask=hole())
    problem = Problem.damage(picture(), operator, 5)
    return solved(model, problem, FEW, picture(), damaged_here=True, measurement_seed=5)


def noisy(model):
    problem = Problem.damage(picture(), build("random-inpaint", 64, fraction=0.3, seed=9), 2, Gaussian(10))
    return solved(model, problem, FEW, picture(), damaged_here=True, measurement_seed=2)


def given(model):
    operator = build("super-resolve", 64, factor=16)
    problem = Problem(operator, picture(4))
    return solved(model, problem, FEW, picture(4), damaged_here=False)


def bare(model):
    operator = build("compressed-sensing", 64)
    problem = Problem(operator, operator(picture()))
    return solved(model, problem, FEW, None, damaged_here=False)


def stopped(model):
    problem = Problem.damage(picture(), build("identity", 64))
    return solved(model, problem, FEW, picture(), damaged_here=True, stop=4)


def compared(model):
    """With a perceptual distance, and the settings of a preset."""
    operator = build("super-resolve", 64, factor=4)
    problem = Problem.damage(picture(), operator)
    settings = preset(seed=3, operator=operator, prior=model)
    return solved(model, problem, settings, picture(), damaged_here=True, perceptual=find_perceptual())


def guided(model):
    guidance = Guidance(classifier.load("robust64"), {"bullfrog": 0.7, "goldfish": 0.3}, views=1)
    settings = replace(morph_preset(layers=model.layers, seed=2), rounds=FEW.rounds)
    return solved(model, guidance, settings, None, damaged_here=False)


@pytest.mark.parametrize("make", [damaged, noisy, given, bare, stopped, compared, guided])
def test_the_code_gives_the_same_picture(make, model, tmp_path, monkeypatch):
    recorder = make(model)
    folder = write_bundle(recorder, tmp_path / "run", model)
    expected = np.asarray(Image.open(folder / "result.png"))
    recipe = recorder.final_recipe()
    code = python_of(recipe, preset_of(recorder.problem, recipe.settings, model))
    assert ("preset(" in code) == (make is compared)
    assert all(len(line) <= 120 for line in code.splitlines())
    assert np.array_equal(repeated(code, monkeypatch, folder), expected)


def test_the_cells_of_the_notebook_give_the_same_picture(model, tmp_path, monkeypatch):
    folder = write_bundle(damaged(model), tmp_path / "run", model)
    notebook = json.loads((folder / "notebook.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds == ["markdown", "code"] * 5
    assert len({cell["id"] for cell in notebook["cells"]}) == len(kinds)
    assert all(
        "".join(cell["source"]).count("\n") == 0 for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(folder)
    names = {}
    for each in code[:-1]:
        exec(each, names)
    shown = eval(code[-1], names)
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(folder / "result.png")))


def test_names_of_a_recipe_cannot_become_code(model):
    recipe = damaged(model).final_recipe()
    odd = "x'); raise SystemExit  # \n"
    values = json.loads(recipe.to_json()) | {"model": odd, "task": odd, "operator": {odd: odd, "factor": odd}}
    values["engine"] |= {"device": odd, "engine": odd}
    hostile = Recipe.from_json(json.dumps(values))
    code = python_of(hostile)
    assert "SystemExit" in code
    compile(code, "run.py", "exec")
    assert not any(line.lstrip().startswith("raise") for line in code.splitlines())
    assert json.loads(notebook_of(hostile))["cells"]
