"""Reading JSON that comes from outside: of a limited size and depth, in a sentence what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

from ilo.settings import SettingsError
from ilo.text.words import reason

MOST_TEXT = 2**20  # characters; a recipe has a few thousand
MOST_LEVELS = 32  # of lists and objects in each other


def parse(text: str, what: str) -> Any:
    """The values of a JSON text.

    Args:
        text: at most 2²⁰ characters, at most 32 lists and objects in each other.
        what: what it is, to begin a sentence with.

    Raises:
        SettingsError: it is no JSON, too long or too deep, or has text that cannot be written into a file.
    """
    if len(text) > MOST_TEXT:
        raise SettingsError(f"{what} has {len(text):,} characters; at most {MOST_TEXT:,} are read.")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{what} is not JSON ({reason(error)}).") from None
    except ValueError:  # Python's own limit
        raise SettingsError(f"{what} has a number of too many digits.") from None
    except RecursionError:
        raise SettingsError(f"{what} is nested too deeply; {MOST_LEVELS} levels are read.") from None
    _check(values, what)
    return values


def _check(values: Any, what: str) -> None:
    level = [values]
    for _ in range(MOST_LEVELS + 1):
        _check_texts(level, what)
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise SettingsError(f"{what} is nested too deeply; {MOST_LEVELS} levels are read.")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _check_texts(values: list[Any], what: str) -> None:
    """Refuses halves of characters, such as "\\ud800"."""
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{what} has text that is not Unicode; take it as it was saved.") from None
