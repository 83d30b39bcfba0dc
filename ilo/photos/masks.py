"""Masks: resizing masks to a resolution, and preset masks. 1 is observed, 0 is hidden."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ilo.settings import SettingsError, check_choice, check_whole

# Landmark positions in the embedded generator's alignment: (x, y) as fractions of the crop, image-left first.
ALIGNMENT: dict[str, tuple[float, float]] = {
    "eye_left": (0.294, 0.286),
    "eye_right": (0.678, 0.287),
    "nose": (0.470, 0.506),
    "mouth_left": (0.319, 0.671),
    "mouth_right": (0.644, 0.673),
}

# The same for FFHQ's alignment: medians of YuNet's landmarks in 100 photographs.
FFHQ_ALIGNMENT: dict[str, tuple[float, float]] = {
    "eye_left": (0.375, 0.475),
    "eye_right": (0.625, 0.475),
    "nose": (0.5, 0.609),
    "mouth_left": (0.395, 0.721),
    "mouth_right": (0.605, 0.721),
}

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions


def fit_mask(mask: Any, resolution: int) -> tuple[torch.Tensor, bool]:
    """Resize a mask of any size for a square picture.

    Args:
        mask: tensor or array `[H,W]`, `[1,H,W]` or `[1,1,H,W]`; values above 0.5 are observed, so bool, 0/1 and
            0/255 masks all work.
        resolution: side R of the picture in pixels.

    Returns:
        The mask, float32 `[1,1,R,R]` of zeros and ones, and whether it was resized (nearest neighbour; a mask that is
        not square is stretched).

    Raises:
        SettingsError: the mask has a wrong shape, no pixels, or values that are not numbers.
    """
    check_whole("resolution", resolution, 1, 4096)
    try:
        values = torch.as_tensor(mask)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise SettingsError(f"The mask is a {type(mask).__name__}; give an array of zeros and ones.") from None
    if values.ndim < 2 or values.ndim > 4 or any(n != 1 for n in values.shape[:-2]) or values.numel() == 0:
        raise SettingsError(f"The mask has shape {list(values.shape)}; give [H,W], [1,H,W] or [1,1,H,W].")
    if values.is_complex():
        raise SettingsError("The mask has complex values; give zeros and ones.")
    values = values.to(torch.float32).reshape(1, 1, *values.shape[-2:])
    if bool(values.isnan().any()):
        raise SettingsError("The mask has values that are not numbers (NaN); give zeros and ones.")
    values = (values > 0.5).to(torch.float32)
    if tuple(values.shape[-2:]) == (resolution, resolution):
        return values, False
    return F.interpolate(values, size=(resolution, resolution), mode="nearest-exact"), True


def _around(a: Point, b: Point, beside: float, above: float) -> Box:
    """Box around two points, with margins in units of their distance."""
    d = math.dist(a, b)
    return (
        min(a[0], b[0]) - beside * d,
        min(a[1], b[1]) - above * d,
        max(a[0], b[0]) + beside * d,
        max(a[1], b[1]) + above * d,
    )


_HIDDEN: dict[str, Callable[[Mapping[str, Point]], Box]] = {
    "eyes": lambda at: _around(at["eye_left"], at["eye_right"], beside=0.35, above=0.3),
    "mouth": lambda at: _around(at["mouth_left"], at["mouth_right"], beside=0.25, above=0.35),
    "left half": lambda at: (0.0, 0.0, 0.5, 1.0),
    "centre box": lambda at: (0.25, 0.25, 0.75, 0.75),
}
PRESET_MASKS: tuple[str, ...] = tuple(_HIDDEN)


def preset_mask(name: str, resolution: int, alignment: Mapping[str, Sequence[float]] | None = None) -> torch.Tensor:
    """Make a preset mask that hides one box of an aligned face.

    Args:
        name: hidden part: "eyes", "mouth", "left half" (of the picture) or "centre box" (a quarter of its area).
        resolution: side R of the picture in pixels, 4 … 4096.
        alignment: landmark name → (x, y) as fractions 0 … 1 of the crop; overrides `ALIGNMENT` entry by entry.

    Returns:
        float32 `[1,1,R,R]`, 1 = observed.

    Raises:
        SettingsError: the name is unknown, the resolution is out of range, a landmark lies outside the picture, or
            landmarks are so close together that nothing would be hidden.
    """
    check_choice("preset mask", name, PRESET_MASKS)
    check_whole("resolution", resolution, 4, 4096)
    at = dict(ALIGNMENT)
    for landmark, point in (alignment or {}).items():
        if len(point) != 2 or not all(0.0 <= v <= 1.0 for v in point):
            raise SettingsError(f"The landmark {landmark} is {point!r}; give (x, y) as fractions from 0 to 1.")
        at[landmark] = (float(point[0]), float(point[1]))
    left, top, right, bottom = _HIDDEN[name](at)
    centres = (torch.arange(resolution) + 0.5) / resolution
    columns = (centres >= left) & (centres < right)
    rows = (centres >= top) & (centres < bottom)
    mask = 1.0 - (rows[:, None] & columns[None, :]).to(torch.float32)
    if bool(mask.all()):
        raise SettingsError(f"The landmarks of {name!r} leave nothing to hide; give positions that lie apart.")
    return mask[None, None]
