"""Recorded runs: a few dozen small pictures of a run with its errors, as one JSON file that the page plays back."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilo.problem import Problem
from ilo.records.recipe import Recipe
from ilo.settings import SettingsError
from ilo.state import Step, to_uint8
from ilo.text import jsontext
from ilo.text.words import reason

VERSION = 1
MOST_BYTES = 300_000  # of the file
MOST_FRAMES = 120
QUALITIES = (95, 90, 85, 80, 70, 60, 50)  # of the WebP pictures, best first
UNIT = 4.0  # squared errors on [−1, 1] are four times those on [0, 1], which the file has


class RecordingError(SettingsError):
    """A recording cannot be made or read; the message is meant for the user."""


@dataclass(frozen=True)
class Frame:
    """One picture of a recorded run."""

    round: int
    step: int  # steps of this round so far
    done: int  # steps of the whole run so far
    fit: float  # mean squared error of the measurement, on the [0, 1] scale
    error: float | None  # mean squared error against the truth, on the [0, 1] scale; None: it is not known
    picture: str  # base64 of a WebP, R×R px

    @property
    def psnr(self) -> float | None:
        """Peak signal-to-noise ratio in dB; None without a truth."""
        return None if self.error is None else -10 * math.log10(max(self.error, 1e-10))


@dataclass(frozen=True)
class Mark:
    """The start of the run, or the end of one of its rounds."""

    name: str  # "start" or "round 0", "round 1", …
    frame: int  # index of its picture
    psnr: float | None  # dB; None without a truth


@dataclass(frozen=True)
class Recording:
    """A recorded run.

    Raises:
        RecordingError: it has no frames or too many, or a mark without a frame.
    """

    title: str  # what is repaired
    recipe: Recipe
    seconds: float  # how long the run took
    measured: str  # the measurement as a picture: base64 of a WebP
    truth: str | None
    frames: tuple[Frame, ...]
    marks: tuple[Mark, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.frames) <= MOST_FRAMES:
            raise RecordingError(f"A recording has {len(self.frames)} frames; allowed are 1 to {MOST_FRAMES}.")
        if not all(0 <= mark.frame < len(self.frames) for mark in self.marks):
            raise RecordingError("A recording marks a frame that it does not have; record it again.")

    def to_json(self) -> str:
        """The content of the file; `from_json` is the exact inverse."""
        values = {**asdict(self), "recipe": json.loads(self.recipe.to_json()), "version": VERSION}
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """Parse a recording. Raises `RecordingError` if the text is not one."""
        try:
            values = jsontext.parse(text, "The recording")
            if not isinstance(values, dict) or values.pop("version", None) != VERSION:
                raise RecordingError(f"This is not a recording of version {VERSION}; record it again.")
            values["recipe"] = Recipe.from_json(json.dumps(values["recipe"]))
            values["frames"] = tuple(Frame(**frame) for frame in values["frames"])
            values["marks"] = tuple(Mark(**mark) for mark in values["marks"])
            found = cls(**values)
            pictures = [found.measured, found.truth or "", *(frame.picture for frame in found.frames)]
            for picture in pictures:
                base64.b64decode(picture, validate=True)
        except SettingsError as error:
            raise RecordingError(str(error)) from None
        except (KeyError, TypeError, binascii.Error) as error:
            raise RecordingError(f"The recording is damaged ({reason(error)}); record it again.") from None
        return found


def read(path: Path) -> Recording:
    """Read a recording. Raises `RecordingError` if it cannot be read or is larger than `MOST_BYTES`."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise RecordingError(f"{path.name} has {size:,} bytes; a recording has at most {MOST_BYTES:,}.")
        return Recording.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path.name} cannot be read ({reason(error)}).") from None


def write(recording: Recording, path: Path) -> None:
    """Write a recording. Raises `RecordingError` if it is larger than `MOST_BYTES`."""
    text = recording.to_json()
    if len(text.encode()) > MOST_BYTES:
        raise RecordingError(
            f"The recording has {len(text.encode()):,} bytes; allowed are {MOST_BYTES:,}. Take fewer frames."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def record(title: str, recipe: Recipe, problem: Problem, steps: Iterable[Step], seconds: float = math.nan) -> Recording:
    """Make a recording of a run on one picture, in the best quality that stays below `MOST_BYTES`.

    Args:
        title: what is repaired, in a few words.
        recipe: recipe of the run.
        problem: what is solved; its truth, if it is known, gives the errors.
        steps: snapshots of the run, all of which become frames.
        seconds: how long the run took.

    Raises:
        RecordingError: there are too many snapshots, or the file would be too large even in the lowest quality.
    """
    truth = None if problem.truth is None else to_uint8(problem.truth)[0]
    frames: list[Frame] = []
    pictures: list[np.ndarray] = []
    marks: list[Mark] = []
    engine: dict[str, Any] = {}
    for step in steps:
        if step.result is not None:
            engine = {"engine": step.result.engine}
        if frames and (step.done, step.round) == (frames[-1].done, frames[-1].round):
            continue
        error = None if truth is None else float(np.square((step.preview / 255.0) - (truth / 255.0)).mean())
        frames.append(Frame(step.round, step.step, step.done, _short(step.losses["mse"][0] / UNIT), _short(error), ""))
        pictures.append(step.preview)
        if len(frames) == 1 or step.step == step.steps:
            psnr = frames[-1].psnr
            name = "start" if len(frames) == 1 else f"round {step.round}"
            marks.append(Mark(name, len(frames) - 1, None if psnr is None else round(psnr, 2)))
    measured = to_uint8(problem.operator.picture(problem.y))[0]
    recipe = replace(recipe, engine={**recipe.engine, **engine})
    for quality in QUALITIES:
        shown = tuple(
            replace(frame, picture=webp(pixels, quality)) for frame, pixels in zip(frames, pictures, strict=True)
        )
        made = Recording(
            title,
            recipe,
            round(seconds, 1),
            webp(measured, quality),
            None if truth is None else webp(truth, quality),
            shown,
            tuple(marks),
        )
        if len(made.to_json().encode()) <= MOST_BYTES:
            return made
    raise RecordingError(f"The recording is larger than {MOST_BYTES:,} bytes; take fewer frames.")


def webp(pixels: np.ndarray, quality: int) -> str:
    """Encode uint8 [R, R, 3] as WebP, in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=6)
    return base64.b64encode(file.getvalue()).decode()


def _short(value: Any) -> Any:
    """A number with four digits; None stays."""
    return None if value is None else float(f"{float(value):.4g}")
