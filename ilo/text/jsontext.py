"""Parsing untrusted JSON: size and depth are limited, and errors are one sentence for the user."""

from __future__ import annotations

import json
from typing import Any

from ilo.settings import SettingsError
from ilo.text.words import reason

MOST_TEXT = 2**20  # characters; a recipe has a few thousand
MOST_LEVELS = 32  # nesting depth of lists and objects


def parse(text: str, what: str) -> Any:
    """Parse a JSON text.

    Args:
        text: at most 2²⁰ characters, with lists and objects nested at most 32 deep.
        what: name of the text, which begins the error message.

    Raises:
        SettingsError: the text is not JSON, too long or nested too deeply, or has strings that are not valid Unicode.
    """
    if len(text) > MOST_TEXT:
        raise SettingsError(f"{what} has {len(text):,} characters; at most {MOST_TEXT:,} are read.")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{what} is not JSON ({reason(error)}).") from None
    except ValueError:  # Python limits the digits of an integer
        raise SettingsError(f"{what} has a number with too many digits.") from None
    except RecursionError:
        raise SettingsError(f"{what} is nested too deeply; at most {MOST_LEVELS} levels are read.") from None
    _check(values, what)
    return values


def _check(values: Any, what: str) -> None:
    level = [values]
    for _ in range(MOST_LEVELS + 1):
        _check_texts(level, what)
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise SettingsError(f"{what} is nested too deeply; at most {MOST_LEVELS} levels are read.")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _check_texts(values: list[Any], what: str) -> None:
    """Raises `SettingsError` for lone surrogates such as "\\ud800"."""
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{what} has text that is not valid Unicode; use it as it was saved.") from None
