"""Noise models: each works with every operator."""

import json
import math

import pytest
import torch

from ilo.methods import preset
from ilo.operators import (
    ClippedGaussian,
    CompressedSensing,
    Denoise,
    Gaussian,
    Identity,
    NoNoise,
    SuperResolve,
    build,
    noise_model,
)
from ilo.operators.noise import MODELS
from ilo.problem import Problem
from ilo.records.recipe import Recipe, RecipeError, make_recipe
from ilo.settings import SettingsError
from tests.operators.test_operators import EIGHT, _names, _random


@pytest.mark.parametrize("op", EIGHT, ids=_names(EIGHT))
def test_every_operator_can_be_measured_with_noise(op):
    x = _random(2, 3, 8, 8, dtype=torch.float32)
    clean, noisy = op.measure(x, 4, NoNoise()), op.measure(x, 4, Gaussian(20))
    error = noisy - clean
    assert error.abs().max() > 0
    torch.testing.assert_close(noisy[1:], op.measure(x[1:], 5, Gaussian(20)), rtol=1e-5, atol=1e-6)
    if op.mask is not None and op.name != "compose":
        assert not (error * (1 - op.mask)).any()  # hidden pixels get no noise
    assert Problem.damage(x, op, 4, Gaussian(20)).y.equal(noisy)


def test_gaussian_noise_is_what_it_says():
    x = torch.zeros(1, 3, 64, 64)
    y = SuperResolve(resolution=64, factor=2).measure(x, 3, Gaussian(51))
    assert float(y.std()) == pytest.approx(0.4, rel=0.05)
    assert y.abs().max() > 1
    assert Identity(resolution=64).measure(x, 3, ClippedGaussian(255)).abs().max() == 1


def test_denoising_is_the_identity_with_clipped_noise():
    x = _random(2, 3, 16, 16, dtype=torch.float32)
    assert Denoise(resolution=16, sigma=30).noise == ClippedGaussian(30)
    expected = Identity(resolution=16).measure(x, 9, ClippedGaussian(30))
    assert torch.equal(Denoise(resolution=16, sigma=30).measure(x, 9), expected)
    assert torch.equal(Denoise(resolution=16, sigma=30).measure(x, 9, NoNoise()), x)


def test_clipping_needs_a_picture():
    with pytest.raises(SettingsError, match="clipped-gaussian noise has no range to be clipped to"):
        CompressedSensing(resolution=8).measure(torch.zeros(1, 3, 8, 8), 0, ClippedGaussian(5))


@pytest.mark.parametrize("model", [NoNoise(), Gaussian(3), ClippedGaussian(200.5)])
def test_models_survive_json(model):
    assert noise_model(json.loads(json.dumps(model.settings()))) == model


@pytest.mark.parametrize(
    "settings",
    [
        None,
        [],
        {},
        {"name": 3},
        {"name": "salt"},
        {"name": "none", "sigma": 1},
        *({"name": "gaussian", "sigma": sigma} for sigma in (-1, 256, math.nan, "25", None, True, 10**400)),
        {"name": "gaussian", "speed": 1},
    ],
)
def test_models_that_make_no_sense(settings):
    with pytest.raises(SettingsError):
        noise_model(settings)
    assert set(MODELS) == {"none", "gaussian", "clipped-gaussian"}


def test_a_recipe_records_it_where_it_is_not_the_operators_own(model):
    x = torch.zeros(1, 3, 64, 64)

    def recipe(noise):
        problem = Problem.damage(x, build("super-resolve", 64), 1, noise)
        return make_recipe(
            model, problem, preset(), damaged_here=True, measurement_seed=1, input_image=x, perceptual=None
        )

    plain, noisy = recipe(None), recipe(Gaussian(10))
    assert "noise" not in json.loads(plain.to_json())
    assert json.loads(noisy.to_json())["noise"] == {"name": "gaussian", "sigma": 10}
    assert Recipe.from_json(noisy.to_json()) == noisy
    assert plain.to_query()
    with pytest.raises(RecipeError, match="has no link"):
        noisy.to_query()
    with pytest.raises(RecipeError, match="The noise is 'salt'"):
        Recipe.from_json(noisy.to_json().replace("gaussian", "salt"))
