"""Guided runs: their loss, constraints and starting points."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.morph import TRUNCATION, inversion, morph
from ilo.objective import GuidedObjective
from ilo.perceptual.classifier_features import ClassifierFeatures
from ilo.priors.corrected import corrected
from ilo.projection import l1_norm
from ilo.settings import LossWeights, RoundSettings, SettingsError
from ilo.solver import solve

LAYERS = 5
PLAIN = morph_preset(layers=LAYERS)  # `Prior.sample` uses only its covariance


@pytest.fixture
def guidance(guide):
    return Guidance(guide, {"goldfish": 1.0})


def short(steps=4, **changes):
    settings = morph_preset(layers=LAYERS)
    return replace(settings, rounds=tuple(replace(plan, steps=steps) for plan in settings.rounds), **changes)


def run(model, guidance, settings, **options):
    *_, last = morph(model, guidance, settings, **options)
    return last


def test_the_loss_is_the_mixed_cross_entropy(guide):
    images = torch.rand(3, 3, 32, 32)
    mixed = Guidance(guide, {"goldfish": 1.0, "n1": 3.0})
    expected = sum(
        share * torch.nn.functional.cross_entropy(guide(images), torch.full([3], i), reduction="none")
        for i, share in ((1, 0.25), (0, 0.75))
    )
    torch.testing.assert_close(mixed.loss(images), expected)
    terms = GuidedObjective(mixed, LossWeights(geodesic=0.0))(images, torch.randn(3, 2, 8))
    torch.testing.assert_close(terms[0], expected)
    torch.testing.assert_close(terms[-1], expected)


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ({}, "0 classes are given"),
        ({"frog": 1.0}, "no class 'frog'; the nearest are"),
        ({"goldfish": math.nan}, "weight of goldfish must be"),
        ({"goldfish": 0.0}, "weight of goldfish"),
        ({"goldfish": -1}, "weight of goldfish"),
    ],
)
def test_classes_that_are_not_allowed(guide, classes, reason):
    with pytest.raises(SettingsError, match=reason):
        Guidance(guide, classes)


def test_views_shift_and_are_noisy_and_seeded(guide):
    guidance = Guidance(guide, {"goldfish": 1.0}, views=3, noise=0.0)
    images = torch.rand(2, 3, 32, 32)

    def views(seed):
        return guidance.shifted(images, [torch.Generator().manual_seed(seed + b) for b in range(2)])

    assert views(0).shape == (6, 3, 32, 32)
    assert torch.equal(views(0), views(0))
    assert not torch.equal(views(0), views(5))
    single = guidance.shifted(images[1:], [torch.Generator().manual_seed(1)])
    assert torch.equal(views(0)[3:], single)
    padded = torch.nn.functional.pad(images, (4,) * 4, mode="replicate")[0]
    corners = [(r, c) for r in range(9) for c in range(9)]
    assert any(torch.equal(views(0)[0], padded[:, r : r + 32, c : c + 32]) for r, c in corners)


def test_a_guided_run_lowers_its_loss_and_stays_in_its_balls(model, guidance):
    settings = short(12)
    steps = list(morph(model, guidance, settings, due=lambda: True))
    assert steps[-1].losses["classifier"][0] < steps[0].losses["classifier"][0]
    assert steps[-1].losses["mse"][0] == 0
    usage = torch.tensor([[float(u[0]) for u in step.usage.values()] for step in steps])
    assert usage[~usage.isnan()].max() <= 1 + 1e-5
    assert steps[-1].done == steps[-1].total == 48


def test_without_reach_nothing_moves(model, guidance):
    start = model.sample(0, PLAIN, TRUNCATION)
    image = model.render(start, PLAIN)
    settings = morph_preset(layers=LAYERS, reach=0.0)
    settings = replace(settings, rounds=tuple(replace(plan, steps=2) for plan in settings.rounds))
    result = run(model, guidance, settings).result
    assert (result.image - image).abs().max() <= 1e-4


def test_the_start_is_the_generator_s_own_face(model):
    z = torch.randn(1, 256, generator=torch.Generator().manual_seed(3))
    for covariance in ("full", "diagonal"):
        state = model.sample(3, replace(PLAIN, covariance=covariance))
        torch.testing.assert_close(
            model.latents(state.values["z"], covariance)[:, 4], model.generator.mapping(z), rtol=0, atol=1e-3
        )


def test_the_baseline_searches_the_pixels(model, guidance):
    settings = morph_preset(method="pixels", layers=LAYERS)
    settings = replace(settings, rounds=(replace(settings.rounds[0], steps=20),))
    start = model.sample(0, PLAIN, TRUNCATION)
    before = model.render(start, PLAIN)
    last = run(model, guidance, settings)
    result = last.result
    assert result.round == LAYERS
    torch.testing.assert_close(model.render(result.state, PLAIN), result.image)
    radius = settings.rounds[0].radius_features * before.numel()
    assert 0 < float(l1_norm(result.image - before)) <= radius * (1 + 1e-5)
    assert last.losses["classifier"][0] < float(guidance.loss(before))


def test_a_photograph_is_inverted_first(model, guidance):
    photo = model.render(model.sample(5, PLAIN, TRUNCATION), PLAIN).clamp(-1, 1)
    settings = short(2)
    steps = list(morph(model, guidance, settings, photo))
    before = inversion(settings).total_steps
    inverted = [step for step in steps if step.inverting]
    assert inverted[-1].done == before
    assert steps[-1].done == steps[-1].total == before + settings.total_steps
    firsts = [step.first for step in steps]
    assert firsts == sorted(firsts)
    assert (inverted[-1].result.image - photo).square().mean() < 0.05
    assert [step.step for step in inverted] == [step.done for step in inverted]
    after = next(step for step in steps if not step.inverting)
    assert (after.result.image - inverted[-1].result.image).abs().max() <= 1e-4
    for step in (after, steps[-1]):  # the generator alone renders the picture again
        assert (model.render(step.result.state, settings) - step.result.image).abs().max() <= 1e-4


def test_a_morph_of_version_1_inverts_the_code_alone(model, guidance):
    settings = short(1, scale="absolute")
    assert inversion(settings).method == "csgm"
    photo = model.render(model.sample(5, PLAIN, TRUNCATION), PLAIN).clamp(-1, 1)
    steps = list(morph(model, guidance, settings, photo, stop_at=inversion(settings).total_steps + 2))
    assert steps[-1].done == 152
    assert (model.render(steps[-1].result.state, settings) - steps[-1].result.image).abs().max() <= 1e-4


def test_a_photograph_is_inverted_through_all_layers(model):
    """Corrections bring the inversion's features back when the picture is rendered from layer 0."""
    settings = short(1)
    states = [model.sample(0, settings, TRUNCATION)]
    for layer in (1, 2):
        entered = model.enter(states[-1], layer, settings)
        states.append(entered.changed(features_x=entered.values["features_x"] + 0.1))
    prior, start = corrected(model, states, settings)
    assert (start.layer, prior.last) == (0, 2)
    expected = model.render(states[-1], settings)
    torch.testing.assert_close(prior.render(start, settings), expected, rtol=0, atol=1e-4)
    assert (model.render(start, settings) - expected).abs().max() > 0.01
    for layer in (1, 2, 3):
        reached = prior.enter(start, layer, settings)
        assert reached.layer == layer
        torch.testing.assert_close(prior.render(reached, settings), expected, rtol=0, atol=1e-4)


def test_a_sweep_is_its_single_runs(double_model, guide):
    guidance = Guidance(copy.deepcopy(guide).double(), {"goldfish": 1.0})
    settings = short(2, radius_scales=(0.0, 0.5, 2.0))
    sweep = run(double_model, guidance, settings).result.image
    for scale, image in zip(settings.radius_scales, sweep, strict=True):
        single = run(double_model, guidance, replace(settings, radius_scales=(scale,))).result.image[0]
        assert (single - image).abs().max() < 1e-4
    full = run(double_model, guidance, short(2)).result.image
    whole = run(double_model, guidance, short(2, radius_scales=(1.0,))).result.image
    assert torch.equal(full, whole)
    assert (sweep[2] - sweep[1]).abs().max() > 1e-3


def test_views_average_without_touching_the_choice_of_the_best(model, guide):
    guidance = Guidance(guide, {"goldfish": 1.0}, views=2)
    last = run(model, guidance, short(3))
    assert last.losses["classifier"][0] == pytest.approx(float(guidance.loss(last.result.image)), abs=1e-4)


@pytest.mark.parametrize("first_layer", [2, 6])
def test_rounds_that_the_network_does_not_have(model, guidance, first_layer):
    settings = replace(short(1), first_layer=first_layer)
    with pytest.raises(SettingsError, match="of the 5 layers of faces64"):
        list(solve(model, guidance, settings))


def test_scales_and_starts_belong_to_the_samples(model, guidance):
    with pytest.raises(SettingsError, match="2 scales of the radii for 1 samples"):
        next(solve(model, guidance, short(1, radius_scales=(1.0, 2.0))))
    start = model.sample(0, PLAIN, TRUNCATION, batch=2)
    with pytest.raises(SettingsError, match="The start has 2 samples at layer 0; 1 at layer 0"):
        next(solve(model, guidance, short(1), start=start))
    pixels = morph_preset(method="pixels", layers=LAYERS)
    plan = replace(pixels.rounds[0], outer_iterations=2, range_steps=1)
    with pytest.raises(SettingsError, match="no range to project to"):
        next(solve(model, guidance, replace(pixels, rounds=(plan,))))


def test_scales_and_range_projections_exclude_each_other(model, guidance):
    plans = (RoundSettings(steps=1), RoundSettings(steps=1, outer_iterations=2, range_steps=1))
    settings = replace(short(1), rounds=plans, radius_scales=(1.0,))
    with pytest.raises(SettingsError, match="do not go together"):
        list(solve(model, guidance, settings))


def test_classifier_features_are_a_distance(guide):
    distance = ClassifierFeatures(guide)
    a, b = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    assert distance.name == "tiny"
    assert torch.all(distance(a, a) == 0)
    assert torch.all(distance(a, b) > 0)
    torch.testing.assert_close(distance(a, b), distance(b, a))
    torch.testing.assert_close(distance(a, b)[1], distance(a[1:], b[1:])[0])
