"""Validation, presets, and the JSON form of settings."""

import math

import pytest

from ilo.methods import PRESETS, preset
from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings


@pytest.mark.parametrize("method", ["ilo", "csgm", "pulse"])
@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_have_the_same_number_of_steps_and_survive_json(name, method):
    settings = preset(name, method, seed=3)
    assert settings.total_steps == preset(name, method, task="inpaint").total_steps == sum(PRESETS[name])
    assert SolverSettings.from_dict(settings.to_dict()) == settings
    assert (len(settings.rounds) == 1) == (method != "ilo")


def test_quick_and_paper_are_the_published_ones():
    assert PRESETS["Quick"] == (50, 50, 25, 25)
    assert PRESETS["Paper"] == (300, 300, 300, 300)


def test_range_projections_count_as_steps():
    plan = RoundSettings(steps=10, outer_iterations=3, range_steps=5)
    assert SolverSettings((plan, plan)).steps_of_rounds == (30, 40)  # round 0 never leaves the range
    assert SolverSettings((plan,), first_layer=1).total_steps == 40


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RoundSettings(steps=0), ["steps must", "from 1", "not 0"]),
        (lambda: RoundSettings(steps=2.5), ["steps must", "not 2.5"]),
        (lambda: RoundSettings(lr=math.nan), ["lr must", "not nan"]),
        (lambda: RoundSettings(radius_features=-1.0), ["radius_features must", "not -1.0", "inf"]),
        (lambda: RoundSettings(radius_noise=math.nan), ["radius_noise must", "not nan"]),
        (lambda: RoundSettings(lr=10**400), ["lr must"]),
        (lambda: RoundSettings(outer_iterations=2), ["range_steps"]),
        (lambda: LossWeights(mse=math.nan), ["weight mse must", "not nan"]),
        (lambda: LossWeights(mse=0, perceptual=0), ["All data weights"]),
        (lambda: SolverSettings(rounds=()), ["no rounds"]),
        (lambda: SolverSettings(rounds=(1,)), ["RoundSettings"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), seed=-1), ["seed must", "from 0", "not -1"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), seed=True), ["seed must", "not True"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), dtype="float16"), ["dtype", "bfloat16"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), sna="yes"), ["sna"]),
        (lambda: preset("Slow"), ["'Slow'", "Quick, Paper"]),
        (lambda: preset("Quick", "gan"), ["'gan'", "ilo, csgm, pulse"]),
        (lambda: SolverSettings.from_dict({"rounds": [{"steps": 5, "speed": 1}]}), ["does not know speed"]),
        (lambda: SolverSettings.from_dict({"rounds": "many"}), ["list of rounds"]),
        (lambda: SolverSettings.from_dict([]), ["JSON object"]),
    ],
)
def test_mistakes_get_a_sentence(make, words):
    with pytest.raises(SettingsError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_inpainting_holds_the_latents_together():
    assert preset(task="inpaint").weights.geodesic > preset().weights.geodesic
    for method in ("csgm", "pulse"):
        assert preset(task="inpaint", method=method) == preset(method=method)
    assert preset(task="denoise").rounds[1].radius_noise < preset().rounds[1].radius_noise  # nor to follow the noise
    assert preset(task="super-resolve") == preset()
