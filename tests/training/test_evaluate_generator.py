"""Evaluating generators: distances of distributions, groups, and larger pictures at the same scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ilo import build, preset
from ilo.photos.pictures import from_uint8
from ilo.records.metrics import mse
from training import evaluate_generator as evaluation


def test_the_frechet_distance_of_known_gaussians():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(100_000, 3, generator=rng)
    b = torch.randn(100_000, 3, generator=rng) * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([3.0, 0.0, 0.0])
    # For independent coordinates: Σ (Δμ)² + (Δσ)².
    assert evaluation.frechet_distance(a, b) == pytest.approx(9 + 1 + 0.25, rel=0.01)
    assert evaluation.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng))[0]
    assert evaluation.frechet_distance(a @ turn, b @ turn) == pytest.approx(evaluation.frechet_distance(a, b), rel=1e-4)


def test_the_frechet_distance_of_fewer_pictures_than_features():
    a, b = torch.randn(10, 40), torch.randn(12, 40) + 1
    assert evaluation.frechet_distance(a, b) > 0
    assert evaluation.frechet_distance(a, a) == pytest.approx(0, abs=1e-4)


def test_precision_and_recall():
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    assert evaluation.precision_recall(points, points.clone()) == (1, 1)
    assert evaluation.precision_recall(points, points + 100) == (0, 0)
    # Only half of the modes, each reproduced well: high precision, recall of one half.
    modes = torch.cat([points[:100], points[:100] + 100])
    assert evaluation.precision_recall(modes, points[:100].clone()) == (1, 0.5)


def test_a_file_name_tells_the_groups():
    assert evaluation.groups(evaluation.label("26_1_2_20170109213154546.webp")) == ["20 to 39 years", "female", "Asian"]
    assert evaluation.groups(evaluation.label("101_0_4_20170109213154546.webp")) == [
        "60 years and more",
        "male",
        "other",
    ]
    labels = np.array([evaluation.label(name) for name in ("1_0_0_a.webp", "2_1_0_a.webp")])
    found = evaluation.by_group([0.1, 0.3], labels)
    assert found["White"] == {"mse": pytest.approx(0.2), "faces": 2}
    assert found["male"] == {"mse": pytest.approx(0.1), "faces": 1}


@pytest.mark.parametrize(("name", "settings"), evaluation.TASKS.values())
def test_a_larger_picture_is_measured_as_a_small_one(name, settings):
    large, small = torch.rand(2, 3, 128, 128) * 2 - 1, build(name, 64, **settings)
    reduced = evaluation.reduced(128)(large)
    assert reduced.shape == (2, 3, 64, 64)
    torch.testing.assert_close(evaluation.reduced(128, small)(large), small(reduced))
    assert torch.equal(evaluation.reduced(64, small)(reduced), small(reduced))
    assert torch.equal(evaluation.reduced(64)(reduced), reduced)


def test_an_inversion_comes_nearer(model):
    truth = from_uint8(evaluation.sample(model.generator, 2))
    settings = preset("Quick", "csgm")
    settings = replace(settings, rounds=(replace(settings.rounds[0], steps=15),))
    found = evaluation.errors(model, truth, None, settings, batch=2)
    assert len(found) == 2
    assert max(found) < 0.8 * float(mse(truth.mean((2, 3), keepdim=True).expand_as(truth), truth).max())


def test_neighbours_are_the_nearest():
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    trained = torch.randn(30, 4)
    picture = evaluation.neighbours(training[:16], trained[:16], training, trained)
    assert picture.size == (2 * 6 * 64, 8 * 64)
    pixels = np.asarray(picture)
    assert np.array_equal(pixels[:64, :64], pixels[:64, 64:128])  # a training face is its own neighbour
