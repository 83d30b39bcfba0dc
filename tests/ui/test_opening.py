"""Opening a saved run again: it sets every control, the picture and the mask; a strange file gives one sentence."""

import json
import zipfile
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from ilo.records.recipe import Recipe, make_recipe
from ilo.records.recorder import Recorder
from ilo.records.saving import zip_bundle
from ilo.settings import SettingsError
from ilo.solver import solve
from ilo.ui.parts import painter
from ilo.ui.studio import opening


@pytest.fixture(scope="module")
def changed(values, model):
    """Controls that differ from those of a new page."""
    few = {f"{k}.steps": 1 for k in range(model.layers)}
    hole = torch.ones(64, 64)
    hole[5:20, 30:50] = 0
    drawn = {**values["painter"], "mask": painter.pack(hole, 64)}
    return {**values, **few, "seed": 11, "painter": drawn, "1.radius_features": 3, "weights.geodesic": 0.5}


@pytest.fixture(scope="module")
def saved(studio, changed, model, tmp_path_factory):
    order, _ = studio.order(changed)
    recipe = make_recipe(
        model, order.problem, order.settings, damaged_here=True, measurement_seed=0, input_image=order.input_image,
        perceptual=None,
    )  # fmt: skip
    recorder = Recorder(recipe, order.problem, order.input_image)
    for step in solve(model, order.problem, order.settings, perceptual=None):
        recorder.add(step)
    return zip_bundle(recorder, tmp_path_factory.mktemp("saved") / "run.zip", model)


def names_of(values):
    return [name for name in values if name not in ("source", "painter")]


def is_skipped(value):
    return value == gr.skip()


def reopened(studio, values, path):
    names = names_of(values)
    answer = studio.reopen(values, "me", str(path), names)
    given = {name: value for name, value in zip(names, answer, strict=False) if not is_skipped(value)}
    panel, source, canvas, _, *_, notice = answer[len(names) :]
    return given, panel, source, canvas, notice


def test_a_saved_run_sets_the_page(studio, values, changed, saved):
    given, panel, source, canvas, notice = reopened(studio, values, saved)
    assert "Saved result" in panel
    assert "error" not in notice
    again, _ = studio.order({**values, **given, "source": source, "painter": canvas.value})
    order, _ = studio.order(changed)
    assert again.settings == order.settings
    assert torch.equal(again.problem.y, order.problem.y)
    assert torch.equal(again.problem.truth, order.problem.truth)
    assert torch.equal(again.problem.operator.mask, order.problem.operator.mask)


def test_a_recipe_alone_sets_the_controls(studio, values, changed, saved, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(zipfile.ZipFile(saved).read("recipe.json"))
    given, panel, source, _, _ = reopened(studio, values, path)
    assert given["seed"] == 11
    assert is_skipped(source)
    assert "Saved result" not in panel
    order, _ = studio.order({**changed, **given})
    assert order.settings == studio.order(changed)[0].settings


def rewritten(saved, path, **changes):
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.replace(".", "_"), old.read(name)))
    return path


def test_strange_files_give_one_sentence(studio, values, saved, tmp_path):
    recipe = zipfile.ZipFile(saved).read("recipe.json").decode()
    other = json.dumps(json.loads(recipe) | {"model": "ffhq-1024"})
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(black)
    bare = json.loads(recipe)
    del bare["settings"]
    odd = {
        "text.zip": b"hello",
        "empty.json": b"",
        "binary.json": b"\xff\xfe\x00",
        "list.json": b"[1]",
        "deep.json": b"[" * 5000,
        "bare.json": json.dumps(bare).encode(),
        "other.json": other.encode(),
        "long.json": b" " * (2**20 + 1),
    }
    for name, data in odd.items():
        (tmp_path / name).write_bytes(data)
    files = [tmp_path / name for name in odd]
    files.append(rewritten(saved, tmp_path / "picture.zip", input_png=black.read_bytes()))
    files.append(rewritten(saved, tmp_path / "nothing.zip", result_png=b"not a picture"))
    files.append(rewritten(saved, tmp_path / "numbers.zip", measurement_safetensors=b"\0" * 100))
    for path in files:
        given, panel, source, _, notice = reopened(studio, values, path)
        assert not given, path.name
        assert is_skipped(panel)
        assert is_skipped(source)
        assert "notice" in notice
        assert str(tmp_path) not in notice
        assert "inside the studio" not in notice, path.name  # the sentence for a bug


def test_what_the_tab_cannot_show_is_refused(model, saved, tmp_path):
    recipe = Recipe.from_json(zipfile.ZipFile(saved).read("recipe.json").decode())
    for changes, words in (
        ({"settings": replace(recipe.settings, samples=2)}, "several answers"),
        ({"noise": {"name": "none"}}, "noise of its own"),
        ({"model": "other"}, "used the model 'other'"),
    ):
        path = tmp_path / "recipe.json"
        path.write_text(replace(recipe, **changes).to_json())
        with pytest.raises(SettingsError, match=words):
            opening.read(path, model)
