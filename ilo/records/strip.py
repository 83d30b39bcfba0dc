"""Pictures for looking at a run outside the studio: every round, all of them in a row, and the result enlarged."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ilo.guidance import Guidance
from ilo.problem import Problem
from ilo.records.recorder import Recorder
from ilo.state import to_uint8

CELL = 256  # side of a picture in the row, in pixels
LABEL, GAP, SIZE = 32, 8, 16  # height of the labels, space between the pictures, size of the letters, in pixels
PAPER, INK = "white", "#1c1b19"
LARGE = 512  # side of the enlarged result in pixels
ROUND_NAME = re.compile(r"(start|inverted|pixels|round-\d{1,3})(-search-\d{1,3})?\.png")

Named = tuple[str, np.ndarray]  # (label, uint8 [R, R, 3])


def round_names(film: Sequence[Named]) -> list[str]:
    """The file of each picture of `Recorder.film`, such as round-1-search-2.png."""
    return [label.replace(",", "").replace(" ", "-") + ".png" for label, _ in film]


def row_of(recorder: Recorder) -> list[Named]:
    """Input, start, rounds and truth of a run that has a result, in this order, as far as they are known."""
    problem, result, image = recorder.problem, recorder.result, recorder.input_image
    assert result is not None
    cells: list[Named] = []
    if isinstance(problem, Problem):
        cells.append(("input", to_uint8(problem.operator.picture(problem.y))[0]))
    elif isinstance(problem, Guidance) and image is not None:
        cells.append(("photograph", to_uint8(image)[0]))
    cells += recorder.film
    if not recorder.complete:
        cells.append(("stopped", to_uint8(result.image)[0]))
    if isinstance(problem, Problem) and problem.truth is not None:
        cells.append(("truth", to_uint8(problem.truth)[0]))
    return cells


def drawn(cells: Sequence[Named]) -> np.ndarray:
    """Draw pictures in a row with their labels above: uint8 [H, W, 3]."""
    width, height = len(cells) * (CELL + GAP) + GAP, LABEL + CELL + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    for n, (label, pixels) in enumerate(cells):
        left = GAP + n * (CELL + GAP)
        draw.text((left, LABEL / 2), label, INK, font, anchor="lm")
        sheet.paste(_resized(pixels, CELL), (left, LABEL))
    return np.asarray(sheet)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 [R, R, 3] at 512 pixels per side (bicubic); a larger one stays as it is."""
    return pixels if len(pixels) >= LARGE else np.asarray(_resized(pixels, LARGE))


def _resized(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
