"""Forward operators, one class each, and their registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ilo.operators.base import Operator
from ilo.operators.compose import Compose
from ilo.operators.noise import ClippedGaussian, Gaussian, Noise, NoNoise, noise_model
from ilo.operators.pixels import Colorize, Denoise, Identity, Inpaint, RandomInpaint
from ilo.operators.registry import OPERATORS, build, find, register
from ilo.operators.resample import Deblur, SuperResolve
from ilo.operators.sensing import CompressedSensing
from ilo.operators.setting import Setting
from ilo.photos.masks import PRESET_MASKS, fit_mask, preset_mask

__all__ = [
    "OPERATORS",
    "ClippedGaussian",
    "Colorize",
    "Compose",
    "CompressedSensing",
    "Deblur",
    "Denoise",
    "Gaussian",
    "Identity",
    "Inpaint",
    "NoNoise",
    "Noise",
    "Operator",
    "RandomInpaint",
    "Setting",
    "SuperResolve",
    "build",
    "default_tasks",
    "find",
    "fit_mask",
    "noise_model",
    "nominal",
    "register",
    "undamaged",
]

# In the order in which the page and the command line offer them.
for _kind in (
    RandomInpaint,
    Inpaint,
    Denoise,
    SuperResolve,
    CompressedSensing,
    Colorize,
    Deblur,
    Identity,
    Compose,
):
    register(_kind)


def default_tasks(resolution: int) -> dict[str, dict[str, Any]]:
    """Task name → suggested settings at a resolution of 8 px or more, in the order in which tasks are offered.

    An operator that requires a mask needs one in addition, for example from `ilo.photos.masks.preset_mask`.
    """
    return {name: kind.suggested(resolution) for name, kind in OPERATORS.items()}


def nominal(name: str, resolution: int, settings: Mapping[str, Any]) -> Operator:
    """The operator with these settings, and with a preset mask if it needs one: for what depends on no mask.

    Raises:
        SettingsError: as `build`.
    """
    wanted = find(name).mask_setting()
    mask = {"mask": preset_mask(PRESET_MASKS[0], resolution)} if wanted is not None and wanted.required else {}
    return build(name, resolution, **mask, **settings)


def undamaged(resolution: int) -> Operator:
    """The operator that measures the whole picture, for plain inversion."""
    return Identity(resolution=resolution)
