"""Recipes: all that is needed to replay a run, as JSON, and the part that can be shared as a URL query."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from torch import Tensor

from ilo.engine import engine
from ilo.guidance import Guidance
from ilo.methods import METHODS, MORPH_METHODS, preset, preset_of
from ilo.morph import inversion
from ilo.operators import OPERATORS, nominal
from ilo.operators.base import MAX_SEED
from ilo.operators.noise import noise_model
from ilo.perceptual.base import Perceptual
from ilo.priors.base import Prior
from ilo.problem import Problem
from ilo.records.versions import VERSION, of_version_1, present
from ilo.settings import (
    MORPH,
    LossWeights,
    RoundSettings,
    SettingsError,
    SolverSettings,
    check_whole,
    named,
)
from ilo.state import to_uint8
from ilo.text import jsontext
from ilo.text.words import reason, shown

MAX_QUERY = 20_000  # characters
LONGEST_NAME = 200  # characters of a model's name, and of each fact about the machine
MOST_RECORDED = 50  # maximum number of facts about the machine

# The entries of `ilo.engine.engine.description`, in words.
_ENGINE_NAMES = {
    "engine": "The engine",
    "device": "The device",
    "processor": "The processor",
    "machine": "The machine type",
    "threads": "The number of threads",
    "python": "The version of Python",
    "cuda": "The version of CUDA",
    "cudnn": "The version of cuDNN",
    "driver": "The version of the GPU's driver",
    "deterministic": "The use of deterministic kernels",
}


class RecipeError(SettingsError):
    """A recipe cannot be read or used; the message is meant for the user."""


@dataclass(frozen=True)
class Recipe:
    """Model, problem and settings of one run. The same recipe on the same machine gives the same pixels.

    Raises:
        RecipeError: a field has a wrong type, or a value is not allowed.
    """

    model: str  # registry id or name of the generator
    model_sha256: str  # SHA-256 of the weights file
    resolution: int  # side R of the pictures in pixels
    task: str  # name of the operator, or "morph"
    operator: dict[str, Any]  # settings of the operator without the mask; of `Guidance` for a morph
    settings: SolverSettings
    measurement_seed: int  # random seed of the measurement's noise
    damaged_here: bool  # False: the upload was already the measurement, so the truth is not known
    input_sha256: str | None  # hash of the cropped picture, or of y if there was none; None: a morph without photograph
    measurement_sha256: str | None  # hash of y; None for a morph
    mask_sha256: str | None  # hash of the operator's mask
    perceptual: str | None  # name of the perceptual distance; None: switched off, or not usable for the task
    engine: dict[str, str | int]  # ilo.engine.engine.description(device, engine)
    stopped_at: int | None = None  # number of steps after which the run was stopped
    version: int = VERSION
    noise: dict[str, Any] | None = None  # name and settings of the noise model; None: the operator's own

    def __post_init__(self) -> None:
        if self.version != VERSION or isinstance(self.version, bool):
            raise RecipeError(f"The recipe has version {shown(self.version)}; this program reads version {VERSION}.")
        _check_types(self)
        check_whole("resolution", self.resolution, 2, 4096)
        check_whole("measurement_seed", self.measurement_seed, 0, MAX_SEED)
        if self.task == MORPH and self.settings.samples > 1:
            raise RecipeError(f"The recipe has {self.settings.samples:,} samples; a morph has one.")
        if self.stopped_at is not None:
            check_whole("stopped_at", self.stopped_at, 0, self._steps)
        if self.noise is not None:
            noise_model(self.noise)
        # Convert tuples to lists, so that a recipe equals its copy read from JSON.
        object.__setattr__(self, "operator", _json_plain(self.operator))

    @property
    def _steps(self) -> int:
        """Number of steps of the run, including the inversion of a morph's photograph."""
        inverted = self.task == MORPH and self.input_sha256 is not None
        return self.settings.total_steps + (inversion(self.settings).total_steps if inverted else 0)

    def to_json(self) -> str:
        """The recipe as readable JSON, one line per field; `from_json` is the exact inverse."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["settings"] = self.settings.to_dict()
        if self.noise is None:  # as in recipes of versions without noise models
            del values["noise"]
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Parse a recipe. Raises `RecipeError` if the text is not a recipe, or fields are wrong, unknown or missing."""
        values = _parse(text, "The recipe")
        fields = dataclasses.fields(cls)
        unknown = values.keys() - {f.name for f in fields}
        missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values]
        if values.get("version", VERSION) in (1, VERSION) and (unknown or missing):
            what = f"does not know {named(unknown)}" if unknown else f"lacks {', '.join(missing)}"
            raise RecipeError(f"The recipe {what}; give the recipe.json of a run.")
        values = {f.name: values[f.name] for f in fields if f.name in values}
        try:
            values = present(values)
            values["settings"] = SolverSettings.from_dict(values.get("settings", {}))
            return cls(**values)
        except (TypeError, OverflowError) as error:
            raise RecipeError(f"The recipe has values of a wrong type ({reason(error)}).") from None
        except SettingsError as error:
            raise RecipeError(str(error)) from None

    def to_query(self, prior: Prior | None = None) -> str:
        """URL query that fills in the task and the settings; it never contains a picture. See `Shared.to_query`.

        Raises:
            RecipeError: the run is a morph, or its measurement used a noise model other than the operator's own.
        """
        if self.noise is not None:
            raise RecipeError("A measurement with its own noise model has no link; share its recipe.json.")
        if self.task == MORPH:
            raise RecipeError("A morph has no link; share its recipe.json.")
        return Shared(self.model, self.task, self.operator, self.settings, self.measurement_seed).to_query(prior)


@dataclass(frozen=True)
class Shared:
    """The part of a recipe that fits into a link: all but pictures, masks and facts about the machine."""

    model: str
    task: str
    operator: dict[str, Any]
    settings: SolverSettings
    measurement_seed: int = 0

    def to_query(self, prior: Prior | None = None) -> str:
        """URL query without the question mark; `from_query` with the same prior is the exact inverse.

        With the prior, a preset's settings become its name.
        """
        query = {"model": self.model, "task": self.task}
        if self.operator:
            query["operator"] = _compact(self.operator)
        named = None
        if prior is not None:
            operator = nominal(self.task, prior.resolution, self.operator)
            named = preset_of(self.settings, operator=operator, prior=prior)
        if named:
            query |= {"method": self.settings.method, "preset": named, "seed": str(self.settings.seed)}
        else:
            query |= {"v": str(VERSION), "settings": _compact(without_defaults(self.settings))}
        if self.measurement_seed:
            query["measurement_seed"] = str(self.measurement_seed)
        return urlencode(query)

    @classmethod
    def from_query(cls, query: str | Mapping[str, str], prior: Prior) -> Shared:
        """Parse a link. Names that do not belong to a recipe are ignored.

        Args:
            query: part of a URL after the question mark, or its names and values.
            prior: the generator, for a link that names a preset instead of settings.

        Raises:
            RecipeError: the task is missing, or a value is not allowed.
        """
        if isinstance(query, str):
            if len(query) > MAX_QUERY:
                raise RecipeError(f"The link has {len(query):,} characters; at most {MAX_QUERY:,} are read.")
            query = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
        if any(len(value) > MAX_QUERY for value in query.values()):
            raise RecipeError(f"The link has values with more than {MAX_QUERY:,} characters, which are not read.")
        task = query.get("task", "")
        if task not in OPERATORS:
            raise RecipeError(f"The link's task is {shown(task)}; allowed are {', '.join(OPERATORS)}.")
        operator = _parse(query.get("operator", "{}"), "The link's operator")
        unknown = operator.keys() - {setting.name for setting in OPERATORS[task].declared if setting.kind != "mask"}
        if unknown:
            raise RecipeError(f"{OPERATORS[task].title} does not know the setting {named(unknown)} of the link.")
        try:
            seed = _whole(query.get("measurement_seed", "0"), "measurement_seed")
            settings = _shared_settings(query, task, operator, prior)
            return cls(query.get("model", prior.id), task, operator, settings, seed)
        except (TypeError, OverflowError) as error:
            raise RecipeError(f"The link has values of a wrong type ({reason(error)}).") from None
        except SettingsError as error:
            raise RecipeError(str(error)) from None


def make_recipe(
    model: Prior,
    problem: Problem | Guidance,
    settings: SolverSettings,
    *,
    damaged_here: bool,
    measurement_seed: int,
    input_image: Tensor | None,
    perceptual: Perceptual | None,
) -> Recipe:
    """Make the recipe of a run before it starts.

    Args:
        model, problem, settings: arguments of `ilo.solve`; the problem has one picture.
        damaged_here: whether y was measured from `input_image` rather than uploaded.
        measurement_seed: random seed of that measurement.
        input_image: cropped picture [1, 3, …] in [−1, 1]; None if only y is known.
        perceptual: perceptual distance given to `ilo.solve`; recorded only if the run uses it.
    """
    given = None if input_image is None else picture_sha256(input_image)
    if isinstance(problem, Guidance):
        what: dict[str, Any] = {
            "task": MORPH,
            "operator": problem.settings(),
            "input_sha256": given,
            "measurement_sha256": None,
            "mask_sha256": None,
        }
        perceptual = None
    else:
        if not settings.weights.perceptual or not problem.operator.compares_features:
            perceptual = None
        operator, y = problem.operator, tensor_sha256(problem.y)
        what = {
            "task": operator.name,
            "operator": operator.settings(),
            "input_sha256": given or y,
            "measurement_sha256": y,
            "mask_sha256": None if operator.mask is None else tensor_sha256(operator.mask),
            "noise": None if problem.noise is None else problem.noise.settings(),
        }
    return Recipe(
        model=model.id,
        model_sha256=model.sha256,
        resolution=model.resolution,
        settings=settings,
        measurement_seed=measurement_seed,
        damaged_here=damaged_here,
        perceptual=None if perceptual is None else perceptual.name,
        engine=engine.description(model.device, model.engine),
        **what,
    )


def differences(recorded: Mapping[str, str | int], now: Mapping[str, str | int]) -> list[str]:
    """Sentences on all facts about software and machine that have changed since a recipe was made."""
    return [
        f"{_ENGINE_NAMES.get(name, f'The version of {named([name])}')} "
        f"was {_plain(recorded.get(name, 'not recorded'))} and is {_plain(now.get(name, 'not known'))} now."
        for name in dict.fromkeys([*recorded, *now])
        if recorded.get(name) != now.get(name)
    ]


def _plain(value: str | int) -> str:
    """A recorded fact for a message, quoted only if it has unusual characters."""
    text = str(value)
    return text if text.isprintable() and len(text) <= 80 else shown(value)


def picture_sha256(image: Tensor) -> str:
    """SHA-256 of the shape and the uint8 pixels of a picture [B, 3, H, W] in [−1, 1]."""
    pixels = to_uint8(image)
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def tensor_sha256(values: Tensor) -> str:
    """SHA-256 of the shape and the float32 values of a tensor."""
    array = values.detach().cpu().float().contiguous().numpy()
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(array.data)
    return digest.hexdigest()


def _check_types(recipe: Recipe) -> None:
    text: tuple[type, ...] = (str,)
    maybe: tuple[type, ...] = (str, type(None))
    wanted: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("model", "model_sha256", "task"), text),
        **dict.fromkeys(("input_sha256", "measurement_sha256", "mask_sha256", "perceptual"), maybe),
        "operator": (dict,),
        "settings": (SolverSettings,),
        "damaged_here": (bool,),
        "engine": (dict,),
        "stopped_at": (int, type(None)),
    }
    for name, kinds in wanted.items():
        value = getattr(recipe, name)
        if not isinstance(value, kinds):
            allowed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise RecipeError(f"The recipe's {name} is {shown(value)}; it must be {allowed}.")
    if len(recipe.model) > LONGEST_NAME:
        raise RecipeError(f"The recipe's model is {shown(recipe.model)}; at most {LONGEST_NAME} characters are read.")
    known = tuple(METHODS | MORPH_METHODS)
    if recipe.settings.method not in known:
        raise RecipeError(f"The recipe's method is {shown(recipe.settings.method)}; known are {', '.join(known)}.")
    _check_engine(recipe.engine)


def _check_engine(recorded: dict[str, Any]) -> None:
    if len(recorded) > MOST_RECORDED:
        raise RecipeError(f"The recipe's engine has {len(recorded):,} entries; at most {MOST_RECORDED} are read.")
    for name, value in recorded.items():
        sound = isinstance(value, str) and len(value) <= LONGEST_NAME
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        if not sound and not whole:
            raise RecipeError(
                f"The recipe's engine has {named([name])} of {shown(value)}; it must be a short text or a whole number."
            )


def _json_plain(values: Any) -> Any:
    try:
        return json.loads(json.dumps(values, allow_nan=False))
    except ValueError:
        raise RecipeError("The operator's settings have numbers that are not finite (NaN or inf).") from None
    except (TypeError, RecursionError) as error:
        raise RecipeError(f"The operator's settings cannot be written as JSON ({reason(error)}).") from None


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        values = jsontext.parse(text, what)
    except SettingsError as error:
        raise RecipeError(f"{error} Copy it again.") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{what} is not a JSON object; copy it again.")
    return values


def _compact(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def without_defaults(settings: SolverSettings) -> dict[str, Any]:
    """`SolverSettings.to_dict` without the values that `from_dict` fills in by default."""
    values = settings.to_dict()
    short = _changed(values, SolverSettings(rounds=settings.rounds).to_dict())
    short["rounds"] = [
        _changed(r, SolverSettings(rounds=(RoundSettings(),)).to_dict()["rounds"][0]) for r in values["rounds"]
    ]
    if settings.weights != LossWeights():
        short["weights"] = values["weights"]
    return short


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != defaults[name]}


def _shared_settings(query: Mapping[str, str], task: str, operator: dict[str, Any], prior: Prior) -> SolverSettings:
    if "settings" in query:
        settings = _parse(query["settings"], "The link's settings")
        if "v" not in query:  # as in links of version 1
            settings = of_version_1(settings)
        elif query["v"] != str(VERSION):
            raise RecipeError(f"The link has version {shown(query['v'], 40)}; this program reads version {VERSION}.")
        return SolverSettings.from_dict(settings)
    name, method, seed = (
        query.get("preset", "Quick"),
        query.get("method", "ilo"),
        _whole(query.get("seed", "0"), "seed"),
    )
    return preset(name, method, seed=seed, operator=nominal(task, prior.resolution, operator), prior=prior)


def _whole(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise RecipeError(f"The link's {name} is {shown(text, 40)}; allowed is a whole number from 0 to {MAX_SEED}.")
    value = int(text)
    check_whole(name, value, 0, MAX_SEED)
    return value
