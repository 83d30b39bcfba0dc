"""Parsers for the values of options; each raises `ArgumentTypeError` with a message for the user."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from ilo.settings import LEAST_HIDDEN, MOST_RADIUS, LossWeights


def numbers(count: int | None = None) -> Callable[[str], list[float]]:
    def parse(text: str) -> list[float]:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not values or (count and len(values) != count):
            wanted = f"{count} numbers" if count else "numbers"
            raise argparse.ArgumentTypeError(f"{text!r}: give {wanted} separated by commas")
        return values

    return parse


def percents(text: str) -> list[float]:
    """Percentages from 0 to 1,000, as shares; inf stays as it is."""
    try:
        values = [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give percentages separated by commas, such as 25,20") from None
    most = 100 * MOST_RADIUS
    for value in values:
        if not (0 <= value <= most or value == math.inf):  # NaN fails too
            raise argparse.ArgumentTypeError(f"{text!r}: a percentage is from 0 to {most:,.0f}, or inf, not {value:g}")
    return [value / 100 for value in values]


def share(text: str) -> float:
    """A percentage from 1 to 100, as a share."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 100 * LEAST_HIDDEN <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: give one percentage from {100 * LEAST_HIDDEN:g} to 100")
    return value / 100


def whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers separated by commas") from None


def weights(text: str) -> dict[str, float]:
    weights = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip().replace("-", "_")
        try:
            weights[name] = float(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: give weights such as mse=1,geodesic=0.01") from None
        if name not in LossWeights.__dataclass_fields__:
            known = ", ".join(LossWeights.__dataclass_fields__)
            raise argparse.ArgumentTypeError(f"there is no weight {name!r}; the weights are {known}")
    return weights


def noise(text: str) -> dict[str, Any]:
    name, equals, sigma = text.partition("=")
    if not equals:
        return {"name": name}
    try:
        return {"name": name, "sigma": float(sigma)}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give a noise model and its σ, such as gaussian=10") from None


def class_(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a class, or a class and its weight, such as goldfish=2"
        ) from None
