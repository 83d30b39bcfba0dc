"""The canvas on which the user crops the picture and paints a mask, and the values that it sends back.

The mask is painted on the model's own grid, so the user sees exactly which pixels are hidden. It is sent as a few
hundred bytes.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo.photos.masks import PRESET_MASKS, fit_mask, preset_mask
from ilo.photos.pictures import Crop
from ilo.priors.load import Model
from ilo.settings import SettingsError
from ilo.ui.examples import Example

HERE = Path(__file__).parent
FIRST_MASK = "eyes"
LARGEST_GRID = 128
SHOWN_SIDE = 640  # pixels of the picture that the browser shows


def grid_of(model: Model) -> int:
    """Cells per side of the grid that masks are painted on."""
    return min(model.resolution, LARGEST_GRID)


def pack(mask: Tensor, grid: int) -> str:
    """A mask (1 = observed) of any size as base64 of grid × grid bits, 1 = to be filled in."""
    fitted, _ = fit_mask(mask, grid)
    return base64.b64encode(np.packbits(fitted.numpy().reshape(-1) < 0.5).tobytes()).decode()


def unpack(text: Any, grid: int) -> Tensor:
    """The inverse of `pack`: float32 [1, 1, grid, grid], 1 = observed. Raises `SettingsError` for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        data = b""
    if len(data) != (grid * grid + 7) // 8:
        raise SettingsError("The painted mask could not be read; paint it again.")
    hidden = np.unpackbits(np.frombuffer(data, np.uint8))[: grid * grid]
    return torch.from_numpy(1.0 - hidden.astype(np.float32)).reshape(1, 1, grid, grid)


def first_value(model: Model, name: str, crop: tuple[float, float, float] = (0.5, 0.5, 1.0)) -> dict[str, Any]:
    """A crop of the picture `name` with a mask over the eyes, so that Run works at once."""
    mask = preset_mask(FIRST_MASK, model.resolution, model.landmarks)
    return {
        "picture": name,
        "crop": dict(zip(("x", "y", "zoom"), crop, strict=True)),
        "mask": pack(mask, grid_of(model)),
    }


def read_value(value: Any, grid: int) -> tuple[str, Crop, Tensor]:
    """Read what the browser sent: the picture's name, the crop, and the mask [1, 1, grid, grid], 1 = observed.

    Raises:
        SettingsError: the value does not come from the page's own script.
    """
    if not isinstance(value, dict) or not isinstance(value.get("crop"), dict):
        raise SettingsError("The crop could not be read; reload the page.")
    crop = value["crop"]
    return (
        str(value.get("picture")),
        Crop(crop.get("x"), crop.get("y"), crop.get("zoom")),
        unpack(value.get("mask"), grid),
    )


def shown(image: Image.Image, name: str, model: Model, paint: Sequence[str] = ()) -> dict[str, Any]:
    """The picture for the browser; the user can paint on it for the tasks in `paint`, and only crop it for others."""
    small = image.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if max(image.size) <= 2 * LARGEST_GRID:
        small.save(file, "PNG")
        kind = "png"
    else:
        small.save(file, "JPEG", quality=88)
        kind = "jpeg"
    src = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {
        "src": src,
        "width": image.width,
        "height": image.height,
        "grid": grid_of(model),
        "name": name,
        "paint": list(paint),
    }


def build(model: Model, example: Example, elem_id: str = "painter", paint: Sequence[str] = ()) -> gr.HTML:
    """The component, with an example to begin with; its `change` event follows every change."""
    grid = grid_of(model)
    presets = "".join(
        f'<button type="button" data-preset="{pack(preset_mask(key, model.resolution, model.landmarks), grid)}">'
        f"{key.capitalize()}</button>"
        for key in PRESET_MASKS
    )
    return gr.HTML(
        value=first_value(model, example.name, example.crop),
        html_template=(HERE / "painter.html").read_text(encoding="utf-8").replace("@presets", presets),
        js_on_load=(HERE / "painter.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
        picture=shown(example.image, example.name, model, paint),
    )
