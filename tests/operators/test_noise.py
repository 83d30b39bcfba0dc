"""Noise models: each works with every operator."""

import json
import math

import pytest
import torch

from ilo.engine.streams import stream
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


@pytest.mark.parametrize("sigma", [0, 5, 60, 255])
def test_the_expected_value_of_clipped_noise_is_the_mean_of_many_draws(sigma):
    y = torch.linspace(-1.2, 1.2, 25).expand(20_000, 1, 1, 25).contiguous().requires_grad_()
    noise = ClippedGaussian(sigma)
    draws = noise.perturb(y.detach(), [stream(7, "draws")] * len(y)) if sigma else y.detach()
    torch.testing.assert_close(noise.expected(y)[0], draws.mean(0), atol=0.03, rtol=0)
    (slope,) = torch.autograd.grad(noise.expected(y)[0].sum(), y)
    assert (slope[0] > 0).all()
    assert torch.equal(Gaussian(60).expected(y), y)  # without clipping, the mean is y


def test_a_problem_knows_the_mean_of_its_measurements():
    x = _random(1, 3, 8, 8, dtype=torch.float32).mul(1.5).clamp(-1, 1)
    operators = [{"name": "denoise", "sigma": 80}, {"name": "super-resolve", "factor": 2}]
    chain = build("compose", 8, operators=operators)
    small = SuperResolve(resolution=8, factor=2)
    for op, noise in ((Denoise(resolution=8, sigma=80), None), (chain, None), (small, Gaussian(40))):
        problem = Problem.damage(x.expand(4_000, -1, -1, -1), op, 3, noise)
        mean = problem.y.mean(0, keepdim=True)
        torch.testing.assert_close(problem.expected(x), mean, atol=0.05, rtol=0)
        (_, drawn) = problem.perturbed(x, [torch.Generator().manual_seed(1)])
        assert (drawn - problem.expected(x)).abs().mean() > 0.05
    assumed = Denoise(resolution=8, sigma=80, assumed_sigma=0)
    assert torch.equal(Problem.damage(x, assumed).expected(x), x)


DENOISE = {"name": "denoise", "sigma": 80}
SMALLER = {"name": "super-resolve", "factor": 2}
MASK = {"name": "random-inpaint", "fraction": 0.5}


@pytest.mark.parametrize(
    ("op", "noise"),
    [
        (build("denoise", 8, sigma=80), None),
        (build("denoise", 8, sigma=10, assumed_sigma=80), None),
        (build("compose", 8, operators=[SMALLER, DENOISE]), None),
        (build("compose", 8, operators=[DENOISE, MASK]), None),
        (build("compose", 8, operators=[DENOISE, SMALLER]), Gaussian(40)),
        (build("compose", 8, operators=[DENOISE, MASK]), Gaussian(40)),
        (build("compose", 8, operators=[DENOISE, {"name": "compose", "operators": [SMALLER, DENOISE]}]), NoNoise()),
    ],
    ids=["clipped", "assumed", "noise-last", "noise-first", "noise-first-and-given", "mask-and-given", "nested"],
)
def test_the_expected_measurement_is_the_mean_of_many(op, noise):
    x = _random(1, 3, 8, 8, dtype=torch.float32).mul(1.5).clamp(-1, 1).requires_grad_()
    many, rngs = x.detach().expand(6_000, -1, -1, -1), [stream(3, "draws")] * 6_000
    problem = Problem.damage(x.detach(), op, 1, noise)
    draws = op.perturbed(many, rngs, noise)
    assert draws.std(0).max() > 0.1
    torch.testing.assert_close(problem.expected(x)[0], draws.mean(0), atol=0.04, rtol=0)
    entering, drawn = problem.perturbed(many, rngs)
    torch.testing.assert_close(drawn.mean(0), draws.mean(0), atol=0.04, rtol=0)
    assert drawn.shape == draws.shape
    assert entering.shape[-1] == op.last.resolution
    for y in (problem.expected(x), op.perturbed(x, rngs[:1], noise)):
        assert torch.autograd.grad(y.sum(), x)[0].any()
    assert problem.noisy
    if op.last.mask is not None:
        assert not (draws * (1 - op.last.mask)).any()  # hidden pixels get no noise


def test_the_noise_of_a_user_defined_operator_is_assumed():
    class Hazy(Identity):
        noise = ClippedGaussian(80)

    x = torch.ones(1, 3, 8, 8)
    problem = Problem.damage(x, Hazy(resolution=8))
    assert problem.noisy
    assert torch.equal(problem.expected(x), ClippedGaussian(80).expected(x))
    assert not Problem.damage(x, Hazy(resolution=8), noise=NoNoise()).noisy


def test_given_noise_replaces_that_of_the_last_operator_only():
    chain = build("compose", 8, operators=[DENOISE, SMALLER])
    x, small = _random(1, 3, 8, 8, dtype=torch.float32), SuperResolve(resolution=8, factor=2)
    problem = Problem.damage(x, chain, 1, ClippedGaussian(40))
    hazy = ClippedGaussian(80).expected(x)
    assert torch.equal(chain.entering(x), hazy)
    assert torch.equal(problem.expected(x), ClippedGaussian(40).expected(small(hazy)))
    assert Problem.damage(x, chain, 1, NoNoise()).noisy
    assert not Problem.damage(x, build("compose", 8, operators=[SMALLER, DENOISE]), 1, NoNoise()).noisy


def test_streams_share_no_numbers():
    """A start, the measurement's noise and the noise of two rounds, all of seed 0."""
    drawn = [
        torch.randn(64, generator=rng)
        for rng in (
            torch.Generator().manual_seed(0),
            stream(0, "measurement noise"),
            stream(0, "perturbation", 0, 0),
            stream(0, "perturbation", 1, 50),
            stream(1, "measurement noise"),
        )
    ]
    assert len(set(torch.cat(drawn).tolist())) == 64 * len(drawn)
    again = Identity(resolution=8).measure(torch.zeros(1, 3, 8, 8), 0, Gaussian(127.5)).flatten()[:64]
    torch.testing.assert_close(again, drawn[1])


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
