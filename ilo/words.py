"""Putting what came from outside into a sentence."""

from __future__ import annotations

import reprlib

MOST = 80  # characters of a value that a message repeats


def shown(value: object, most: int = MOST) -> str:
    """A value from a file or a visitor, fit to be printed.

    Text is quoted, its control characters are escaped, and what is too long is cut; a huge value is never written out
    in full first.
    """
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = most
    short.maxlevel = 3
    if isinstance(value, str):
        value = value[: most + 1]
    text = short.repr(value)
    return text if len(text) <= most + 2 else f"{text[: most - 1]}…"
