"""Declarations of operator settings, from which the command line, the page, links and docs/ are made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ilo.settings import SettingsError, check_choice, check_number, check_whole
from ilo.text import jsontext
from ilo.text.words import shown

Kind = Literal["number", "whole", "choice", "seed", "mask", "parts"]
MAX_SEED = 2**31 - 1
REQUIRED: Any = object()  # marks a setting without a default


@dataclass(frozen=True)
class Setting:
    """One setting of an operator, declared in the class body with the static method for its kind:

        gain: float = Setting.number(0.5, 0.0, 2.0, step=0.1, label="Gain", help="Factor on every value.")

    An instance of the operator stores the value in the attribute of the same name.
    """

    kind: Kind
    label: str  # one or two words, shown beside the page's control
    help: str  # one plain sentence
    default: Any = REQUIRED  # value if none is given
    low: float = -math.inf  # allowed range: low … high
    high: float = math.inf
    step: float = 1.0  # step of the page's slider
    unit: str = ""  # "%": the value is shown multiplied by 100
    choices: tuple[tuple[str, str], ...] = ()  # (value, label) for each value of a choice
    optional: str = ""  # meaning of None in one or two words; empty: None is not allowed
    when: tuple[str, str] | None = None  # (choice, value): the setting is used only if that choice has that value
    # Functions of the picture's side R in pixels:
    suggested: Callable[[int], Any] | None = None  # initial value on the page and command line; None: the default
    fits: Callable[[int], float] | None = None  # highest value that makes sense at this size, at most `high`
    slider: Callable[[int], tuple[float, float]] | None = None  # range of the page's slider; None: the allowed range
    offers: Callable[[int], list[int]] | None = None  # values that the page offers as buttons
    name: str = ""  # name of the attribute, set by the class

    @staticmethod
    def number(default: float | None, low: float, high: float, *, label: str, help: str, **more: Any) -> Any:
        """Declare a real number in [low, high]; `more`: further fields of `Setting`."""
        return Setting("number", label, help, default, low, high, **more)

    @staticmethod
    def whole(default: int, low: int, high: int, *, label: str, help: str, **more: Any) -> Any:
        """Declare a whole number from low to high."""
        return Setting("whole", label, help, default, low, high, **more)

    @staticmethod
    def choice(default: str, choices: dict[str, str], *, label: str, help: str, **more: Any) -> Any:
        """Declare a choice; `choices` maps each value to its label."""
        return Setting("choice", label, help, default, choices=tuple(choices.items()), **more)

    @staticmethod
    def seed(*, label: str = "Random seed", help: str = "A different seed gives a different pattern.") -> Any:
        """Declare a random seed for the operator."""
        return Setting("seed", label, help, 0, 0, MAX_SEED)

    @staticmethod
    def mask(default: Any = REQUIRED, *, help: str) -> Any:
        """Declare a mask: the attribute `mask`, which the class resizes to the resolution."""
        return Setting("mask", "Mask", help, default)

    @staticmethod
    def parts(*, label: str, help: str, **more: Any) -> Any:
        """Declare a list of operators, checked by the class; only the command line and recipes can set it."""
        return Setting("parts", label, help, **more)

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def scale(self) -> int:
        """Factor from the value to the number shown to people."""
        return 100 if self.unit == "%" else 1

    @property
    def allowed(self) -> str:
        """The allowed values in a few words; empty if only the operator can tell."""
        if self.kind == "choice":
            return " or ".join(value for value, _ in self.choices)
        return "" if math.isinf(self.low) or math.isinf(self.high) else f"{self.low:g} to {self.high:.10g}"

    def suggest(self, resolution: int) -> Any:
        """Suggested value at a resolution."""
        return self.default if self.suggested is None else self.suggested(resolution)

    def counts(self, values: Mapping[str, Any]) -> bool:
        """Whether an operator with the settings `values` uses this setting."""
        return self.when is None or values[self.when[0]] == self.when[1]

    def check(self, values: Mapping[str, Any], resolution: int) -> None:
        """Raises `SettingsError` unless this setting's value in `values` is allowed."""
        value = values[self.name]
        if value is None and self.optional:
            return
        if self.kind == "choice":
            check_choice(self.name, value, tuple(value for value, _ in self.choices))
        elif self.kind in ("whole", "seed"):
            check_whole(self.name, value, int(self.low), int(self.high))
        elif self.kind == "number":
            high = self.fits(resolution) if self.fits is not None and self.counts(values) else self.high
            check_number(self.name, value, self.low, high)

    def read(self, text: str) -> Any:
        """Parse a value from text. Raises `SettingsError` if the text is not valid."""
        if self.kind == "parts":
            return jsontext.parse(text, self.name)
        if self.kind not in ("number", "whole", "seed"):
            return text
        try:
            return float(text) if self.kind == "number" else int(text)
        except ValueError:
            what = "number" if self.kind == "number" else "whole number"
            raise SettingsError(f"{self.name} must be a {what} ({self.allowed}), not {shown(text)}.") from None

    def complaint(self) -> str:
        """Description of what is wrong with the declaration; empty if it is valid."""
        if self.kind not in get_args(Kind):
            return f"is of the kind {shown(self.kind)}; allowed are {', '.join(get_args(Kind))}"
        if not self.label or not self.help:
            return "has no label or no help; give both"
        if self.kind in ("number", "whole", "seed") and not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"has the range {self.low:g} to {self.high:g}; give finite numbers"
        if not self.low <= self.high:
            return f"has low {self.low:g} above high {self.high:g}; swap them"
        if not self.step > 0:
            return f"has the step {self.step}; give a step above 0"
        odd = [value for value, _ in self.choices if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", value)]
        if odd:
            return f"has the choice {shown(odd[0])}; give small letters and digits with single dashes between them"
        return self._default_complaint()

    def _default_complaint(self) -> str:
        if self.required or self.kind in ("mask", "parts"):
            return ""
        try:
            replace(self, when=None, fits=None).check({self.name: self.default}, 64)
        except SettingsError as error:
            return f"has a default that is not allowed: {error}".rstrip(".")
        return ""
