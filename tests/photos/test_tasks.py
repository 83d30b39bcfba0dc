"""Building every task's problem from the same picture, damaged here or already damaged."""

import numpy as np
import pytest
import torch
from PIL import Image

from ilo.operators import OPERATORS, default_tasks
from ilo.photos.pictures import Crop, from_uint8
from ilo.photos.tasks import build_problem, crop_mask
from ilo.settings import SettingsError


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 130, 3)).astype(np.uint8))


@pytest.fixture
def mask():
    mask = torch.ones(1, 1, 64, 64)
    mask[..., 20:30, 10:50] = 0
    return mask


@pytest.mark.parametrize("task", sorted(OPERATORS))
def test_damaged_here(task, model, photo, mask):
    mask = mask if task == "inpaint" else None
    settings = default_tasks(model.resolution)[task]
    problem, image, notes = build_problem(model, photo, task, settings, mask=mask, measurement_seed=3)
    assert problem.truth is image
    assert image.shape == (1, 3, 64, 64)
    assert torch.equal(problem.y, problem.operator.measure(image, 3))
    assert notes == []


def test_already_damaged(model, photo, mask):
    def given(task, mask=None, **settings):
        problem, image, notes = build_problem(model, photo, task, settings, mask=mask, damaged_here=False)
        assert problem.truth is None
        return problem, image, notes

    problem, image, _ = given("inpaint", mask)
    assert torch.equal(problem.y, mask * image)
    problem, image, notes = given("denoise", sigma=20.0)
    assert torch.equal(problem.y, image)
    assert notes == []
    problem, image, _ = given("colorize")
    assert torch.equal(problem.y, problem.operator(image))
    problem, image, notes = given("super-resolve", factor=4)
    assert problem.y.shape == image.shape == (1, 3, 16, 16)
    assert "reduced to" in notes[0]
    assert "16×16" in notes[0]


def test_a_small_upload_is_taken_pixel_by_pixel(model, photo):
    small = photo.crop((0, 0, 16, 16))
    problem, _, notes = build_problem(model, small, "super-resolve", {"factor": 4}, damaged_here=False)
    assert torch.equal(problem.y, from_uint8(np.asarray(small)[None].copy()))
    assert notes == []
    chain = [{"name": "super-resolve", "factor": 4}, {"name": "denoise", "sigma": 10.0}]
    again, _, _ = build_problem(model, small, "compose", {"operators": chain}, damaged_here=False)
    assert torch.equal(again.y, problem.y)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("random-inpaint", {}),
        ("compressed-sensing", {}),
        ("compose", {"operators": [{"name": "denoise"}, {"name": "compressed-sensing"}]}),
    ],
)
def test_what_cannot_be_uploaded(task, settings, model, photo):
    with pytest.raises(
        SettingsError, match=", ".join(kind.title for kind in OPERATORS.values() if kind.upload != "no")
    ):
        build_problem(model, photo, task, settings, damaged_here=False)


def test_masks(model, photo, mask):
    with pytest.raises(SettingsError, match="needs a mask"):
        build_problem(model, photo, "inpaint", {})
    with pytest.raises(SettingsError, match="leave it out, or choose inpaint"):
        build_problem(model, photo, "denoise", {}, mask=mask)
    for bad in (torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)):
        with pytest.raises(SettingsError, match="The mask hides"):
            build_problem(model, photo, "inpaint", {}, mask=bad)
    large = torch.ones(1, 1, 200, 300)
    large[..., :100, :] = 0
    problem, _, notes = build_problem(model, photo, "inpaint", {}, mask=large)
    assert notes == ["The mask was resized from 300×200 to 64×64 px."]
    assert problem.operator.mask[..., :32, :].max() == 0
    chain = [{"name": "super-resolve", "factor": 2}, {"name": "inpaint"}]
    problem, _, notes = build_problem(model, photo, "compose", {"operators": chain}, mask=mask)
    assert problem.operator.mask.shape[-1] == 32
    assert "32×32" in notes[0]


def test_crop_of_a_mask():
    mask = torch.arange(200.0).reshape(1, 1, 10, 20)
    assert torch.equal(crop_mask(mask, Crop()), mask[..., 5:15])
    assert torch.equal(crop_mask(mask, Crop(0, 0, 2)), mask[..., :5, :5])
    assert crop_mask(torch.ones(1, 1, 2, 2), Crop(1, 1, 8)).shape == (1, 1, 1, 1)


def test_enlarging_is_told(model, photo):
    _, _, notes = build_problem(model, photo, "identity", {}, crop=Crop(zoom=4))
    assert notes == ["The cropped square is 25 px wide and was enlarged to 64 px."]


def test_bad_settings(model, photo):
    for task, settings in [("fly", {}), ("denoise", {"sigma": float("nan")}), ("super-resolve", {"factor": 7})]:
        with pytest.raises(SettingsError):
            build_problem(model, photo, task, settings)
    with pytest.raises(SettingsError):
        build_problem(model, photo, "identity", {}, measurement_seed=-1)
