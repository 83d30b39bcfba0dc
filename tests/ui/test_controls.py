"""Links, and the settings that the controls of the Studio tab describe."""

import math
from dataclasses import replace
from urllib.parse import parse_qsl

import gradio as gr
import pytest
import torch
from PIL import Image

from ilo.methods import METHODS, PRESETS, morph_preset, preset
from ilo.operators import nominal
from ilo.photos.masks import preset_mask
from ilo.records.recipe import Shared, make_recipe
from ilo.ui import text
from ilo.ui.parts import controls, painter, tasks
from ilo.ui.studio import handlers

SKIP = gr.skip()


# Links.

V2 = {"v": "2"}


@pytest.mark.parametrize("method", METHODS)
def test_a_link_brings_task_and_settings_back(studio, values, model, method):
    wanted = {
        **values, "task": "random-inpaint", "random-inpaint.fraction": 20, "random-inpaint.seed": 3, "method": method,
        "preset": "Paper", "seed": 5,
    }  # fmt: skip
    wanted |= controls.preset_fields(wanted, model) | {"1.lr": 0.07}
    order, _ = studio.order(wanted)
    made = make_recipe(
        model, order.problem, order.settings, damaged_here=True, measurement_seed=0, input_image=None, perceptual=None
    )
    names = [name for name in values if name not in ("source", "painter", "truth")]
    found, panel = studio.follow(dict(parse_qsl(made.to_query())), names)
    assert text.LINKED in panel
    followed = {**values, **{n: v for n, v in zip(names, found, strict=True) if v != SKIP}}
    again, _ = studio.order(followed)
    assert again.settings == order.settings
    assert again.problem.operator.settings() == order.problem.operator.settings()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"task": "magic"}, "allowed are"),
        ({"task": "compose"}, "needs operators"),
        ({"task": "identity", "seed": "x"}, "whole number"),
        ({"task": "identity", "measurement_seed": "4"}, "cannot show"),
        ({"task": "random-inpaint", "operator": '{"seed": "x"}'}, "whole number"),
        ({"task": "random-inpaint", "operator": '{"fraction": "0.2"}'}, "must be a number from"),
        ({"task": "identity", "settings": '{"rounds": [{"steps": 5}]}'}, "cannot show"),  # of version 1
        ({"task": "identity", **V2, "settings": '{"rounds": [{"steps": 5, "radius_noise": 0.0123}]}'}, "cannot show"),
        ({"task": "identity", **V2, "settings": '{"rounds": [{"steps": 5}], "samples": 4}'}, "cannot show"),
        ({"task": "identity", **V2, "settings": '{"rounds": [{"steps": 5, "radius_noise": 20}]}'}, "1 is 100 %"),
        ({"task": "identity", **V2, "settings": '{"rounds": [{"steps": 6000}]}'}, "this page allows 5,000"),
        ({"task": "identity", **V2, "settings": '{"rounds": [{"steps": 5}], "dtype": "tf32"}'}, "compute in tf32 here"),
    ],
)
def test_a_link_that_makes_no_sense_changes_nothing(studio, values, query, words):
    found, panel = studio.follow(query, list(values))
    assert words in panel
    assert all(value == SKIP for value in found)
    assert studio.follow({"__theme": "dark"}, list(values)) == ([SKIP] * len(values), "")


# Settings.


@pytest.mark.parametrize("task", tasks.offered())
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_untouched_controls_stand_for_the_preset_itself(studio, model, values, name, method, task):
    values = {**values, "preset": name, "method": method, "task": task, "denoise.sigma": 70}
    operator = nominal(task, model.resolution, tasks.settings(task, values))
    wanted = preset(name, method, operator=operator, prior=model)
    fields = [name for name in values if name in controls.fields_of(wanted, model.layers)]
    filled = dict(zip(fields, studio.fill(values, fields), strict=True))
    assert controls.solver_settings({**values, **filled}, model, operator) == wanted


def test_choosing_a_setting_that_is_wrong_leaves_the_controls(studio, values):
    wrong = {**values, "task": "denoise", "denoise.sigma": None}
    assert studio.fill(wrong, ["rounds", "1.lr"]) == [SKIP, SKIP]


def test_a_preset_between_two_positions_of_a_slider_stays_exact(model, values, monkeypatch):
    odd = replace(preset().rounds[1], radius_features=0.0123)
    base = replace(preset(), rounds=(preset().rounds[0], odd))
    monkeypatch.setattr(controls, "preset", lambda *_, **__: base)
    values = {**values, **controls.fields_of(base, model.layers)}
    operator = nominal("denoise", model.resolution, {})
    assert controls.solver_settings(values, model, operator) == base
    moved = controls.solver_settings({**values, "1.radius_features": len(controls.RADII) - 1}, model, operator)
    assert moved.rounds[1].radius_features == math.inf


def test_every_preset_s_radius_is_a_position_of_its_slider(model):
    operators = [nominal(task, model.resolution, {}) for task in tasks.offered()]
    presets = [preset(name, operator=operator, prior=model) for name in PRESETS for operator in operators]
    for settings in [*presets, morph_preset(layers=5), morph_preset(method="pixels", layers=5)]:
        for plan in settings.rounds:
            assert {plan.radius_features, plan.radius_latents, plan.radius_noise} <= set(controls.RADII)


def test_noise_on_features_can_be_switched_off(model, values):
    values, operator = {**values, "task": "denoise"}, nominal("denoise", model.resolution, {"sigma": 20.0})
    assert controls.solver_settings(values, model, operator).sna
    quiet = controls.solver_settings({**values, "sna": False}, model, operator)
    assert quiet.sna is False
    shared = Shared(model.id, "denoise", {"sigma": 20.0}, quiet)
    assert Shared.from_query(shared.to_query(), model) == shared
    fields = {**values, **controls.shared_values(shared, model.layers)}
    assert controls.solver_settings(fields, model, operator) == quiet


def test_radius_positions():
    assert [controls.RADII[controls.radius_position(r)] for r in controls.RADII] == list(controls.RADII)
    assert controls.RADII[controls.radius_position(0.021)] == 0.02
    assert 0.02 in controls.RADII
    assert list(controls.RADII) == sorted(controls.RADII)


def test_radii_are_shown_in_percent():
    positions = {
        name: controls.radius_position(r) for name, r in zip(controls.BALL_FIELDS, (0.2, 0, math.inf), strict=True)
    }
    assert controls.radius_note(positions) == (
        "<div><b>features</b> 20 %</div><div><b>latents</b> frozen</div><div><b>noise</b> no ball</div>"
    )
    assert [controls.radius_words(r) for r in (0.0125, 0.35, 1.0, 10.0)] == ["1.25 %", "35 %", "100 %", "1000 %"]
    assert 0.01 in controls.RADII
    assert controls.RADII[-2:] == (10.0, math.inf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": None}, "Seed is empty"),
        ({"seed": -1}, "Seed must be a whole number from 0 to 2,147,483,647, not -1"),
        ({"seed": 1.5}, "whole number"),
        ({"0.steps": 0}, "Latent code: Adam steps must be a whole number from 1 to 100,000, not 0"),
        ({"0.steps": None}, "Latent code: Adam steps is empty"),
        ({"0.lr": math.nan}, "step size is empty or not a number"),
        ({"1.radius_latents": 10**6}, "Layer 8×8: ball around the latents must be at a position from 0"),
        ({"weights.mse": math.nan}, "Loss weight Pixels is empty"),
        (
            {"weights.mse": 0, "weights.perceptual": 0},
            "All data weights are 0; give Pixels, Perceptual or Dead zone a weight",
        ),
        ({"1.outer_iterations": 3}, "Layer 8×8: searches is 3 and range steps is 0"),
        ({"method": "magic"}, "magic"),
        ({"dtype": "int8"}, "int8"),
        ({"sna": "yes"}, "sna is"),
        ({"rounds": 0}, "no rounds"),
        ({"task": "denoise", "denoise.sigma": None}, "Noise σ is empty"),
        ({"task": "denoise", "denoise.assumed_sigma": "NaN"}, "σ assumed by the solver must be a number or empty"),
        (
            {"task": "denoise", "denoise.assumed_sigma": "300"},
            "by the solver must be a number from 0 to 255, not 300",
        ),
        ({"task": "super-resolve", "super-resolve.factor": 3}, "does not divide"),
        (
            {"task": "random-inpaint", "random-inpaint.fraction": 0},
            "Pixels kept must be a number from 0.5 to 100, not 0",
        ),
        ({"task": "magic"}, "magic"),
        ({"source": handlers.Source("another", Image.new("RGB", (64, 64)))}, "no longer has this picture"),
        ({"painter": None}, "crop could not be read"),
        ({"painter": {"crop": {"x": math.nan, "y": 0, "zoom": 1}, "mask": ""}}, "centre x"),
        ({"painter": {"crop": {"x": 0.5, "y": 0.5, "zoom": 1}, "mask": "????"}}, "mask could not be read"),
    ],
)
def test_what_is_not_allowed_gets_a_sentence_and_starts_nothing(studio, values, change, words):
    answers = list(studio.run({**values, **change}, "bad"))
    assert len(answers) == 1
    assert words in answers[0][4]
    assert "error" in answers[0][4]
    assert studio.runs.of("bad") is None
    assert words in studio.preview({**values, **change}, "bad")[3]


def test_a_mask_that_hides_everything_or_nothing(studio, values):
    for bit, words in ((0.0, "every pixel"), (1.0, "no pixel")):
        drawn = {**values["painter"], "mask": painter.pack(torch.full((1, 1, 64, 64), bit), 64)}
        assert words in studio.preview({**values, "painter": drawn}, "s")[3]


def test_painted_masks_survive_the_way_to_the_browser_and_back(model):
    mask = preset_mask("mouth", 64)
    assert torch.equal(painter.unpack(painter.pack(mask, 64), 64), mask)
    assert torch.equal(
        painter.read_value(painter.first_value(model, "a"), 64)[2], preset_mask("eyes", 64, model.alignment)
    )
