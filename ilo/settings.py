"""Settings of a run: frozen, validated dataclasses.

An invalid value raises `SettingsError`; its message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ilo.text.words import shown

Schedule = Literal["ramp", "one-cycle"]
Covariance = Literal["full", "diagonal"]
Dtype = Literal["float32", "tf32", "bfloat16", "float16"]
Skip = Literal["carry", "drop"]
Scale = Literal["relative", "absolute"]
RangeFrom = Literal["layer", "latents"]
Engine = Literal["auto", "eager", "compiled"]

VERSION = "0.1.0"  # program version, recorded in every recipe
MAX_STEPS = 100_000
MOST_ROUNDS = 32  # more than any generator has layers
MOST_SCALES = 64
MOST_SAMPLES = 100_000
MOST_RADIUS = 10.0  # ρ; 1 lets a variable change by as much as it holds
LEAST_HIDDEN = 0.01  # ρ inside a hole, as a share of that elsewhere
LONGEST_NAME = 40
MORPH = "morph"  # the task without an operator: a classifier guides it


class SettingsError(ValueError):
    """A setting is not allowed; the message is meant for the user."""


def check_number(name: str, value: Any, low: float, high: float, hint: str = "") -> None:
    """Raises `SettingsError` unless `value` is a number in [low, high], not NaN, and small enough for a float."""
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not low <= number <= high:  # NaN fails too
        allowed = f"from {low:g} up" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise SettingsError(f"{name} must be a number {allowed}, not {shown(value)}. {hint}".strip())


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(f"{name} must be a whole number from {low:,} to {high:,}, not {shown(value)}.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SettingsError(f"{name} is {shown(value)}; allowed are {', '.join(choices)}.")


def check_name(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.isidentifier() or len(value) > LONGEST_NAME:
        raise SettingsError(f"{name} is {shown(value)}; allowed is a name of at most {LONGEST_NAME} letters.")


def named(names: Collection[object]) -> str:
    """Untrusted names for a message: the first three, odd ones escaped, and the number of the others."""
    first = heapq.nsmallest(3, names, key=str)
    plain = (isinstance(name, str) and name.isidentifier() and len(name) <= LONGEST_NAME for name in first)
    texts = [str(name) if simple else shown(name, LONGEST_NAME) for name, simple in zip(first, plain, strict=True)]
    more = len(names) - len(texts)
    return ", ".join(texts) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class RoundSettings:
    """One round: the search over the state that enters layer k (Algorithm 1, line 4).

    Radii ρ are relative: the l1 ball of a variable v has radius ρ·‖v‖₁ of its value at the round's start, so 0.25 lets
    it change by at most 25 %. (For pixels, whose zero is grey, it is ρ times their number.) `inf` switches the ball
    off, 0 freezes the variable. The features' learning rate is relative, too: in units of their mean absolute value at
    the start. So the same numbers suit every layer of every generator.
    """

    steps: int = 50  # projected Adam steps per search
    lr: float = 0.1  # peak learning rate
    radius_features: float = math.inf  # ρ of the ball around the features entering layer k (unused in round 0)
    radius_latents: float = math.inf  # ρ of the single ball around all latents in use
    radius_noise: float = math.inf  # ρ of the ball around each noise map
    outer_iterations: int = 1  # number of searches, with a range projection between them (Alg. 1, lines 3, 5–6)
    range_steps: int = 0  # steps per range projection; round 0 needs none, for it never leaves the range
    range_lr: float = 0.1  # peak learning rate of a range projection

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1, MAX_STEPS)
        for name in ("lr", "range_lr"):
            check_number(name, getattr(self, name), 1e-6, 10.0)
        for name in ("radius_features", "radius_latents", "radius_noise"):
            if getattr(self, name) != math.inf:
                check_number(name, getattr(self, name), 0.0, MOST_RADIUS, "1 is 100 %, and inf switches the ball off.")
        check_whole("outer_iterations", self.outer_iterations, 1, 100)
        check_whole("range_steps", self.range_steps, 0, MAX_STEPS)
        if self.outer_iterations > 1 and self.range_steps == 0:
            raise SettingsError(
                f"outer_iterations is {self.outer_iterations} and range_steps is 0; between two searches the result is "
                "projected to the generator's range, so give range_steps of at least 1."
            )

    def radius(self, ball: str) -> float:
        """ρ of the balls named "features", "latents" or "noise"."""
        return getattr(self, f"radius_{ball}")


@dataclass(frozen=True)
class LossWeights:
    """Objective = mse·‖A(G) − y‖²/N + perceptual·distance + geodesic·spread of latents + dead_zone·excess over 0.1."""

    mse: float = 1.0
    perceptual: float = 1.0
    geodesic: float = 0.0002
    dead_zone: float = 0.0

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check_number(f"The loss weight {f.name}", getattr(self, f.name), 0.0, 1e6)
        if self.mse == self.perceptual == self.dead_zone == 0:
            raise SettingsError("All data weights are 0; give mse, perceptual or dead_zone a weight above 0.")


@dataclass(frozen=True)
class SolverSettings:
    """Everything that determines a run apart from the problem and the generator."""

    rounds: tuple[RoundSettings, ...]
    method: str = "ilo"  # a name of ilo.methods; the solver does not look at it
    weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 0  # sample b of a batch starts from seed + b
    schedule: Schedule = "ramp"
    covariance: Covariance = "diagonal"  # covariance of the Gaussianised W
    noise_maps: int = 5  # number of noise maps optimised in round 0; each later round adds two
    sna: bool = True  # stochastic noise addition, used for denoising only
    skip: Skip = "carry"  # "drop" discards the RGB skip image between rounds, as earlier implementations did
    dtype: Dtype = "float32"
    first_layer: int = 0  # first layer to optimise; num_layers means the pixels
    radius_scales: tuple[float, ...] = ()  # per-sample multiplier on all radii; empty: 1
    radius_hidden: float = 1.0  # features' radius where a mask hides everything, as a share of that elsewhere
    samples: int = 1  # answers to each measurement, from as many starts, solved as one batch
    scale: Scale = "relative"  # of radii and of the features' learning rate; "absolute" is that of version 1's recipes
    range_from: RangeFrom = "layer"  # what a range projection searches: the round before's variables, or all latents

    def __post_init__(self) -> None:
        if not self.rounds:
            raise SettingsError("There are no rounds; give at least one.")
        if not isinstance(self.rounds, tuple) or not all(isinstance(plan, RoundSettings) for plan in self.rounds):
            raise SettingsError(f"rounds is {shown(self.rounds)}; give a tuple of RoundSettings.")
        _check_count("rounds", len(self.rounds), MOST_ROUNDS)
        if not isinstance(self.weights, LossWeights):
            raise SettingsError(f"weights is {shown(self.weights)}; give LossWeights.")
        if not isinstance(self.sna, bool):
            raise SettingsError(f"sna is {shown(self.sna)}; allowed are True and False.")
        check_name("method", self.method)
        check_whole("seed", self.seed, 0, 2**31 - 1)
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_choice("covariance", self.covariance, get_args(Covariance))
        check_whole("noise_maps", self.noise_maps, 0, 18)
        check_choice("skip", self.skip, get_args(Skip))
        check_choice("dtype", self.dtype, get_args(Dtype))
        check_whole("first_layer", self.first_layer, 0, 16)
        check_number("radius_hidden", self.radius_hidden, LEAST_HIDDEN, 1.0)
        check_whole("samples", self.samples, 1, MOST_SAMPLES)
        check_choice("scale", self.scale, get_args(Scale))
        check_choice("range_from", self.range_from, get_args(RangeFrom))
        if not isinstance(self.radius_scales, (list, tuple)):
            raise SettingsError(f"radius_scales is {shown(self.radius_scales)}; give a list of numbers.")
        _check_count("scales of the radii", len(self.radius_scales), MOST_SCALES)
        object.__setattr__(self, "radius_scales", tuple(self.radius_scales))
        for scale in self.radius_scales:
            check_number("A scale of the radii", scale, 0.0, 1e6)

    @property
    def steps_of_rounds(self) -> tuple[int, ...]:
        """Number of optimisation steps of each round, including range projections, which round 0 does not have."""
        return tuple(
            plan.outer_iterations * plan.steps + (plan.outer_iterations - 1) * plan.range_steps * (k > 0)
            for k, plan in enumerate(self.rounds, self.first_layer)
        )

    @property
    def total_steps(self) -> int:
        return sum(self.steps_of_rounds)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types; infinite radii become the string "inf"."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SolverSettings:
        """Inverse of `to_dict`. Raises `SettingsError` for unknown names and values that are not allowed."""
        if not isinstance(values, dict):
            raise SettingsError("The settings are not a JSON object; copy the settings of a recipe.json.")
        values = dict(values)
        rounds = values.pop("rounds", None)
        if not isinstance(rounds, (list, tuple)):
            raise SettingsError("The settings have no list of rounds; copy the settings of a recipe.json.")
        _check_count("rounds", len(rounds), MOST_ROUNDS)  # checked before they are built
        values["rounds"] = tuple(_build(RoundSettings, r) for r in rounds)
        values["weights"] = _build(LossWeights, values.get("weights", {}))
        return _build(cls, values)


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise SettingsError(f"There are {count:,} {what}; allowed are {most:,}.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _build(cls: Any, values: Any) -> Any:
    if not isinstance(values, dict):
        raise SettingsError(f"{cls.__name__} is {shown(values)}; a JSON object is needed.")
    unknown = values.keys() - {f.name for f in dataclasses.fields(cls)}
    if unknown:
        raise SettingsError(f"{cls.__name__} does not know {named(unknown)}.")
    return cls(**{k: math.inf if v == "inf" else v for k, v in values.items()})
