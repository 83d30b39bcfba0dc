"""The files that a run leaves behind: writing them, reading them again."""

from __future__ import annotations

import csv
import io
import json
import os
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
from safetensors import SafetensorError
from torch import Tensor

from ilo import classifier
from ilo.classifier import ClassifierError
from ilo.guidance import Guidance
from ilo.models import Model
from ilo.operators import OPERATORS, build
from ilo.operators.base import setting_names
from ilo.pictures import PictureError, from_uint8, mask_picture, read_mask, read_picture, to_picture
from ilo.problem import Problem
from ilo.recipe import Recipe, RecipeError, picture_sha256, tensor_sha256
from ilo.recorder import TRACE_HEADER, Recorder
from ilo.registry import ids
from ilo.settings import MORPH, SettingsError
from ilo.state import Result, State, to_uint8
from ilo.stylegan2.network import Features
from ilo.video import encode

FILES = (
    "result.png",
    "input.png",
    "mask.png",
    "measurement.png",
    "measurement.safetensors",
    "recipe.json",
    "latents.safetensors",
    "trace.csv",
    "trajectory.mp4",
)
QUICKLY = 1  # zlib's level for a photograph, which may have many pixels: four times as fast, 7 % larger
PHOTO = "photo.png"  # the photograph with the result in it, where a face was taken out of one
LARGEST_FILE = 256 * 2**20  # bytes; a bundle's own files are far smaller


class BundleError(OSError):
    """A bundle that cannot be written or read; the message is meant for the user."""


def check_out_folder(folder: Path) -> None:
    """Ask this before a run: whether `write_bundle` may write there.

    Raises:
        BundleError: it is a file, holds anything but an earlier bundle, or its parent cannot be written to.
    """
    try:
        _check_out_folder(folder.absolute())
    except PermissionError as error:
        raise BundleError(f"{error.filename} may not be looked into; give another place than {folder}.") from None


def _check_out_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; give a folder, new or empty or with an earlier run.")
    if folder.is_dir():
        names = {entry.name for entry in folder.iterdir()}
        strange = sorted(names if "recipe.json" not in names else names - {*FILES, PHOTO})
        if strange:
            raise BundleError(
                f"{folder} holds {strange[0]}, which is not of an earlier run; give a new or an empty folder."
            )
    parent = next(p for p in folder.resolve().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise BundleError(f"No folder can be made in {parent}; give another place.")


def write_bundle(recorder: Recorder, folder: Path, model: Model) -> Path:
    """Write all files of a run into `folder`, which appears complete or not at all.

    An earlier bundle in its place is replaced.

    Returns:
        The folder.

    Raises:
        BundleError: there is no result yet, the folder is taken, or the disk is full or read-only.
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


def zip_bundle(recorder: Recorder, path: Path, model: Model) -> Path:
    """The same files as one .zip; errors are those of `write_bundle`."""
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


def contents(recorder: Recorder, model: Model) -> dict[str, bytes]:
    """The files of a bundle by name. Raises `BundleError` if there is no result yet."""
    result = recorder.result
    if result is None:
        raise BundleError("There is no result to save yet; let the run make at least its first step.")
    problem, image = recorder.problem, recorder.input_image
    recipe = recorder.final_recipe()
    files = {"result.png": result_png(result)}
    if image is not None:
        files["input.png"] = _png(to_picture(image))
    if isinstance(problem, Problem):
        if problem.operator.mask is not None:
            files["mask.png"] = _png(mask_picture(problem.operator.mask))
        files["measurement.png"] = _png(to_picture(problem.operator.picture(problem.y)))
        files["measurement.safetensors"] = safetensors.torch.save({"y": problem.y.detach().cpu().contiguous()})
    files["recipe.json"] = recipe.to_json().encode()
    files["latents.safetensors"] = _latents(result.state, recipe, model)
    files["trace.csv"] = _csv(recorder.trace)
    files["trajectory.mp4"] = encode(recorder.frames)
    if recorder.placed is not None:
        files[PHOTO] = _png(Image.fromarray(recorder.placed.with_result(to_uint8(result.image)[0])), QUICKLY)
    return files


def result_png(result: Result) -> bytes:
    """The reconstruction as a PNG file, the same bytes for the same pixels."""
    return png(to_uint8(result.image)[0])


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as a PNG file without metadata."""
    return _png(Image.fromarray(pixels))


def load_latents(path: Path) -> State:
    """The point at which a run ended: `State.render` makes its picture.

    Raises:
        BundleError: the file is missing, broken, or holds something else.
    """
    tensors = _tensors(_read_limited(path), path.name)
    try:
        noise = tuple(tensors[f"noise_{i}"] for i in range(sum(name.startswith("noise_") for name in tensors)))
        layer = int(tensors["layer"])
        features = Features(tensors["features_x"], tensors["features_rgb"]) if layer else None
        return State(tensors["z"], noise, layer, features)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path.name} does not hold the latents of a run ({error}).") from None


def read_bundle(path: Path, guide: str | None = None) -> tuple[Recipe, Problem | Guidance, Tensor | None]:
    """The recipe, the problem and the cropped picture of a bundle; its hashes are checked, nothing in it is executed.

    Args:
        path: a bundle's folder or .zip.
        guide: a morph's classifier, if it is not an embedded one: its file.

    Returns:
        The recipe, the problem (with its truth if the picture was damaged here; of a morph, its guidance), and the
        picture [1, 3, …] or None.

    Raises:
        BundleError: a file is missing, broken or not the one that the recipe was made with.
        RecipeError: recipe.json cannot be read or used.
    """
    recipe_json = read_file(path, "recipe.json")
    if recipe_json is None:
        raise BundleError(f"{path} holds no recipe.json; give the folder or the .zip of a run.")
    try:
        recipe = Recipe.from_json(recipe_json.decode())
    except UnicodeDecodeError:
        raise RecipeError("The recipe is not text; give the recipe.json of a run.") from None
    if recipe.task == MORPH:
        return recipe, *_read_morph(path, recipe, guide)
    y_file = read_file(path, "measurement.safetensors")
    if y_file is None:
        raise BundleError(f"{path} holds no measurement.safetensors; give the folder or the .zip of a run.")
    y = _tensors(y_file, "measurement.safetensors").get("y")
    if y is None or y.dtype != torch.float32 or tensor_sha256(y) != recipe.measurement_sha256:
        raise BundleError("measurement.safetensors is not the one that the recipe was made with.")
    try:
        image = _input(read_file(path, "input.png"), recipe, required=recipe.damaged_here)
        mask = _mask(read_file(path, "mask.png"), recipe)
        settings = dict(recipe.operator)
        if mask is not None and _takes_mask(recipe.task):  # others make their own again
            settings["mask"] = mask
        operator = build(recipe.task, recipe.resolution, **settings)
        problem = Problem(operator, y, image if recipe.damaged_here else None)
    except SettingsError as error:
        raise RecipeError(f"The recipe does not fit its files: {error}") from None
    except PictureError as error:
        raise BundleError(f"The bundle has a picture that cannot be read: {error}") from None
    except (TypeError, OverflowError) as error:
        raise RecipeError(f"The recipe has operator settings of a wrong type ({error}).") from None
    if recipe.mask_sha256 != (None if operator.mask is None else tensor_sha256(operator.mask)):
        raise BundleError("The mask is not the one that the recipe was made with.")
    return recipe, problem, image


def _read_morph(path: Path, recipe: Recipe, guide: str | None) -> tuple[Guidance, Tensor | None]:
    """The guidance of a morph's recipe, and the photograph that it began with, if any."""
    values = dict(recipe.operator)
    try:
        sha256 = values.pop("classifier_sha256")
        recorded = values.pop("classifier")
        if guide is None and recorded not in ids("classifier"):
            raise BundleError(
                f"The run was guided by {recorded}, which the studio does not know; give its file with --classifier."
            )
        loaded = classifier.load(guide or recorded)
        guidance = Guidance(loaded, **values)
        image = None
        if recipe.input_sha256 is not None:
            image = _input(read_file(path, "input.png"), recipe, required=True)
    except (KeyError, TypeError, ClassifierError, SettingsError) as error:
        raise RecipeError(f"The recipe's guidance cannot be used ({error}).") from None
    except PictureError as error:
        raise BundleError(f"The bundle has a picture that cannot be read: {error}") from None
    if loaded.sha256 != sha256:
        raise BundleError(
            f"The run was made with other weights of the classifier {recorded} than {loaded.path.name} holds; give "
            "their file with --classifier."
        )
    return guidance, image


def read_file(path: Path, name: str) -> bytes | None:
    """One file of a bundle, which is a folder or a .zip; None if it is not there. Errors are `BundleError`s."""
    if path.is_dir():
        return _read_limited(path / name) if (path / name).is_file() else None
    if not path.is_file():
        raise BundleError(f"There is no run at {path}; give the folder or the .zip of a run.")
    return _read_zipped(path, name)


def _takes_mask(task: str) -> bool:
    return task in OPERATORS and "mask" in setting_names(OPERATORS[task])


def _input(data: bytes | None, recipe: Recipe, required: bool) -> Tensor | None:
    if data is None:
        if required:
            raise BundleError("input.png is missing; the recipe was made with it.")
        return None
    image = from_uint8(np.array(read_picture(data, smallest=1))[None])
    if picture_sha256(image) != recipe.input_sha256:
        raise BundleError("input.png is not the one that the recipe was made with.")
    return image


def _mask(data: bytes | None, recipe: Recipe) -> Tensor | None:
    if recipe.mask_sha256 is None:
        return None
    if data is None:
        raise BundleError("mask.png is missing; the recipe was made with it.")
    mask = read_mask(data)
    if tensor_sha256(mask) != recipe.mask_sha256:
        raise BundleError("mask.png is not the one that the recipe was made with.")
    return mask


def _read_zipped(path: Path, name: str) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            with archive.open(name) as member:
                data = member.read(LARGEST_FILE + 1)  # what the archive says of its sizes need not be true
    except Exception as error:  # damaged archives fail in the errors of every compression
        raise BundleError(f"{path.name} is not a complete .zip of a run ({error}).") from None
    if len(data) > LARGEST_FILE:
        raise BundleError(f"{name} in {path.name} is larger than any file of a run.")
    return data


def _read_limited(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BundleError(f"{path} is larger than any file of a run.")
        return path.read_bytes()
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}).") from None


def _tensors(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise BundleError(f"{name} is not a complete safetensors file ({error}).") from None


def _latents(state: State, recipe: Recipe, model: Model) -> bytes:
    tensors = {"z": state.z, "layer": torch.tensor(state.layer)}
    tensors |= {f"noise_{i}": noise for i, noise in enumerate(state.noise)}
    if state.features is not None:
        tensors |= {"features_x": state.features.x, "features_rgb": state.features.rgb}
    about = {"model": model.id, "model_sha256": model.sha256, "covariance": recipe.settings.covariance}
    # One entry only, because the order of several is not the same in every process.
    metadata = {"about": json.dumps(about)}
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)


def _csv(trace: np.ndarray) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(TRACE_HEADER)
    for row in trace:
        counts, values = row[:3], row[3:]
        writer.writerow([*(int(n) for n in counts), *("" if np.isnan(v) else f"{v:.7g}" for v in values)])
    return file.getvalue().encode()


def _png(image: Image.Image, level: int = -1) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()


@contextmanager
def _saving(target: Path) -> Iterator[None]:
    """Whatever the disk refuses becomes a `BundleError`."""
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(
            f"{target} could not be written ({reason}), and nothing was left there. Make room or give another place."
        ) from error


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A folder beside `target`, on the same disk, that is gone afterwards."""
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
