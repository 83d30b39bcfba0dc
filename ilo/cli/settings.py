"""The solver settings that the options of the command line describe.

This module does not import torch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilo.methods import morph_preset, preset
from ilo.records.versions import present
from ilo.settings import RoundSettings, SettingsError, SolverSettings, check_number
from ilo.text import jsontext
from ilo.text.words import reason

if TYPE_CHECKING:
    from ilo.priors.base import Prior
    from ilo.problem import Problem

RADII = ("radius_features", "radius_latents", "radius_noise")
_RANGE = ("outer_iterations", "range_steps", "range_lr")  # of each round from round 1 on
_SOLVER_OPTIONS = (
    "method",
    "preset",
    "steps",
    *RADII,
    *_RANGE,
    "range_from",
    "radius_hidden",
    "samples",
    "sna",
    "weights",
)


def dashed(name: str) -> str:
    """A name as it is written in an option."""
    return name.replace("_", "-")


def morph_settings(options: argparse.Namespace, layers: int) -> SolverSettings:
    """The settings of a guided run from the options. Raises `SettingsError`."""
    if options.samples is not None:
        raise SettingsError("A morph has no --samples; leave it out, and repeat the morph with another --seed.")
    if options.settings is not None:
        _check_settings_alone(options, "reach")
        settings = _with_seed(_read_settings(options.settings), options)
        if settings.samples > 1:
            raise SettingsError(f"--settings asks for {settings.samples:,} samples; a morph has one.")
        return settings
    given = [
        name for name in _SOLVER_OPTIONS if name not in ("method", "preset") and getattr(options, name) is not None
    ]
    if given:
        raise SettingsError(f"A morph has no {_option(given[0])}; use --reach to scale its radii.")
    reach = 1.0 if options.reach is None else options.reach
    check_number("reach", reach, 0.0, 1e3)
    settings = morph_preset(options.preset or "Quick", options.method or "ilo", layers=layers, reach=reach)
    return _with_seed(settings, options)


def solver_settings(
    options: argparse.Namespace, problem: Problem | None = None, prior: Prior | None = None
) -> SolverSettings:
    """The solver settings from the options, with a preset for the problem and the prior.

    Without these two, which take time to make, only to check the options. Raises `SettingsError`.
    """
    if options.settings is None:
        return _with_seed(_built_settings(options, problem, prior), options)
    _check_settings_alone(options)
    return _with_seed(_read_settings(options.settings), options)


def _check_settings_alone(options: argparse.Namespace, *more: str) -> None:
    given = [name for name in (*_SOLVER_OPTIONS, *more) if getattr(options, name) is not None]
    if given:
        raise SettingsError(f"--settings and {_option(given[0])} cannot be used together; leave out one of the two.")


def _with_seed(settings: SolverSettings, options: argparse.Namespace) -> SolverSettings:
    """The settings with --seed and --dtype, which may be combined with --settings."""
    if options.seed is not None:
        settings = replace(settings, seed=options.seed)
    return settings if options.dtype is None else replace(settings, dtype=options.dtype)


def _option(name: str) -> str:
    """The option that gives a setting."""
    return "--no-sna" if name == "sna" else f"--{dashed(name)}"


def _built_settings(options: argparse.Namespace, problem: Problem | None, prior: Prior | None) -> SolverSettings:
    operator, noise = (None, None) if problem is None else (problem.operator, problem.noise)
    name, method = options.preset or "Quick", options.method or "ilo"
    settings = preset(name, method, operator=operator, noise=noise, prior=prior)
    if options.steps is not None and options.preset is not None:
        raise SettingsError("--preset and --steps cannot be used together; leave out one of the two.")
    rounds = _with_steps(settings, options.steps) if options.steps else settings.rounds
    for name in RADII:
        values = getattr(options, name)
        if values is not None:
            rounds = _with_values(rounds, name, values)
    changes = {name: getattr(options, name) for name in _RANGE if getattr(options, name) is not None}
    if changes:
        _check_later_rounds(rounds, *changes)
        rounds = (rounds[0], *(replace(plan, **changes) for plan in rounds[1:]))
    weights = replace(settings.weights, **options.weights) if options.weights else settings.weights
    given = {name: getattr(options, name) for name in ("range_from", "radius_hidden", "samples", "sna")}
    further = {name: value for name, value in given.items() if value is not None}
    return replace(settings, rounds=rounds, weights=weights, **further)


def _with_steps(settings: SolverSettings, steps: list[int]) -> tuple[RoundSettings, ...]:
    if settings.method != "ilo":
        return (replace(settings.rounds[0], steps=sum(steps)),)
    last = len(settings.rounds) - 1  # further rounds are like the preset's last round
    return tuple(replace(settings.rounds[min(k, last)], steps=n) for k, n in enumerate(steps))


def _with_values(rounds: tuple[RoundSettings, ...], name: str, values: list[float]) -> tuple[RoundSettings, ...]:
    _check_later_rounds(rounds, name)
    later = len(rounds) - 1
    if len(values) not in (1, later):
        raise SettingsError(f"{_option(name)} has {len(values)} values; give one, or {later} for rounds 1 to {later}.")
    values = values * later if len(values) == 1 else values
    changes: list[dict[str, Any]] = [{name: value} for value in values]
    return (rounds[0], *(replace(plan, **c) for plan, c in zip(rounds[1:], changes, strict=True)))


def _check_later_rounds(rounds: tuple[RoundSettings, ...], name: str, *_: str) -> None:
    if len(rounds) == 1:
        raise SettingsError(f"{_option(name)} applies from round 1 on, but this run has only round 0.")


def _read_settings(text: str) -> SolverSettings:
    if not text.lstrip().startswith("{"):
        try:
            with Path(text).open() as file:
                text = file.read(jsontext.MOST_TEXT + 1)
        except UnicodeDecodeError:
            raise SettingsError(f"--settings: {text} is not a text file; give a recipe.json.") from None
        except OSError as error:
            raise SettingsError(f"--settings: {text} cannot be read ({error.strerror}).") from None
    values = jsontext.parse(text, "--settings")
    if isinstance(values, dict) and "settings" in values:  # a recipe, perhaps of an earlier version
        values = present(values)["settings"]
    try:
        return SolverSettings.from_dict(values)
    except (TypeError, OverflowError) as error:
        raise SettingsError(
            f"--settings does not contain solver settings ({reason(error)}); give a recipe.json."
        ) from None
