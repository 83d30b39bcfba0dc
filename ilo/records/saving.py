"""Writing the bundle of files that a run saves."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from ilo.photos.pictures import mask_picture, to_picture
from ilo.priors.base import Prior
from ilo.problem import Problem
from ilo.records import script, strip
from ilo.records.archive import BundleError
from ilo.records.bundle import FILES, answer_names
from ilo.records.film import encode
from ilo.records.readme import readme_of
from ilo.records.recipe import Recipe
from ilo.records.recorder import TRACE_HEADER, Recorder
from ilo.records.scores import scores
from ilo.state import Result, State, to_uint8

MEAN, SPREAD = "mean.png", "spread.png"  # of several answers
AMPLIFIED = 4.0  # factor on the standard deviation in spread.png
QUICKLY = 1  # zlib level for a photograph, which may be large: four times as fast, 7 % larger
PHOTO = "photo.png"  # the photograph with the result pasted in, if a face was cropped from one


def check_out_folder(folder: Path) -> None:
    """Check before a run whether `write_bundle` can write to a folder.

    Raises:
        BundleError: it is a file, holds anything but an earlier bundle, or its parent is not writable.
    """
    try:
        _check_out_folder(folder.absolute())
    except PermissionError as error:
        raise BundleError(
            f"{error.filename} cannot be opened (no permission); choose another folder than {folder}."
        ) from None


def _check_out_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; choose a folder that is new, empty, or contains an earlier run.")
    if folder.is_dir():
        names = {entry.name for entry in folder.iterdir()}
        strange = sorted(name for name in names if "recipe.json" not in names or not _is_own(name))
        if strange:
            raise BundleError(
                f"{folder} contains {strange[0]}, which is not part of an earlier run; choose a new or an empty folder."
            )
    parent = next(p for p in folder.resolve().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise BundleError(f"No folder can be created in {parent}; choose another place.")


def _is_own(name: str) -> bool:
    """Whether a run may have a file of this name."""
    drawn = strip.ROUND_NAME.fullmatch(name) or re.fullmatch(r"answer-[1-9][0-9]{0,5}\.png", name)
    return name in (*FILES, PHOTO, MEAN, SPREAD) or drawn is not None


def write_bundle(recorder: Recorder, folder: Path, model: Prior) -> Path:
    """Write all files of a run into `folder`, atomically.

    An earlier bundle in the same place is replaced.

    Returns:
        The folder.

    Raises:
        BundleError: there is no result yet, the folder holds other files, or the disk is full or read-only.
    """
    check_out_folder(folder)
    files = contents(recorder, model)
    folder = folder.resolve()
    with _saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _partial(folder) as partial:
            new = partial / "new"
            new.mkdir()
            for name, data in files.items():
                (new / name).write_bytes(data)
            if folder.exists():
                folder.rename(partial / "old")
            try:
                new.rename(folder)
            except BaseException:  # also Ctrl-C
                if (partial / "old").exists() and not folder.exists():
                    (partial / "old").rename(folder)
                raise
    return folder


def zip_bundle(recorder: Recorder, path: Path, model: Prior) -> Path:
    """Write the files of a run as one .zip; errors are those of `write_bundle`."""
    files = contents(recorder, model)
    path = path.resolve()
    with _saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as partial:
            with zipfile.ZipFile(partial / path.name, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
            (partial / path.name).replace(path)
    return path


def contents(recorder: Recorder, model: Prior) -> dict[str, bytes]:
    """The files of a bundle by name. Raises `BundleError` if there is no result yet."""
    result = recorder.result
    if result is None:
        raise BundleError("There is no result to save yet; let the run complete its first step.")
    problem, image = recorder.problem, recorder.input_image
    recipe = recorder.final_recipe()
    files = {"result.png": result_png(result), **_answers(result)}
    if image is not None:
        files["input.png"] = _png(to_picture(image))
    if isinstance(problem, Problem):
        if problem.operator.mask is not None:
            files["mask.png"] = _png(mask_picture(problem.operator.mask))
        files["measurement.png"] = _png(to_picture(problem.operator.picture(problem.y)))
        files["measurement.safetensors"] = safetensors.torch.save({"y": problem.y.detach().cpu().contiguous()})
    files["recipe.json"] = recipe.to_json().encode()
    files["latents.safetensors"] = _latents(result.state, recipe, model)
    files["trace.csv"] = _csv(recorder.traces)
    files["trajectory.mp4"] = encode(recorder.frames)
    if recorder.placed is not None:
        files[PHOTO] = _png(Image.fromarray(recorder.placed.with_result(to_uint8(result.image)[0])), QUICKLY)
    files |= _to_look_at(recorder, result)
    files["scores.json"] = (json.dumps(scores(problem, result), indent=2, ensure_ascii=False) + "\n").encode()
    named = script.preset_of(problem, recipe.settings, model)
    files["notebook.ipynb"] = script.notebook_of(recipe, named).encode()
    files["README.txt"] = readme_of(recorder, [*files, "README.txt"]).encode()
    return files


def _to_look_at(recorder: Recorder, result: Result) -> dict[str, bytes]:
    """The picture of every round, all of them in a row, and the result enlarged."""
    rounds = zip(strip.round_names(recorder.film), recorder.film, strict=True)
    return {
        **{name: png(pixels) for name, (_, pixels) in rounds},
        "strip.png": png(strip.drawn(strip.row_of(recorder))),
        "result-large.png": png(strip.enlarged(to_uint8(result.image[:1])[0])),
    }


def result_png(result: Result, answer: int = 0) -> bytes:
    """Encode the reconstruction, or another one of several answers, as PNG; equal pixels give equal bytes."""
    return png(to_uint8(result.image[answer : answer + 1])[0])


def _answers(result: Result) -> dict[str, bytes]:
    """The pictures of several answers, their mean, and their spread, by the names of their files."""
    names = answer_names(result.samples)
    if not names:
        return {}
    spread = AMPLIFIED * result.spread - 1  # black where all answers agree; a standard deviation of 64 levels is white
    return {
        **{name: result_png(result, n) for n, name in enumerate(names)},
        MEAN: png(to_uint8(result.mean)[0]),
        SPREAD: png(to_uint8(spread)[0]),
    }


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] as PNG without metadata."""
    return _png(Image.fromarray(pixels))


def _latents(state: State, recipe: Recipe, model: Prior) -> bytes:
    tensors = {**state.values, "layer": torch.tensor(state.layer)}
    about = {"model": model.id, "model_sha256": model.sha256, "covariance": recipe.settings.covariance}
    # Only one entry, because the order of several differs between processes.
    metadata = {"about": json.dumps(about)}
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)


def _csv(traces: np.ndarray) -> bytes:
    """One row per step, or with several answers one row per step and answer, whose number is the first column."""
    several = traces.shape[1] > 1
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["answer"] * several + [*TRACE_HEADER])
    for rows in traces:
        for n, row in enumerate(rows, 1):
            counts, values = row[:3], row[3:]
            numbers = [*(int(n) for n in counts), *("" if np.isnan(v) else f"{v:.7g}" for v in values)]
            writer.writerow([n] * several + numbers)
    return file.getvalue().encode()


def _png(image: Image.Image, level: int = -1) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()


@contextmanager
def _saving(target: Path) -> Iterator[None]:
    """Turn disk errors into `BundleError`s."""
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(
            f"{target} could not be written ({reason}); no partial file remains. Free space or choose another place."
        ) from error


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, on the same disk."""
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
