"""Recipes of earlier versions in the terms of the present one. This module does not import torch."""

from __future__ import annotations

from typing import Any

from ilo.settings import MOST_RADIUS, SettingsError
from ilo.text.words import shown

VERSION = 2  # 1 had absolute radii


def present(recipe: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, read from JSON, in the terms of the present version.

    Raises:
        SettingsError: the recipe has another version.
    """
    version = recipe.get("version", VERSION)
    if isinstance(version, bool) or version not in (1, VERSION):
        raise SettingsError(f"The recipe has version {shown(version)}; this program reads versions 1 to {VERSION}.")
    if version == VERSION:
        return recipe
    settings = recipe.get("settings")
    return {
        **recipe,
        "version": VERSION,
        "settings": of_version_1(settings) if isinstance(settings, dict) else settings,
    }


def of_version_1(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of version 1, read from JSON, in the present terms.

    Radii were per element and not relative, learning rates absolute, and a range projection searched all latents with
    the learning rate of its round.
    """
    rounds = settings.get("rounds")
    if isinstance(rounds, list):
        rounds = [_round_of_version_1(plan) if isinstance(plan, dict) else plan for plan in rounds]
    return {**settings, "rounds": rounds, "scale": "absolute", "range_from": "latents"}


def _round_of_version_1(plan: dict[str, Any]) -> dict[str, Any]:
    """A round, whose radii could be any number; beyond the present limit none ever bound."""
    large = [name for name, value in plan.items() if name.startswith("radius_") and _is_large(value)]
    same = {"range_lr": plan["lr"]} if "lr" in plan else {}
    return {**plan, **same, **dict.fromkeys(large, "inf")}


def _is_large(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > MOST_RADIUS
