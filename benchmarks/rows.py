"""The rows of the quality table: operators and their settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ilo.operators import Operator, build
from ilo.photos.masks import preset_mask

ROWS: dict[str, tuple[str, dict]] = {
    "inpainting, 10 % of pixels": ("random-inpaint", {"fraction": 0.1}),
    "inpainting, 20 % of pixels": ("random-inpaint", {"fraction": 0.2}),
    "inpainting, 50 % of pixels": ("random-inpaint", {"fraction": 0.5}),
    "inpainting, painted eyes": ("inpaint", {"mask": "eyes"}),
    "inpainting, painted mouth": ("inpaint", {"mask": "mouth"}),
    "inpainting, left half": ("inpaint", {"mask": "left half"}),
    "inpainting, centre box": ("inpaint", {"mask": "centre box"}),
    "denoising, σ = 25": ("denoise", {"sigma": 25.0}),
    "denoising, σ = 50": ("denoise", {"sigma": 50.0}),
    "denoising, σ = 100": ("denoise", {"sigma": 100.0}),
    "super-resolution, ×4": ("super-resolve", {"factor": 4}),
    "super-resolution, ×8": ("super-resolve", {"factor": 8}),
    "compressed sensing, 5 %": ("compressed-sensing", {"fraction": 0.05}),
    "compressed sensing, 10 %": ("compressed-sensing", {"fraction": 0.1}),
    "compressed sensing, 20 %": ("compressed-sensing", {"fraction": 0.2}),
}

# Best settings of a small grid search on the tuning pictures of benchmarks/tune.py; other rows use the defaults.
CLASSICAL: dict[str, dict[str, Any]] = {
    "inpainting, 10 % of pixels": {"method": "telea", "radius": 2.0},
    "inpainting, 20 % of pixels": {"method": "navier-stokes", "radius": 2.0},
    "inpainting, 50 % of pixels": {"method": "navier-stokes", "radius": 2.0},
    "inpainting, painted eyes": {"method": "navier-stokes", "radius": 2.0},
    "inpainting, painted mouth": {"method": "navier-stokes", "radius": 2.0},
    "inpainting, left half": {"method": "navier-stokes", "radius": 2.0},
    "inpainting, centre box": {"method": "navier-stokes", "radius": 2.0},
    "denoising, σ = 25": {"strength": 0.7},
    "denoising, σ = 50": {"strength": 0.6},
    "denoising, σ = 100": {"strength": 0.6},
}


def operator(row: str, resolution: int) -> Operator:
    name, settings = ROWS[row]
    if name == "inpaint":
        settings = {"mask": preset_mask(settings["mask"], resolution)}
    return build(name, resolution, **settings)


def hole(operator: Operator) -> Tensor | None:
    """Unobserved pixels, [1, 1, R, R] with 1 = hole; None for tasks without a mask."""
    mask = getattr(operator, "mask", None)
    return None if mask is None else 1 - torch.as_tensor(mask)
