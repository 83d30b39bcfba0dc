"""A saved run that a visitor opens again: the download of a run (.zip), or its recipe (.json) alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ilo.operators import OPERATORS
from ilo.photos.pictures import PictureError, read_picture
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records.archive import BundleError, read_file
from ilo.records.bundle import LARGEST_RECIPE, png_limit, read_problem, read_recipe
from ilo.records.recipe import Recipe, Shared
from ilo.settings import MORPH, SettingsError
from ilo.text.words import shown
from ilo.ui import text
from ilo.ui.parts import plots, views

JSON = ".json"


@dataclass(frozen=True)
class Opened:
    """What a file of a run contains.

    Args:
        recipe: recipe of the run.
        image: cropped picture [1, 3, …] in [−1, 1]; None if the file has none.
        mask: the mask that was painted, [1, 1, R, R] with 1 = observed; None if there was none.
        result: the saved result, uint8 [R, R, 3]; None if the file has none.
    """

    recipe: Recipe
    image: Tensor | None = None
    mask: Tensor | None = None
    result: np.ndarray | None = None

    @property
    def shared(self) -> Shared:
        """The task and the settings."""
        recipe = self.recipe
        return Shared(recipe.model, recipe.task, recipe.operator, recipe.settings, recipe.measurement_seed)


def read(path: Path, model: Model) -> Opened:
    """Read the file of a run that belongs to a model. Nothing in it is executed, and all sizes are limited.

    Raises:
        SettingsError: the file is not that of a run, is damaged, or its run cannot be shown here.
    """
    try:
        return _read(path, model)
    except (BundleError, PictureError) as error:
        raise SettingsError(str(error).replace(f"{path.parent}/", "")) from None


def _read(path: Path, model: Model) -> Opened:
    if path.suffix.lower() == JSON:
        data = read_file(path.parent, path.name, LARGEST_RECIPE)
        try:
            recipe = Recipe.from_json((data or b"").decode())
        except UnicodeDecodeError:
            raise SettingsError(f"{path.name} is not text; give the recipe.json of a run.") from None
        _check(recipe, model)
        return Opened(recipe)
    recipe = read_recipe(path)
    _check(recipe, model)
    problem, image = read_problem(path, recipe, resolution=model.resolution)
    assert isinstance(problem, Problem)
    painted = OPERATORS[recipe.task].mask_setting() is not None
    saved = read_file(path, "result.png", png_limit(recipe.resolution))
    result = None if saved is None else np.asarray(read_picture(saved, recipe.resolution, recipe.resolution))
    return Opened(recipe, image, problem.operator.mask if painted else None, result)


def opened_panel(run: Opened) -> str:
    """The right column after a run was opened, with the saved result."""
    if run.result is None:
        return views.panel(text.OPENED, text.OPENED_HELP)
    saved = plots.strip([(text.SAVED_RESULT, run.result, text.SAVED_RESULT)])
    return views.panel(text.OPENED, text.OPENED_HELP, views.section(text.SAVED_RESULT, saved))


def _check(recipe: Recipe, model: Model) -> None:
    """Raises `SettingsError` if the run is not one of the Studio tab with this model."""
    if recipe.task == MORPH:
        raise SettingsError("The file is that of a morph; the Studio tab opens runs that solve a task.")
    if recipe.model != model.id:
        raise SettingsError(f"The run used the model {shown(recipe.model)}; open it on the page of that model.")
    if recipe.noise is not None or recipe.settings.samples > 1:
        raise SettingsError("The run has noise of its own or several answers, which only the command line can repeat.")
