"""The forward operators, one small class each, and their registry."""

from __future__ import annotations

import math
from typing import Any

from ilo.operators.base import OPERATORS, Operator, build, register
from ilo.operators.compose import Compose
from ilo.operators.pixels import Colorize, Denoise, Identity, Inpaint, RandomInpaint
from ilo.operators.resample import Deblur, SuperResolve
from ilo.operators.sensing import CompressedSensing
from ilo.photos.masks import fit_mask

__all__ = [
    "OPERATORS",
    "Colorize",
    "Compose",
    "CompressedSensing",
    "Deblur",
    "Denoise",
    "Identity",
    "Inpaint",
    "Operator",
    "RandomInpaint",
    "SuperResolve",
    "build",
    "default_tasks",
    "fit_mask",
    "register",
]


def default_tasks(resolution: int) -> dict[str, dict[str, Any]]:
    """Task name → the settings to begin with at a resolution of 8 px or more, in the order to offer them.

    Inpainting also needs a mask: a painted one, or `ilo.photos.masks.preset_mask`.
    """
    # ×4 at 64 px and ×16 at 1024 px, geometrically between them, as a power of two.
    factor = 2 ** max(1, min(5, math.floor(math.log2(resolution / 64) / 2 + 2)))
    return {
        "inpaint": {},
        "random-inpaint": {"fraction": 0.1, "seed": 0},
        "denoise": {"sigma": 25.0, "assumed_sigma": None},
        "super-resolve": {"factor": factor},
        "compressed-sensing": {"fraction": 0.05, "seed": 0},
        "colorize": {},
        "deblur": {"kind": "gaussian", "sigma": resolution / 32, "length": resolution / 8, "angle": 0.0},
        "identity": {},
        "compose": {"operators": [{"name": "super-resolve", "factor": 2}, {"name": "denoise", "sigma": 10.0}]},
    }
