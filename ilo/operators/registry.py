"""The registry that finds an operator by its name, and refuses one whose declaration makes no sense."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from ilo.operators.base import Operator
from ilo.settings import MORPH, SettingsError
from ilo.text.words import shown

OPERATORS: dict[str, type[Operator]] = {}

OperatorType = TypeVar("OperatorType", bound="type[Operator]")


def register(kind: OperatorType) -> OperatorType:
    """Class decorator: `build` finds the operator by its `name` from now on.

    A class of the same module and class name replaces its earlier self, so a notebook's cell can run again.

    Raises:
        SettingsError: if `name`, `title` or `formula` is missing, the name belongs to another operator, or a setting
            is declared in a way that makes no sense.
    """
    missing = [attribute for attribute in ("name", "title", "formula") if not getattr(kind, attribute)]
    if missing:
        raise SettingsError(f"The operator {kind.__name__} has no {', '.join(missing)}; set it in the class body.")
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", kind.name) or kind.name == MORPH:
        raise SettingsError(
            f"The operator {kind.__name__} has the name {shown(kind.name)}; give it one of small letters and digits "
            f"with single dashes between them, other than {MORPH}."
        )
    other = OPERATORS.get(kind.name)
    if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
        raise SettingsError(
            f"The name {kind.name!r} belongs to {other.__qualname__}; give {kind.__name__} another one."
        )
    _check_declarations(kind)
    OPERATORS[kind.name] = kind
    return kind


def _check_declarations(kind: type[Operator]) -> None:
    """Raises `SettingsError` for what would give a broken command line or page."""
    if kind.__init__ is not Operator.__init__:
        raise SettingsError(
            f"The operator {kind.__name__} defines __init__; declare its settings in the class body, and compute "
            "what is needed once in prepare(self)."
        )
    labels = set()
    for setting in kind.declared:
        what = f"The setting {setting.name} of {kind.__name__}"
        if (setting.kind == "mask") != (setting.name == "mask"):
            raise SettingsError(f"{what} must be called mask if it is a mask, and only then.")
        if not setting.name.isascii():
            raise SettingsError(f"{what} has a name that not every keyboard has; use plain letters.")
        if setting.kind != "mask" and (hasattr(Operator, setting.name) or setting.name == "resolution"):
            raise SettingsError(f"{what} has a name that every operator uses already; give it another one.")
        if setting.label in labels:
            raise SettingsError(f"{what} has the label {shown(setting.label)} of another one; give it its own.")
        labels.add(setting.label)
        complaint = setting.complaint()
        if complaint:
            raise SettingsError(f"{what} {complaint}.")
        if setting.when is not None and setting.when not in _choices(kind):
            raise SettingsError(f"{what} counts when {shown(setting.when)}, but there is no such choice before it.")


def _choices(kind: type[Operator]) -> set[tuple[str, str]]:
    """(choice, value) for all choices of an operator."""
    return {(setting.name, value) for setting in kind.declared for value, _ in setting.choices}


def build(name: str, resolution: int, /, **settings: Any) -> Operator:
    """The operator of a name.

    Args:
        name: a key of `OPERATORS`.
        resolution: R, the picture's side in pixels.
        settings: the operator's own settings, as `Operator.settings` gives them, and the mask if it has one.

    Raises:
        SettingsError: for an unknown name, an unknown or missing setting, and values that are not allowed.
    """
    kind = find(name)
    kind.check_names(settings)
    return kind(resolution=resolution, **settings)


def find(name: Any) -> type[Operator]:
    """The operator class of a name. Raises `SettingsError` for a name that no operator has."""
    if not isinstance(name, str) or name not in OPERATORS:
        raise SettingsError(f"The task is {shown(name)}; allowed are {', '.join(OPERATORS)}.")
    return OPERATORS[name]
