"""What an operator declares of one setting. The command line, the page, links and docs/ are made from it."""

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
REQUIRED: Any = object()  # the default of a setting that has none


@dataclass(frozen=True)
class Setting:
    """One setting of an operator, declared in the class body by the function of its kind:

        gain: float = Setting.number(0.5, 0.0, 2.0, step=0.1, label="Gain", help="Factor on every value.")

    An instance of the operator has the value in the attribute of the same name.
    """

    kind: Kind
    label: str  # a word or two, beside the page's control
    help: str  # one plain sentence
    default: Any = REQUIRED  # where nothing is said
    low: float = -math.inf  # allowed is low … high
    high: float = math.inf
    step: float = 1.0  # of the page's slider
    unit: str = ""  # "%": people see a hundred times the value
    choices: tuple[tuple[str, str], ...] = ()  # of a choice: value, label
    optional: str = ""  # None is allowed too, and this says what it means, in a word or two
    when: tuple[str, str] | None = None  # (choice, value): the setting counts only with that value of that choice
    # What depends on the picture's side R in pixels:
    suggested: Callable[[int], Any] | None = None  # what the page and the command line begin with, if not the default
    fits: Callable[[int], float] | None = None  # the highest value of a setting that counts, at most `high`
    slider: Callable[[int], tuple[float, float]] | None = None  # the page's range, if not all that is allowed
    offers: Callable[[int], list[int]] | None = None  # the values that the page offers as buttons
    name: str = ""  # the attribute's, given by the class

    @staticmethod
    def number(default: float | None, low: float, high: float, *, label: str, help: str, **more: Any) -> Any:
        """A real number in [low, high]; `more` are fields of `Setting`."""
        return Setting("number", label, help, default, low, high, **more)

    @staticmethod
    def whole(default: int, low: int, high: int, *, label: str, help: str, **more: Any) -> Any:
        """A whole number from low to high."""
        return Setting("whole", label, help, default, low, high, **more)

    @staticmethod
    def choice(default: str, choices: dict[str, str], *, label: str, help: str, **more: Any) -> Any:
        """One of some values; `choices` gives each one's label."""
        return Setting("choice", label, help, default, choices=tuple(choices.items()), **more)

    @staticmethod
    def seed(*, label: str = "Random seed", help: str = "A different seed gives a different pattern.") -> Any:
        """Of the operator's own randomness."""
        return Setting("seed", label, help, 0, 0, MAX_SEED)

    @staticmethod
    def mask(default: Any = REQUIRED, *, help: str) -> Any:
        """A mask: the attribute `mask`, which the class fits to the resolution."""
        return Setting("mask", "Mask", help, default)

    @staticmethod
    def parts(*, label: str, help: str, **more: Any) -> Any:
        """A list of operators, which the class checks; only the command line and recipes can give one."""
        return Setting("parts", label, help, **more)

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def scale(self) -> int:
        """What people see, over the value."""
        return 100 if self.unit == "%" else 1

    @property
    def allowed(self) -> str:
        """What may be given, in a few words; empty where only the operator can say."""
        if self.kind == "choice":
            return " or ".join(value for value, _ in self.choices)
        return "" if math.isinf(self.low) or math.isinf(self.high) else f"{self.low:g} to {self.high:.10g}"

    def suggest(self, resolution: int) -> Any:
        """What to begin with at a resolution."""
        return self.default if self.suggested is None else self.suggested(resolution)

    def counts(self, values: Mapping[str, Any]) -> bool:
        """Whether the operator with these settings uses it."""
        return self.when is None or values[self.when[0]] == self.when[1]

    def check(self, values: Mapping[str, Any], resolution: int) -> None:
        """Raises `SettingsError` unless the value of this setting among all `values` is allowed."""
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
        """The value that a text stands for. Raises `SettingsError` for a text that is none."""
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
        """What is wrong with the declaration itself; empty if nothing is."""
        if self.kind not in get_args(Kind):
            return f"is of the kind {shown(self.kind)}; allowed are {', '.join(get_args(Kind))}"
        if not self.label or not self.help:
            return "has no label or no help; give both"
        if self.kind in ("number", "whole", "seed") and not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"has the range {self.low:g} to {self.high:g}; give finite numbers"
        if not self.low <= self.high:
            return f"has low {self.low:g} above high {self.high:g}; exchange them"
        if not self.step > 0:
            return f"has the step {self.step}; give one above 0"
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
