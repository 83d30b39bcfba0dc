"""Read numbers from the page's fields; anything else raises `SettingsError` with a sentence for the user."""

from __future__ import annotations

import math
from typing import Any

from ilo.settings import SettingsError
from ilo.text.words import shown


def number(name: str, value: Any) -> float:
    """A finite number; raises `SettingsError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SettingsError(f"{name} is empty or not a number; enter a number.")
    return float(value)


def typed(name: str, value: Any) -> float | None:
    """A number typed as text; None for an empty field; raises `SettingsError` otherwise."""
    words = str(value or "").strip().replace(",", ".")
    try:
        return number(name, float(words)) if words else None
    except ValueError:
        raise SettingsError(f"{name} must be a number or empty, not {shown(words)}.") from None


def whole(name: str, value: Any) -> int:
    """A whole number; raises `SettingsError` otherwise."""
    value = number(name, value)
    if value != int(value):
        raise SettingsError(f"{name} must be a whole number, not {value:g}.")
    return int(value)
