"""Building the problem for a picture and a task; shared by the page and the command line."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor

from ilo.operators import OPERATORS, Noise, Operator, build, find
from ilo.operators.base import MAX_SEED
from ilo.photos.pictures import WHOLE, Crop, crop_box, to_tensor
from ilo.priors.base import Prior
from ilo.problem import Problem
from ilo.settings import SettingsError, check_whole


def build_problem(
    model: Prior,
    image: Image.Image,
    task: str,
    operator_settings: dict[str, Any],
    *,
    mask: Tensor | None = None,
    crop: Crop = WHOLE,
    damaged_here: bool = True,
    measurement_seed: int = 0,
    noise: Noise | None = None,
) -> tuple[Problem, Tensor, list[str]]:
    """Build the problem for one picture.

    Args:
        model: model whose resolution R the picture is resized to.
        image: upright RGB picture, from `ilo.photos.pictures.read_picture`.
        task: name of an operator.
        operator_settings: settings of the operator; omitted ones have their defaults.
        mask: mask [1, 1, H, W] of the cropped square, 1 = observed, for tasks that need one.
        crop: square part of the picture to use.
        damaged_here: True to measure the picture here, so that the truth is known; False if it is already the
            measurement.
        measurement_seed: random seed of the measurement's noise.
        noise: noise model; None takes the operator's own.

    Returns:
        The problem; the cropped picture [1, 3, R, R] (a small uploaded measurement keeps its size); and sentences
        about changes made to the input.

    Raises:
        SettingsError: a setting is not allowed, or the task's measurement cannot be uploaded as a picture.
    """
    check_whole("measurement_seed", measurement_seed, 0, MAX_SEED)
    if noise is not None and not damaged_here:
        raise SettingsError("Noise is given, but the picture is already damaged; leave out one of the two.")
    operator, notes = _operator(task, model.resolution, operator_settings, mask)
    if damaged_here:
        notes += _enlarged(image, model.resolution, crop)
        truth = to_tensor(image, model.resolution, crop)
        return Problem.damage(truth, operator, measurement_seed, noise), truth, notes
    if operator.upload == "no":
        titles = ", ".join(kind.title for kind in OPERATORS.values() if kind.upload != "no")
        raise SettingsError(
            f"{operator.title} cannot start from an already damaged picture, because its measurement is not a picture "
            f"that can be uploaded. Choose {titles}, or let the studio damage the picture."
        )
    side = operator.upload_side
    if side == model.resolution:
        notes += _enlarged(image, side, crop)
        given = to_tensor(image, side, crop)
    else:
        if image.size != (side, side):
            how = "reduced" if max(image.size) > side else "enlarged"
            notes.append(f"The picture was {how} to {side}×{side} px.")
        given = to_tensor(image, side, crop)
    return Problem(operator, operator.given(given)), given, notes


def crop_mask(mask: Tensor, crop: Crop) -> Tensor:
    """Crop a mask [1, 1, H, W] that was painted on the whole picture."""
    height, width = mask.shape[-2:]
    left, top, side = crop_box((width, height), crop)
    pixels = max(1, round(side))
    row, column = min(round(top), height - pixels), min(round(left), width - pixels)
    return mask[..., row : row + pixels, column : column + pixels]


def _operator(task: str, resolution: int, settings: dict[str, Any], mask: Tensor | None) -> tuple[Operator, list[str]]:
    kind = find(task)
    wanted = kind.mask_setting()
    if mask is not None:
        if wanted is None:
            masked = " or ".join(name for name, other in OPERATORS.items() if other.mask_setting() is not None)
            raise SettingsError(f"A mask is given, but the task {task} uses none; leave it out, or choose {masked}.")
        settings = {**settings, "mask": mask}
    elif wanted is not None and wanted.required and "mask" not in settings:
        raise SettingsError(f"{kind.title} needs a mask; paint over the part to fill in, or choose or upload a mask.")
    operator = build(task, resolution, **settings)
    if mask is None or operator.mask is None or operator.mask.shape[-2:] == mask.shape[-2:]:
        return operator, []
    (height, width), side = mask.shape[-2:], operator.mask.shape[-1]
    return operator, [f"The mask was resized from {width}×{height} to {side}×{side} px."]


def _enlarged(image: Image.Image, resolution: int, crop: Crop) -> list[str]:
    side = crop_box(image.size, crop)[2]
    if side >= resolution:
        return []
    return [f"The cropped square is {side:.0f} px wide and was enlarged to {resolution} px."]
