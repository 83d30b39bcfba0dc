"""What people type and slide, as numbers; what is none becomes a sentence."""

from __future__ import annotations

import math
from typing import Any

from ilo.settings import SettingsError
from ilo.text.words import shown


def number(name: str, value: Any) -> float:
    """A finite number, or a sentence."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SettingsError(f"{name} is empty or no number; type one.")
    return float(value)


def typed(name: str, value: Any) -> float | None:
    """A number that was typed as text; None for nothing, or a sentence."""
    words = str(value or "").strip().replace(",", ".")
    try:
        return number(name, float(words)) if words else None
    except ValueError:
        raise SettingsError(f"{name} is {shown(words)}; type a number, or nothing.") from None


def whole(name: str, value: Any) -> int:
    """A whole number, or a sentence."""
    value = number(name, value)
    if value != int(value):
        raise SettingsError(f"{name} is {value:g}; a whole number is needed.")
    return int(value)
