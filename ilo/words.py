"""Values from outside, as messages show them."""

from __future__ import annotations

from collections.abc import Iterable


def shown(value: object, most: int = 80) -> str:
    """A value from outside on one line, for a message.

    Args:
        value: anything that a visitor has sent or that a file holds.
        most: characters of the result; what is longer is cut and ends in "…".

    Returns:
        Its `repr`, in which control characters are escaped.
    """
    if isinstance(value, (str, bytes, bytearray)):
        value = value[:most]  # the quotes then make it longer than `most`, so it is marked as cut
    try:
        words = repr(value)
    except Exception:  # nested too deeply, or a number of too many digits
        words = f"a value of the type {type(value).__name__} that cannot be shown"
    return _line(words, most)


def listed(names: Iterable[object], most: int = 80) -> str:
    """Names from outside in one row, without quotes; otherwise as `shown`."""
    return _line(", ".join(str(name)[: most + 1] for name in names), most)


def _line(words: str, most: int) -> str:
    words = words if len(words) <= most else f"{words[: most - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
