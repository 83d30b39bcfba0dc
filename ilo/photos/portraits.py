"""Cropping faces from photographs for a generator; shared by the page and the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo.photos import faces
from ilo.photos.detection import detect
from ilo.photos.faces import Alignment, Face, Placed
from ilo.photos.pictures import Crop, crop_box, read_picture
from ilo.priors.load import Model
from ilo.settings import SettingsError

SMALL_SIDE = 1024  # longer side of the smaller copy, in pixels
CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])  # corners of a crop, as fractions
LEAST_SIDE = 24  # minimum shorter side in pixels for detecting faces
LEAST_EYES = 2.0  # minimum distance between the eyes, in pixels


@dataclass
class Photograph:
    """A photograph and the faces in it. The file's bytes are kept, because they take less memory than the pixels.

    Args:
        data: bytes of the file, already checked by `read_picture`.
        small: upright copy with a longer side of at most 1,024 px.
        size: width and height of the upright picture.
        found: detected faces in pixels of the upright picture, largest first.
    """

    data: bytes = field(repr=False)
    small: Image.Image = field(repr=False)
    size: tuple[int, int]
    found: list[Face] = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, image: Image.Image) -> Photograph:
        """Detect the faces in `image`, the result of `read_picture` for `data`."""
        small = image.copy()
        small.thumbnail((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BICUBIC)
        found = detect(np.asarray(image)) if min(image.size) >= LEAST_SIDE else []
        return cls(data, small, image.size, found)

    def pixels(self) -> np.ndarray:
        """Decode the photograph again: uint8 [H, W, 3]."""
        return np.asarray(read_picture(self.data, smallest=1))

    def placed(self, square: Alignment, before: np.ndarray) -> tuple[Placed, Placed]:
        """Place a crop uint8 [R, R, 3] in the photograph, and in its smaller copy."""
        small = self.small
        scale = np.array([[small.width / self.size[0]], [small.height / self.size[1]]])
        shown = Placed(lambda: np.asarray(small), before, Alignment(square.matrix * scale))
        return Placed(self.pixels, before, square), shown


def template(model: Model) -> dict[str, list[float]] | str:
    """Landmark positions in a model's alignment, or the name of the alignment."""
    return model.alignment or faces.FFHQ


def counted(found: list[Face]) -> str:
    """The beginning of a sentence about the number of faces, such as "3 faces were"."""
    return "1 face was" if len(found) == 1 else f"{len(found) or 'No'} {'faces were' if found else 'face was'}"


def cut(photo: np.ndarray, face: Face, model: Model) -> tuple[np.ndarray, Alignment]:
    """Crop a face from a photograph uint8 [H, W, 3]. Returns the crop, uint8 [R, R, 3], and its alignment."""
    square = faces.align(face, template(model))
    return faces.crop(photo, square, model.resolution), square


def remarks(face: Face, square: Alignment, model: Model) -> list[str]:
    """Notes for the user about a cropped face."""
    notes = []
    if face.from_the_side:
        notes.append("The face is seen from the side; the generator has seen few such faces.")
    if square.side < model.resolution:
        notes.append(f"The face is {square.side:.0f} px wide and was enlarged to {model.resolution} px.")
    return notes


def pointed(left: tuple[float, float], right: tuple[float, float], size: tuple[int, int]) -> Face:
    """A face defined by eye positions, image-left first, in a photograph of `size` (width, height).

    Raises:
        SettingsError: the positions are not possible.
    """
    width, height = size
    for name, (x, y) in (("left", left), ("right", right)):
        if not (math.isfinite(x) and math.isfinite(y)):
            raise SettingsError(
                f"The position of the {name} eye is empty or not a number; enter one, or click the eye."
            )
        if not (0 <= x <= width and 0 <= y <= height):
            raise SettingsError(
                f"The {name} eye is at {x:g}, {y:g}, outside the photograph; allowed is 0 to {width} across and 0 to "
                f"{height} down. Click it in the photograph, or enter its position again."
            )
    if math.hypot(right[0] - left[0], right[1] - left[1]) < LEAST_EYES:
        raise SettingsError(
            f"Both eyes are at {left[0]:g}, {left[1]:g}; they must be at least {LEAST_EYES:g} px apart. Give each eye "
            "its own position."
        )
    if left[0] > right[0]:
        raise SettingsError(
            f"The left eye, at {left[0]:g} across, lies to the right of the right one, at {right[0]:g}. Left and right "
            "are as seen in the picture; swap them."
        )
    return faces.from_eyes(left, right)


def first_eyes(photo: Photograph, model: Model, face: Face | None = None) -> np.ndarray:
    """Initial eye positions [2, 2] in pixels: those of the face, else those of a centred square."""
    if face is not None:
        return np.clip(face.eyes, 0, photo.size)
    width, height = photo.size
    side = min(photo.size) / 2
    square = Alignment(np.array([[side, 0, (width - side) / 2], [0, side, (height - side) / 2]]))
    return square.to_photo(faces.eye_places(template(model)))


def square_of(size: tuple[int, int], crop: Crop) -> Alignment:
    """The upright square of `crop` in a picture of `size`."""
    left, top, side = crop_box(size, crop)
    return Alignment(np.array([[side, 0, left], [0, side, top]]))


def mask_within(mask: Tensor, square: Alignment, side: int) -> Tensor:
    """Crop a square from a mask [1, 1, H, W] that was painted on the whole photograph: [1, 1, side, side]."""
    pixels = np.repeat((mask[0, 0, :, :, None] * 255).byte().numpy(), 3, axis=2)
    return torch.from_numpy(faces.crop(pixels, square, side)[None, None, :, :, 0] > 127).float()


def within(square: Alignment, part: Alignment) -> Alignment:
    """Convert a square given in fractions of another square to one in pixels of the photograph."""
    return Alignment(np.column_stack([square.matrix[:, :2] @ part.matrix[:, :2], square.to_photo(part.matrix[:, 2])]))
