"""The forward operators, one small class each, and their registry."""

from __future__ import annotations

from typing import Any

from ilo.operators.base import OPERATORS, Operator, build, find, register
from ilo.operators.compose import Compose
from ilo.operators.noise import ClippedGaussian, Gaussian, Noise, NoNoise, noise_model
from ilo.operators.pixels import Colorize, Denoise, Identity, Inpaint, RandomInpaint
from ilo.operators.resample import Deblur, SuperResolve
from ilo.operators.sensing import CompressedSensing
from ilo.operators.setting import Setting
from ilo.photos.masks import fit_mask

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
    "register",
    "undamaged",
]

# In the order in which they are offered.
for _kind in (
    Inpaint,
    RandomInpaint,
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
    """Task name → the settings to begin with at a resolution of 8 px or more, in the order to offer them.

    An operator that needs a mask needs one besides: a painted one, or `ilo.photos.masks.preset_mask`.
    """
    return {name: kind.suggested(resolution) for name, kind in OPERATORS.items()}


def undamaged(resolution: int) -> Operator:
    """The operator that measures the whole picture, for plain inversion."""
    return Identity(resolution=resolution)
