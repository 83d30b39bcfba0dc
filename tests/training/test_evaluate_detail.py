"""What a grown generator adds: quarters, and power beyond the smaller pictures' frequencies."""

import numpy as np
import pytest
import torch

from ilo.operators.resizing import resize
from ilo.photos.pictures import from_uint8
from ilo.state import to_uint8
from training import evaluate_detail as evaluation


def test_quarters():
    pictures = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    parts = evaluation.quarters(pictures)
    assert parts.shape == (8, 2, 2, 3)
    assert (parts[1] == pictures[0, :2, 2:]).all()
    assert (parts[6] == pictures[1, 2:, :2]).all()


def test_detail_is_what_half_of_the_pixels_cannot_hold():
    def wave(cycles):
        x = np.arange(32) / 32
        line = 128 + 100 * np.cos(2 * np.pi * cycles * x + 0.3)
        return np.broadcast_to(line[None, None, :, None], (3, 32, 32, 3)).round().astype(np.uint8)

    fine = evaluation.detail(wave(12))
    assert evaluation.detail(wave(7)) < 1e-3 * fine
    assert evaluation.detail(wave(12).transpose(0, 2, 1, 3)) == pytest.approx(fine)


def test_enlarged_pictures_have_no_detail():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    enlarged = to_uint8(resize(from_uint8(noise[:, :16, :16]), 32))
    assert evaluation.detail(enlarged) < 0.2 * evaluation.detail(noise)


def test_a_generator_is_inverted_at_its_own_resolution(model, monkeypatch):
    monkeypatch.setattr(evaluation, "INVERSION_STEPS", 20)
    with torch.no_grad():
        truth = resize(model.generator(torch.zeros(2, model.generator.config.z_dim)).clamp(-1, 1), 128)
    pictures = evaluation.drawn(model, 3, 128)
    assert pictures.shape == (3, 128, 128, 3)
    errors = evaluation.inverted(model, truth, 2)
    assert len(errors) == 2
    assert max(errors) < 0.02
