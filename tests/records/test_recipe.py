"""Recipes survive JSON and links exactly, and broken ones are refused with a sentence."""

import dataclasses
import json
import math

import pytest
import torch

from ilo.engine import engine
from ilo.methods import preset
from ilo.operators import build, undamaged
from ilo.problem import Problem
from ilo.records.recipe import Recipe, RecipeError, Shared, differences, make_recipe, picture_sha256, tensor_sha256
from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings

CUSTOM = SolverSettings(
    rounds=(RoundSettings(steps=7), RoundSettings(steps=3, radius_noise=0.0, outer_iterations=2, range_steps=4)),
    weights=LossWeights(mse=0.1, geodesic=1 / 3),
    seed=2**31 - 1,
    dtype="bfloat16",
    sna=False,
)


def of_version_1(values):
    """A recipe in the form of version 1: without the later settings, and with other radii."""
    later = ("samples", "scale", "range_from", "radius_hidden")
    settings = {k: v for k, v in values["settings"].items() if k not in later}
    rounds = [{k: v for k, v in plan.items() if k != "range_lr"} for plan in settings["rounds"]]
    rounds[0] |= {"lr": 0.3}
    for plan in rounds[1:]:
        plan |= {"lr": 0.02, "radius_features": 0.02, "radius_latents": 50, "radius_noise": 12.5}
    return {**values, "version": 1, "settings": {**settings, "rounds": rounds}}


def recipe(model, settings=CUSTOM, task="denoise", **operator_settings):
    operator = build(task, model.resolution, **operator_settings)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    problem = Problem.damage(image, operator, 5)
    return make_recipe(
        model, problem, settings, damaged_here=True, measurement_seed=5, input_image=image, perceptual=None
    )


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("denoise", {"sigma": 1 / 3, "assumed_sigma": None}),
        ("super-resolve", {"factor": 8}),
        ("compressed-sensing", {"fraction": 0.05, "seed": 3}),
        ("identity", {}),
        ("compose", {"operators": [{"name": "super-resolve", "factor": 2}, {"name": "denoise", "sigma": 10.0}]}),
    ],
)
def test_json_and_link_are_exact(task, settings, model):
    for solver in (CUSTOM, preset("Paper", "pulse", seed=9)):
        made = recipe(model, solver, task, **settings)
        assert Recipe.from_json(made.to_json()) == made
        shared = Shared.from_query(made.to_query(), model)
        assert shared == Shared(made.model, task, made.operator, solver, 5)
        assert shared.settings.rounds[0].radius_noise == math.inf


def test_what_a_recipe_records(model):
    made = recipe(model, task="inpaint", mask=torch.eye(64))
    assert made.operator == {}
    assert made.model_sha256 == model.sha256
    assert made.mask_sha256 == tensor_sha256(torch.eye(64)[None, None])
    assert made.engine == engine.description("cpu")
    assert len({made.input_sha256, made.measurement_sha256, made.mask_sha256}) == 3
    assert made.damaged_here
    y_only = make_recipe(
        model,
        Problem(build("identity", 64), torch.zeros(1, 3, 64, 64)),
        CUSTOM,
        damaged_here=False,
        measurement_seed=0,
        input_image=None,
        perceptual=type("Some", (), {"name": "lpips-vgg"})(),
    )
    assert y_only.input_sha256 == y_only.measurement_sha256
    assert y_only.mask_sha256 is None
    assert y_only.perceptual == "lpips-vgg"


@pytest.mark.parametrize(("task", "settings"), [("compressed-sensing", {}), ("random-inpaint", {"fraction": 0.1})])
def test_a_perceptual_distance_that_is_of_no_use_is_not_recorded(model, task, settings):
    made = make_recipe(
        model,
        Problem.damage(torch.zeros(1, 3, 64, 64), build(task, 64, **settings)),
        CUSTOM,
        damaged_here=True,
        measurement_seed=0,
        input_image=None,
        perceptual=type("Some", (), {"name": "robust64"})(),
    )
    assert made.perceptual is None


def test_hashes_tell_shapes_apart():
    assert picture_sha256(torch.zeros(1, 3, 4, 8)) != picture_sha256(torch.zeros(1, 3, 8, 4))
    assert tensor_sha256(torch.zeros(2, 3)) != tensor_sha256(torch.zeros(3, 2))


def test_links_of_presets_are_short(model):
    operator = build("denoise", 64, sigma=25.0)
    made = recipe(model, preset("Quick", "ilo", seed=4, operator=operator, prior=model), sigma=25.0)
    query = made.to_query(model)
    assert "preset=Quick" in query
    assert Shared.from_query(query, model) == Shared.from_query(made.to_query(), model)
    assert "seed=4" in query
    assert len(query) < 160
    # Names that do not belong to a recipe, such as the page's own, are ignored.
    whole = preset(operator=undamaged(64), prior=model)
    assert Shared.from_query("?__theme=dark&task=identity", model).settings == whole
    assert Shared.from_query({"task": "identity", "method": "csgm", "seed": "3"}, model).settings == preset(
        "Quick", "csgm", seed=3
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "task=fly",
        "task=denoise&operator=%7B",
        "task=denoise&operator=[1]",
        'task=denoise&operator={"mask":1}',
        'task=denoise&operator={"speed":1}',
        "task=denoise&preset=Slow",
        "task=denoise&method=magic",
        "task=denoise&seed=nan",
        "task=denoise&seed=-1",
        "task=denoise&seed=99999999999999",
        "task=denoise&measurement_seed=1e3",
        'task=denoise&settings={"rounds":[]}',
        'task=denoise&settings={"rounds":[{"steps":NaN}]}',
        'task=denoise&settings={"rounds":[{"lr":1' + "0" * 400 + "}]}",
        "task=denoise&x=" + "x" * 30_000,
        {"task": "denoise", "model": "x" * 30_000},
        {"task": "denoise", "operator": "[" * 10_000},
        'task=compose&operator={"operators":' + "[" * 50 + "]" * 50 + "}",
        'task=compose&operator={"operators":"\\ud800"}',
        "task=%1b[31m",
        'task=denoise&settings={"rounds":[' + "{}," * 40 + "{}]}",
    ],
)
def test_bad_links(query, model):
    with pytest.raises(RecipeError) as error:
        Shared.from_query(query, model)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": True},
        {"version": "1"},
        {"model": 3},
        {"operator": []},
        {"operator": None},
        {"settings": []},
        {"settings": {"rounds": "x"}},
        {"settings": {"rounds": [{"steps": 0}]}},
        {"settings": {"rounds": [{"radius_noise": 10**400}]}},
        {"resolution": 1e9},
        {"measurement_seed": -1},
        {"damaged_here": 1},
        {"engine": "eager"},
        {"mask_sha256": 7},
        {"stopped_at": "soon"},
        {"surprise": 1},
    ],
)
def test_bad_recipes(change, model):
    values = json.loads(recipe(model, sigma=3.0).to_json())
    with pytest.raises(RecipeError) as error:
        Recipe.from_json(json.dumps({**values, **change}))
    assert "\n" not in str(error.value)


def test_a_recipe_of_version_1(model):
    made = json.loads(recipe(model, sigma=3.0).to_json())
    old = of_version_1(made)
    read = Recipe.from_json(json.dumps(old))
    assert read.version == 2
    assert (read.settings.scale, read.settings.range_from, read.settings.samples) == ("absolute", "latents", 1)
    first, second = read.settings.rounds
    assert (first.radius_latents, first.range_lr) == (math.inf, 0.3)
    assert second.radius_features == 0.02  # per element, as it was
    assert (second.radius_latents, second.radius_noise) == (math.inf, math.inf)  # were 50 and 12.5
    assert (second.lr, second.range_lr, second.outer_iterations) == (0.02, 0.02, 2)
    assert read.settings.weights == CUSTOM.weights
    assert Recipe.from_json(read.to_json()) == read
    assert Shared.from_query(read.to_query(), model).settings == read.settings
    for change in ({"task": None}, {"surprise": 1}, {"settings": 3}, {"settings": {"rounds": [3]}}):
        with pytest.raises(RecipeError):
            Recipe.from_json(json.dumps({**old, **change}))
    del old["task"]
    with pytest.raises(RecipeError, match="lacks task"):
        Recipe.from_json(json.dumps(old))


def test_links_with_settings_say_their_version(model):
    settings = '{"rounds":[{"steps":5,"lr":0.02,"radius_noise":30}]}'
    link = recipe(model, sigma=3.0).to_query()
    assert "v=2" in link.split("&")
    quick = preset(operator=build("denoise", 64, sigma=3.0), prior=model)
    assert "v=2" not in recipe(model, quick, sigma=3.0).to_query(model).split("&")
    now = {"task": "identity", "v": "2", "settings": settings.replace("30", "3")}
    assert Shared.from_query(now, model).settings.scale == "relative"
    old = Shared.from_query({"task": "identity", "settings": settings}, model).settings
    assert (old.scale, old.rounds[0].radius_noise, old.rounds[0].range_lr) == ("absolute", math.inf, 0.02)
    assert Shared.from_query({"task": "identity", "preset": "Paper"}, model).settings == preset(
        "Paper", operator=undamaged(64), prior=model
    )
    for version in ("1", "3", "", "x" * 99):
        with pytest.raises(RecipeError, match="The link has version"):
            Shared.from_query({"task": "identity", "v": version, "settings": settings}, model)


def test_text_that_is_no_recipe(model):
    made = recipe(model, sigma=3.0).to_json()
    for text in ("", "[]", "hello", made[:-20], "[" * 100_000, made.replace('"task"', '"tusk"')):
        with pytest.raises(RecipeError):
            Recipe.from_json(text)
    assert issubclass(RecipeError, SettingsError)


def test_operator_settings_must_be_json(model):
    with pytest.raises(RecipeError):
        dataclasses.replace(recipe(model, sigma=3.0), operator={"sigma": math.nan})


def test_differences_are_named():
    then = {"engine": "eager", "threads": 2, "torch": "2.8"}
    assert differences(then, then) == []
    assert differences(then, {**then, "threads": 8}) == ["The number of threads was 2 and is 8 now."]
    assert differences(then, {"engine": "eager", "threads": 2, "torch": "2.9", "numpy": "3"}) == [
        "The version of torch was 2.8 and is 2.9 now.",
        "The version of numpy was not recorded and is 3 now.",
    ]
