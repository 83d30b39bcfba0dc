"""Validation, presets, and the JSON form of settings."""

import math

import pytest

from ilo.methods import PRESETS, preset, rounded
from ilo.operators import ClippedGaussian, nominal
from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings


@pytest.mark.parametrize("method", ["ilo", "csgm", "pulse"])
@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_have_the_same_number_of_steps_and_survive_json(name, method):
    settings = preset(name, method, seed=3)
    assert (
        settings.total_steps
        == preset(name, method, operator=nominal("inpaint", 64, {})).total_steps
        == sum(PRESETS[name])
    )
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
        (lambda: SolverSettings(rounds=(RoundSettings(),), dtype="float8"), ["dtype", "bfloat16"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), sna="yes"), ["sna"]),
        (lambda: SolverSettings(rounds=(RoundSettings(),), radius_hidden=0.0), ["radius_hidden must", "from 0.01"]),
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


def of(task, method="ilo", **settings):
    return preset(method=method, operator=nominal(task, 64, settings))


def test_holes_have_settings_of_their_own():
    hidden = of("inpaint")
    assert hidden.weights.geodesic > preset().weights.geodesic
    assert hidden.radius_hidden < preset().radius_hidden == 1
    for method in ("csgm", "pulse"):
        assert of("inpaint", method) == preset(method=method)
    parts = [nominal("inpaint", 64, {}), {"name": "denoise", "sigma": 5}]
    assert of("compose", operators=parts) == hidden


def test_radii_follow_what_is_measured():
    def radii(settings):
        return [plan.radius_features for plan in settings.rounds[1:]]

    few, many = of("random-inpaint", fraction=0.1), of("random-inpaint", fraction=0.5)
    assert all(a < b < c for a, b, c in zip(radii(few), radii(many), radii(preset()), strict=True))
    assert few.rounds[1].radius_noise == many.rounds[1].radius_noise  # a share of pixels says nothing about noise
    quiet, loud = of("denoise", sigma=10), of("denoise", sigma=100)
    assert radii(loud) < radii(quiet)
    assert loud.rounds[1].radius_noise < 0.1 * quiet.rounds[1].radius_noise
    noisy = preset(operator=nominal("super-resolve", 64, {"factor": 4}), noise=ClippedGaussian(50))
    assert radii(noisy) < radii(of("super-resolve", factor=4))
    sequence = nominal("compose", 64, {"operators": [{"name": "denoise", "sigma": 50}, {"name": "colorize"}]})
    assert radii(preset(operator=sequence)) < radii(of("colorize"))


def test_radii_follow_the_size_of_the_layers(model):
    operator = nominal("random-inpaint", 64, {"fraction": 0.1})
    first, *later = (plan.radius_features for plan in preset(operator=operator, prior=model).rounds[1:])
    assert all(radius < first for radius in later)  # more values to move, and no more to fix them
    for plan in preset("Paper", operator=operator, prior=model).rounds[1:]:
        assert rounded(plan.radius_features) == plan.radius_features  # so that a slider can show it


def test_radii_are_rounded_to_the_nearest_of_a_slider():
    assert [rounded(radius) for radius in (0.014, 0.0098, 0.27, 0.99, 7.9)] == [0.015, 0.01, 0.25, 1.0, 8.0]
