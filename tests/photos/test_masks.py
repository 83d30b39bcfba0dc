"""Masks: resizing to a resolution, and preset masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ilo.photos.masks import ALIGNMENT, PRESET_MASKS, fit_mask, preset_mask
from ilo.settings import SettingsError


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[0, 255], [255, 0]], dtype=np.uint8),
        torch.tensor([[[False, True], [True, False]]]),
        torch.tensor([[[[0.2, 0.9], [1.0, 0.5]]]]),
        [[0, 1], [1, 0]],
    ],
    ids=["uint8", "bool", "float", "list"],
)
def test_any_mask_becomes_zeros_and_ones(mask: object) -> None:
    fitted, resized = fit_mask(mask, 2)
    assert not resized
    assert fitted.dtype == torch.float32
    assert fitted.tolist() == [[[[0.0, 1.0], [1.0, 0.0]]]]
    fitted, resized = fit_mask(mask, 4)
    assert resized
    assert fitted[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_mask_that_is_not_square_is_stretched() -> None:
    fitted, resized = fit_mask(torch.tensor([[0.0, 1.0]]), 2)
    assert resized
    assert fitted[0, 0].tolist() == [[0, 1], [0, 1]]


def test_resizing_takes_the_pixel_in_the_middle() -> None:
    rows = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 1.0])[:, None].expand(6, 6)
    assert fit_mask(rows, 2)[0][0, 0].tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(4), "shape"),
        (torch.ones(1, 3, 4, 4), "shape"),
        (torch.ones(0, 4), "shape"),
        (torch.full((4, 4), math.nan), "NaN"),
        (torch.ones(4, 4, dtype=torch.complex64), "complex"),
        ("mask.png", "str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_mask(mask: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fit_mask(mask, 4)


@pytest.mark.parametrize("name", PRESET_MASKS)
@pytest.mark.parametrize("resolution", [4, 64, 1024])
def test_presets_hide_something_and_not_all(name: str, resolution: int) -> None:
    mask = preset_mask(name, resolution)
    assert mask.shape == (1, 1, resolution, resolution)
    assert mask.dtype == torch.float32
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def _hides(mask: torch.Tensor, point: tuple[float, float]) -> bool:
    side = mask.shape[-1]
    return bool(mask[0, 0, int(point[1] * side), int(point[0] * side)] == 0)


def test_presets_hide_what_they_say() -> None:
    hidden = {
        name: [mark for mark, at in ALIGNMENT.items() if _hides(preset_mask(name, 64), at)] for name in PRESET_MASKS
    }
    assert hidden["eyes"] == ["eye_left", "eye_right"]
    assert hidden["mouth"] == ["mouth_left", "mouth_right"]
    assert hidden["left half"] == ["eye_left", "nose", "mouth_left"]
    assert preset_mask("left half", 64)[..., :32].sum() == 0
    assert preset_mask("left half", 64)[..., 32:].all()
    assert preset_mask("centre box", 64)[..., 16:48, 16:48].sum() == 0
    assert int(preset_mask("centre box", 64).sum()) == 64 * 64 - 32 * 32


def test_another_alignment_moves_the_mask() -> None:
    lower = {"eye_left": (0.35, 0.5), "eye_right": [0.65, 0.5]}
    mask = preset_mask("eyes", 64, lower)
    assert _hides(mask, (0.35, 0.5))
    assert _hides(mask, (0.65, 0.5))
    assert not _hides(mask, ALIGNMENT["eye_left"])
    assert torch.equal(preset_mask("mouth", 64, lower), preset_mask("mouth", 64))


@pytest.mark.parametrize(
    ("name", "resolution", "alignment", "message"),
    [
        ("ears", 64, None, "allowed are eyes, mouth"),
        ("eyes", 2, None, "resolution must be .*, not 2"),
        ("eyes", 64, {"eye_left": (math.nan, 0.5)}, "eye_left"),
        ("eyes", 64, {"eye_left": (30.0, 20.0)}, "fractions"),
        ("eyes", 64, {"eye_left": (0.3,)}, "fractions"),
        ("eyes", 64, {"eye_left": (0.5, 0.5), "eye_right": (0.5, 0.5)}, "nothing to hide"),
    ],
)
def test_presets_refuse(name: str, resolution: int, alignment: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        preset_mask(name, resolution, alignment)
