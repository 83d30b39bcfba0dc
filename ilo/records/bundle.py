"""The bundle of files that a run saves, and reading it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ClassifierError
from ilo.guidance import Guidance
from ilo.operators import OPERATORS, build, noise_model
from ilo.photos.pictures import PictureError, from_uint8, read_mask, read_picture
from ilo.problem import Problem
from ilo.records.archive import LARGEST_HEADER, BundleError, read_file, read_tensors
from ilo.records.recipe import Recipe, RecipeError, picture_sha256, tensor_sha256
from ilo.settings import MORPH, SettingsError, named
from ilo.state import State
from ilo.text.words import reason, shown
from ilo.weights import registry

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
    "result-large.png",
    "strip.png",
    "scores.json",
    "notebook.ipynb",
    "README.txt",
)
# Maximum file sizes in bytes; those of pictures and measurements depend on the resolution.
LARGEST_RECIPE = 2**20
LARGEST_LATENTS = 256 * 2**20  # a run at 1024 px that searched the last layers needs 150 MB
LARGEST_RESOLUTION = 1024  # maximum resolution of a recipe whose generator is not known
GUIDANCE = ("classes", "views", "shift", "noise")  # settings of `Guidance` in a morph's recipe, besides the classifier
PNG = b"\x89PNG\r\n\x1a\n"


def answer_names(samples: int) -> list[str]:
    """The files of a run's answers; a single one is in result.png alone."""
    return [f"answer-{n}.png" for n in range(1, samples + 1)] if samples > 1 else []


def load_latents(path: Path, samples: int = 1) -> State:
    """Load the final state of a run, from which the prior's `render` makes the picture.

    Args:
        path: the latents.safetensors of a run.
        samples: number of the run's answers; more of them allow a larger file.

    Raises:
        BundleError: the file is missing, broken, or not a latents file.
    """
    data = read_file(path.parent, path.name, samples * LARGEST_LATENTS)
    if data is None:
        raise BundleError(f"There is no file {path}; give the latents.safetensors of a run.")
    tensors = read_tensors(data, path.name)
    try:
        layer = int(tensors.pop("layer"))
        if not tensors:
            raise ValueError("it has only a layer number")
        return State(tensors, layer)
    except (KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise BundleError(f"{path.name} does not hold the latents of a run ({reason(error)}).") from None


def read_bundle(
    path: Path, guide: str | None = None, resolution: int | None = None
) -> tuple[Recipe, Problem | Guidance, Tensor | None]:
    """Read the recipe, problem and cropped picture of a bundle. Hashes are checked; nothing in it is executed.

    Args:
        path: folder or .zip of the bundle.
        guide: file of a morph's classifier, if it is not an embedded one.
        resolution: side of the generator's pictures in pixels; None takes it from the registry by the recipe's model.

    Returns:
        The recipe; the problem (with the truth if the picture was damaged here), or a morph's guidance; and the
        picture [1, 3, …] or None.

    Raises:
        BundleError: a file is missing, broken, too large, or does not match the recipe's hash.
        RecipeError: recipe.json cannot be read or used, or is for another resolution.
    """
    recipe = read_recipe(path)
    return recipe, *read_problem(path, recipe, guide, resolution)


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a bundle; errors are those of `read_bundle`."""
    data = read_file(path, "recipe.json", LARGEST_RECIPE)
    if data is None:
        raise BundleError(f"{path} holds no recipe.json; give the folder or the .zip of a run.")
    try:
        return Recipe.from_json(data.decode())
    except UnicodeDecodeError:
        raise RecipeError("The recipe is not text; give the recipe.json of a run.") from None


def read_problem(
    path: Path, recipe: Recipe, guide: str | None = None, resolution: int | None = None
) -> tuple[Problem | Guidance, Tensor | None]:
    """Read the problem, or a morph's guidance, and the cropped picture of a bundle whose recipe is already known.

    Sizes are checked before any data is built from them. Arguments and errors are those of `read_bundle`.
    """
    _check_resolution(recipe, resolution)
    try:
        if recipe.task == MORPH:
            return _read_morph(path, recipe, guide)
        return _read_problem(path, recipe)
    except PictureError as error:
        raise BundleError(f"The bundle has a picture that cannot be used: {error}") from None


def _read_problem(path: Path, recipe: Recipe) -> tuple[Problem, Tensor | None]:
    if "mask" in recipe.operator:
        raise RecipeError("The recipe's operator has a mask; a run keeps it in mask.png.")
    if recipe.task not in OPERATORS:
        raise BundleError(
            f"The run's task is {shown(recipe.task)}, which the studio does not know; give the file of its operator "
            "with --operator-module."
        )
    y = _measurement(path, recipe)
    image = _input(path, recipe, required=recipe.damaged_here)
    mask = _mask(path, recipe)
    settings = dict(recipe.operator)
    if mask is not None and _takes_mask(recipe.task):  # other operators recreate their mask
        settings["mask"] = mask
    try:
        operator = build(recipe.task, recipe.resolution, **settings)
        noise = None if recipe.noise is None else noise_model(recipe.noise)
        problem = Problem(operator, y, image if recipe.damaged_here else None, noise)
    except SettingsError as error:
        raise RecipeError(f"The recipe does not fit its files: {error}") from None
    except (TypeError, OverflowError) as error:
        raise RecipeError(f"The recipe has operator settings of a wrong type ({reason(error)}).") from None
    if recipe.mask_sha256 != (None if operator.mask is None else tensor_sha256(operator.mask)):
        raise BundleError("The mask does not belong to the recipe.")
    return problem, image


def _check_resolution(recipe: Recipe, resolution: int | None) -> None:
    """Raises `RecipeError` unless the recipe is for pictures of the generator's size."""
    entry = registry.BY_ID.get(recipe.model)
    known = resolution or (entry and entry.resolution)
    if known and recipe.resolution != known:
        raise RecipeError(
            f"The recipe is for pictures of {recipe.resolution} px, but {shown(recipe.model)} makes pictures of "
            f"{known} px; give the run as it was saved."
        )
    if recipe.resolution > LARGEST_RESOLUTION:
        raise RecipeError(
            f"The recipe is for pictures of {recipe.resolution} px; at most {LARGEST_RESOLUTION} px are read."
        )


def _measurement(path: Path, recipe: Recipe) -> Tensor:
    """y [1, …] in float32."""
    # Four times as many values as a picture has, to allow for user-defined operators.
    data = read_file(path, "measurement.safetensors", 4 * 12 * recipe.resolution**2 + LARGEST_HEADER)
    if data is None:
        raise BundleError(f"{path} holds no measurement.safetensors; give the folder or the .zip of a run.")
    y = read_tensors(data, "measurement.safetensors").get("y")
    if y is None or y.dtype != torch.float32 or tensor_sha256(y) != recipe.measurement_sha256:
        raise BundleError("measurement.safetensors does not belong to the recipe.")
    if y.ndim < 2 or len(y) != 1 or y.numel() == 0 or (y.ndim == 4 and max(y.shape[2:]) > recipe.resolution):
        raise BundleError(
            f"measurement.safetensors holds a measurement of shape {list(y.shape)}; one picture of at most "
            f"{recipe.resolution} px was expected."
        )
    return y


def _read_morph(path: Path, recipe: Recipe, guide: str | None) -> tuple[Guidance, Tensor | None]:
    """The guidance of a morph's recipe, and the photograph it started from, if any."""
    values = dict(recipe.operator)
    sha256, recorded = values.pop("classifier_sha256", None), values.pop("classifier", None)
    if values.keys() != set(GUIDANCE):
        raise RecipeError(
            f"The recipe's guidance has {named(values.keys())}; it must have {', '.join(GUIDANCE)}, the classifier and "
            "its hash."
        )
    if guide is None and recorded not in registry.ids("classifier"):
        raise BundleError(
            f"The run was guided by {shown(recorded)}, which the studio does not know; give its file with --classifier."
        )
    image = None if recipe.input_sha256 is None else _input(path, recipe, required=True)
    try:
        loaded = classifier.load(guide or str(recorded))
        guidance = Guidance(loaded, **values)
    except (TypeError, ClassifierError, SettingsError) as error:
        raise RecipeError(f"The recipe's guidance cannot be used ({error}).") from None
    if loaded.sha256 != sha256:
        raise BundleError(
            f"The run was made with other weights of the classifier {shown(recorded)} than {loaded.path.name} holds; "
            "give their file with --classifier."
        )
    return guidance, image


def _takes_mask(task: str) -> bool:
    return task in OPERATORS and OPERATORS[task].mask_setting() is not None


def _input(path: Path, recipe: Recipe, required: bool) -> Tensor | None:
    """Read the cropped picture, which may be smaller than the recipe's resolution unless it is required."""
    data = _read_png(path, "input.png", recipe.resolution)
    if data is None:
        if required:
            raise BundleError("input.png, which the recipe needs, is missing.")
        return None
    image = from_uint8(np.array(read_picture(data, recipe.resolution if required else 1, recipe.resolution))[None])
    if picture_sha256(image) != recipe.input_sha256:
        raise BundleError("input.png does not belong to the recipe.")
    return image


def _mask(path: Path, recipe: Recipe) -> Tensor | None:
    if recipe.mask_sha256 is None:
        return None
    data = _read_png(path, "mask.png", recipe.resolution)
    if data is None:
        raise BundleError("mask.png, which the recipe needs, is missing.")
    mask = read_mask(data, recipe.resolution)
    if tensor_sha256(mask) != recipe.mask_sha256:
        raise BundleError("mask.png does not belong to the recipe.")
    return mask


def png_limit(resolution: int) -> int:
    """Maximum file size of a picture in bytes, enough for pixels that cannot be compressed."""
    return 4 * resolution**2 + 2**16


def _read_png(path: Path, name: str, resolution: int) -> bytes | None:
    """Bytes of a PNG file, not decoded, or None. Raises `BundleError` if the file is not a PNG."""
    data = read_file(path, name, png_limit(resolution))
    if data is not None and not data.startswith(PNG):
        raise BundleError(f"{name} is not a PNG file; give the run as it was saved.")
    return data
