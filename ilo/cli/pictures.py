"""Build the problem, or a morph's guidance, from the picture and the options of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ilo.classifiers import classifier
from ilo.cli import tasks
from ilo.guidance import Guidance
from ilo.operators import find, noise_model
from ilo.photos.detection import detect
from ilo.photos.faces import Placed
from ilo.photos.masks import PRESET_MASKS, preset_mask
from ilo.photos.pictures import SMALLEST_SIDE, WHOLE, Crop, read_mask, read_picture, to_tensor
from ilo.photos.portraits import counted, cut, mask_within, remarks
from ilo.photos.tasks import build_problem, crop_mask
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.settings import SettingsError


def problem(options: argparse.Namespace, model: Model) -> tuple[Problem, torch.Tensor, Placed | None, list[str]]:
    """The problem, the picture [1, 3, R, R], the place of a face in its photograph, and sentences for the user."""
    crop = Crop(*options.crop) if options.crop else WHOLE
    kind = find(options.task)
    settings = {**kind.suggested(model.resolution), **tasks.settings(options)}
    tiny = options.damaged and kind.shrinks
    image = read_picture(options.photo, smallest=2 if tiny else SMALLEST_SIDE)
    size = image.size
    placed: Placed | None = None
    notes: list[str] = []
    if options.face is not None:
        image, placed, notes = _face(image, options.face, model)
    if options.mask:
        mask, more = _mask(options.mask, model, size, crop, placed)
        notes += more
    else:
        mask = None
    made, given, more = build_problem(
        model,
        image,
        options.task,
        settings,
        mask=mask,
        crop=crop,
        damaged_here=not options.damaged,
        measurement_seed=options.measurement_seed,
        noise=None if options.noise is None else noise_model(options.noise),
    )
    return made, given, placed, notes + more


def guidance(
    options: argparse.Namespace, model: Model
) -> tuple[Guidance, torch.Tensor | None, Placed | None, list[str]]:
    """The guidance of a morph and the photograph it starts from, if any; the other values as in `problem`."""
    guide = classifier.load(options.classifier or "robust64", model.device)
    made = Guidance(guide, dict(options.classes), views=options.views or 0)
    if options.photo is None:
        return made, None, None, []
    image = read_picture(options.photo)
    placed: Placed | None = None
    notes: list[str] = []
    if options.face is not None:
        image, placed, notes = _face(image, options.face, model)
    crop = Crop(*options.crop) if options.crop else WHOLE
    return made, to_tensor(image, model.resolution, crop), placed, notes


def _face(image: Image.Image, number: int, model: Model) -> tuple[Image.Image, Placed, list[str]]:
    """Cut out and align face number `number` of a photograph; 1 is the largest.

    Raises:
        SettingsError: the photograph has no such face.
    """
    photo = np.asarray(image)
    found = detect(photo)
    if not found:
        raise SettingsError("No face was found; use --crop instead of --face to cut it out.")
    if number > len(found):
        raise SettingsError(f"--face is {number}, but only {counted(found)} found; 1 is the largest.")
    pixels, square = cut(photo, found[number - 1], model)
    notes = [f"{counted(found)} found; using number {number}, counted from the largest."] * (len(found) > 1)
    notes += remarks(found[number - 1], square, model)
    return Image.fromarray(pixels), Placed(lambda: photo, pixels, square), notes


def _mask(
    text: str, model: Model, size: tuple[int, int], crop: Crop, placed: Placed | None
) -> tuple[torch.Tensor, list[str]]:
    """A preset mask by its name, else a mask file; a file of the photo's size is cropped like the photo."""
    if text in PRESET_MASKS:
        return preset_mask(text, model.resolution, model.landmarks), []
    mask = read_mask(Path(text))
    height, width = mask.shape[-2:]
    if placed is not None and (width, height) == size:
        return mask_within(mask, placed.alignment, model.resolution), [
            "The mask has the size of the photo, so it was cut out like the face."
        ]
    if (width, height) != size or (width == height and crop == WHOLE):
        return mask, []
    return crop_mask(mask, crop), ["The mask has the size of the photo, so it was cropped like it."]
