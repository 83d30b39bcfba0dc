"""Pictures that a program sends: uploaded files, or the bytes of a file as base64. No URL is ever opened."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ilo.photos.pictures import WHOLE, Crop, PictureError, read_picture
from ilo.ui import text
from ilo.ui.examples import Example
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits


class Sent:
    """Reads what programs send.

    Args:
        examples: pictures of the page, which a program may name instead.
        cache: folder in which Gradio stores uploads.
        limits: how long an upload is kept after it was read.
    """

    def __init__(self, examples: Sequence[Example], cache: Path, limits: Limits):
        self._examples = {example.name: example for example in examples}
        self._cache, self._limits = cache, limits

    def picture(self, value: Any, smallest: int) -> tuple[Image.Image, Crop]:
        """Read a picture with at least `smallest` pixels per side: upright RGB, and the part of it to use.

        Raises:
            PictureError: it was not uploaded, is not a picture, or is too small or too large.
        """
        example = self._examples.get(value) if isinstance(value, str) else None
        if example is not None:
            return example.image, Crop(*example.crop)
        return read_picture(self.data(value), smallest), WHOLE

    def data(self, value: Any) -> bytes:
        """The bytes of a sent file. Raises `PictureError` if nothing usable was sent."""
        if isinstance(value, dict):
            return self._uploaded(value.get("path"))
        if not isinstance(value, str) or not value:
            raise PictureError(text.NO_PICTURE)
        encoded = value.partition(",")[2] if value.startswith("data:") else value
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise PictureError(text.NO_PICTURE) from None

    def _uploaded(self, name: Any) -> bytes:
        # Gradio has checked this, too; but the check is what makes it safe to open a path that a visitor names.
        if not isinstance(name, str) or "\0" in name or not temporary.is_upload(Path(name), self._cache):
            raise PictureError(text.NOT_UPLOADED)
        try:
            data = Path(name).read_bytes()
        except OSError:
            raise PictureError(text.UPLOAD_GONE) from None
        temporary.delete_later(Path(name), self._limits.read_seconds, self._limits)
        return data
