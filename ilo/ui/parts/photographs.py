"""An uploaded photograph: the faces found in it, and the eyes marked by hand."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ilo.photos import faces, portraits
from ilo.photos.faces import Alignment, Face, Placed
from ilo.photos.pictures import WHOLE, Crop, PictureError, read_picture, to_tensor
from ilo.photos.portraits import Photograph
from ilo.priors.load import Model
from ilo.settings import SettingsError
from ilo.state import to_uint8
from ilo.ui import text
from ilo.ui.parts import plots

HERE = Path(__file__).parent
DETAIL_SIDE = 512  # pixels of a face as the painter shows it
SHOWN_SIDE = 640  # pixels of the photograph on which eyes are placed
TILE_SIDE = 96
MOST_FACES = 13  # offered to the user, largest first
Places = tuple[Placed | None, Placed | None]  # the crop in the photograph, and in its smaller copy


@dataclass
class Source:
    """The picture that a session has chosen.

    Args:
        name: unique for each upload.
        image: as the painter shows it.
        photo: the photograph it comes from; None for an example, or a picture that needs no cutting.
        chosen: the chosen part of the photograph: "whole", "face:0" and so on, or "eyes".
        note: a sentence for the user about this choice.
        face: the face that was cut out; `pixels` is its crop, uint8 [R, R, 3], and `square` its place.
    """

    name: str
    image: Image.Image
    photo: Photograph | None = None
    chosen: str = "whole"
    note: str = ""
    face: Face | None = None
    pixels: np.ndarray | None = None
    square: Alignment | None = None

    def picture(self, crop: Crop) -> tuple[Image.Image, Crop]:
        """The picture and the crop that a problem is built from."""
        if self.pixels is not None and crop == WHOLE:
            return Image.fromarray(self.pixels), WHOLE
        return self.image, crop

    def part(self, crop: Crop) -> Alignment | None:
        """The cropped square in the photograph; None if there is no photograph."""
        if self.photo is None or (self.square is None and crop.zoom == 1 and self.image.width == self.image.height):
            return None
        if self.square is None:
            return portraits.square_of(self.photo.size, crop)
        return portraits.within(self.square, portraits.square_of((1, 1), crop))

    def placed(self, crop: Crop, resolution: int) -> Places:
        """The place of the cropped square in the photograph and in its smaller copy; None without a photograph."""
        square = self.part(crop)
        if self.photo is None or square is None:
            return None, None
        image, part = self.picture(crop)
        before = to_uint8(to_tensor(image, resolution, part))[0]
        return self.photo.placed(square, before)

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        pictures = [self.image, *([] if self.photo is None else [self.photo.small])]
        pixels = sum(3 * picture.width * picture.height for picture in pictures)
        file = 0 if self.photo is None else len(self.photo.data)
        return pixels + file + (0 if self.pixels is None else self.pixels.nbytes)

    def forget(self) -> None:
        """Release the pictures because the visitor has left; no upload has this name any more."""
        self.name, self.image, self.photo = "", Image.new("RGB", (1, 1)), None
        self.face = self.pixels = self.square = None


def read(path: str | None, model: Model, smallest: int, damaged: bool) -> Source:
    """Read an uploaded file and choose its largest face, or the whole picture.

    Args:
        path: where Gradio stored the file.
        smallest: the minimum number of pixels per side.
        damaged: whether the picture is already a measurement, which should not be rotated and scaled.

    Raises:
        PictureError: the file is not a picture, or no longer exists.
    """
    if path is None:
        raise PictureError(text.GONE)
    image = read_picture(path, smallest)
    if image.width == image.height <= model.resolution:
        return Source(secrets.token_hex(8), image)
    photo = Photograph.read(Path(path).read_bytes(), image)
    if photo.found and not damaged:
        return _of_face(photo, photo.found[0], np.asarray(image), model, "face:0")
    return _whole(photo, text.photo_damaged(len(photo.found)) if photo.found else _no_face())


def choose(source: Source | None, data: Any, model: Model) -> Source:
    """The part of the photograph that the user clicked: a face, the whole picture, or a face by its eyes.

    Raises:
        PictureError: the photograph no longer exists.
        SettingsError: the eye positions are not possible.
    """
    if source is None or source.photo is None or not isinstance(data, dict):
        raise PictureError(text.GONE)
    photo, choice = source.photo, data.get("choice")
    if choice == "whole":
        return _whole(photo, text.PHOTO_WHOLE if photo.found else _no_face())
    if choice == "eyes":
        left, right = _points(data.get("eyes"))
        return _of_face(photo, portraits.pointed(left, right, photo.size), photo.pixels(), model, "eyes")
    numbers = {f"face:{i}": face for i, face in enumerate(photo.found)}
    if choice not in numbers:
        raise PictureError(text.GONE)
    return _of_face(photo, numbers[choice], photo.pixels(), model, choice)


def shown(source: Source | None, model: Model) -> dict[str, Any] | None:
    """The data that the browser shows for a photograph; None hides the component."""
    if source is None or source.photo is None:
        return None
    photo = source.photo
    face = source.face or (photo.found[0] if photo.found else None)
    small = photo.small.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    return {
        "src": plots.jpeg(small),
        "width": photo.size[0],
        "height": photo.size[1],
        "tiles": _tiles(photo, model),
        "chosen": source.chosen,
        "note": source.note,
        "eyes": portraits.first_eyes(photo, model, face).round(1).tolist(),
        "places": faces.eye_places(portraits.template(model)).tolist(),
        "square": None if source.square is None else source.square.to_photo(portraits.CORNERS).tolist(),
        "problem": "",
    }


def build(elem_id: str) -> gr.HTML:
    """The component, hidden at first; its `click` event carries a choice."""
    return gr.HTML(
        html_template=(HERE / "photograph.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "photograph.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="photograph-box",
        photo=None,
    )


def _whole(photo: Photograph, note: str) -> Source:
    return Source(secrets.token_hex(8), photo.small, photo, "whole", note)


def _of_face(photo: Photograph, face: Face, pixels: np.ndarray, model: Model, chosen: str) -> Source:
    cut, square = portraits.cut(pixels, face, model)
    side = round(min(max(square.side, model.resolution), max(DETAIL_SIDE, model.resolution)))
    detail = Image.fromarray(faces.crop(pixels, square, side))
    by_hand = chosen == "eyes"
    words = text.PHOTO_EYES if by_hand else _which(photo, chosen)
    note = " ".join([words, *portraits.remarks(face, square, model)])
    return Source(secrets.token_hex(8), detail, photo, chosen, note, face, cut, square)


def _no_face() -> str:
    return text.PHOTO_NO_FACE


def _which(photo: Photograph, chosen: str) -> str:
    count = len(photo.found)
    return text.photo_face(int(chosen.removeprefix("face:")), count, min(count, MOST_FACES))


def _tiles(photo: Photograph, model: Model) -> list[dict[str, str]]:
    """The whole picture and its faces, the largest ones first."""
    if not photo.found:
        return []
    width, height = photo.size
    scale = np.array([[photo.small.width / width], [photo.small.height / height]])
    pixels = np.asarray(photo.small)
    tiles = []
    for i, face in enumerate(photo.found[:MOST_FACES]):
        square = faces.align(face, portraits.template(model))
        cut = faces.crop(pixels, Alignment(square.matrix * scale), TILE_SIDE)
        label = text.photo_tile(i, len(photo.found))
        tiles.append({"choice": f"face:{i}", "label": label, "src": plots.jpeg(Image.fromarray(cut))})
    whole = to_uint8(to_tensor(photo.small, TILE_SIDE))[0]
    return [*tiles, {"choice": "whole", "label": text.PHOTO_WHOLE_TILE, "src": plots.jpeg(Image.fromarray(whole))}]


def _points(eyes: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two points as the browser sends them; a coordinate that is not a number becomes NaN."""
    try:
        (a, b), (c, d) = ([float("nan") if n is None else float(n) for n in point] for point in eyes)
    except (TypeError, ValueError):
        raise SettingsError("The eye positions could not be read; reload the page.") from None
    return (a, b), (c, d)
