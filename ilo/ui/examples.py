"""The example pictures of the page: scikit-image's astronaut, and generated faces."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass

import gradio as gr
import skimage.data
from PIL import Image

from ilo.photos.pictures import Crop, crop_box, read_picture
from ilo.weights.registry import ASSETS

# Frames the face in the same way as the generator frames faces.
ASTRONAUT_CROP = (0.436, 0.244, 4.47)  # centre as fractions, zoom
THUMBNAIL = 96


@dataclass(frozen=True)
class Example:
    """One example picture and its crop."""

    name: str
    image: Image.Image
    crop: tuple[float, float, float] = (0.5, 0.5, 1.0)


def load() -> list[Example]:
    """All examples, in the order of the page: first the photograph, on which ILO gains the most over its rivals."""
    faces = sorted((ASSETS / "examples").glob("face-*.png"))
    found = [Example(f"Generated face {i}", read_picture(path)) for i, path in enumerate(faces, 1)]
    astronaut = Image.fromarray(skimage.data.astronaut())  # NASA, public domain; comes with the package
    return [Example("Photograph: Eileen Collins, NASA", astronaut, ASTRONAUT_CROP), *found]


SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (!button) return;
  element.querySelectorAll('button').forEach((b) => b.setAttribute('aria-pressed', b === button));
  trigger('click', {index: Number(button.dataset.index)});
});
"""


def build(examples: list[Example]) -> gr.HTML:
    """A strip of thumbnails; its `click` event carries the index."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" aria-pressed="{"true" if i == 0 else "false"}" '
        f'title="{html.escape(example.name)}"><img src="{_thumbnail(example)}" alt="{html.escape(example.name)}">'
        "</button>"
        for i, example in enumerate(examples)
    )
    return gr.HTML(
        html_template=f'<div class="examples" role="group" aria-label="Examples">{buttons}</div>',
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="examples",
    )


def _thumbnail(example: Example) -> str:
    left, top, side = crop_box(example.image.size, Crop(*example.crop))
    box = (left, top, left + side, top + side)
    small = example.image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, box=box)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
