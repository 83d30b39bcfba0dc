"""Formatting untrusted values for messages."""

from __future__ import annotations

import numbers
import reprlib
from pathlib import PurePath


class _Short(reprlib.Repr):
    """A repr that shows the first few items and cuts long values before formatting them."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 4000 else "<a number of very many digits>"

    def repr_instance(self, x: object, level: int) -> str:
        if isinstance(x, (bytes, bytearray)):
            return repr(bytes(x[: self.maxstring]))
        return repr(x) if x is None or isinstance(x, (numbers.Number, PurePath)) else f"<{type(x).__name__}>"


def shown(value: object, most: int = 80) -> str:
    """`repr` of an untrusted value, cut to `most` characters, with control characters escaped."""
    short = _Short()
    short.maxlevel, short.maxstring = 3, 2 * most
    text = repr(value[:most]) if isinstance(value, str) else short.repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def reason(error: BaseException) -> str:
    """An error's message as one short line."""
    return shown(" ".join(str(error)[:300].split()), 120)[1:-1]
