"""The registry of operators by name, which refuses invalid declarations."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from ilo.operators.base import Operator
from ilo.settings import MORPH, SettingsError
from ilo.text.words import shown

OPERATORS: dict[str, type[Operator]] = {}

OperatorType = TypeVar("OperatorType", bound="type[Operator]")


def register(kind: OperatorType) -> OperatorType:
    """Class decorator that registers an operator under its `name`, for `build`.

    A class with the same module and class name replaces the earlier one, so a notebook cell can be run again.

    Raises:
        SettingsError: `name`, `title` or `formula` is missing, the name belongs to another operator, or the
            declaration of a setting is invalid.
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
    """Raises `SettingsError` for declarations that would break the command line or the page."""
    if kind.__init__ is not Operator.__init__:
        raise SettingsError(
            f"The operator {kind.__name__} defines __init__; declare its settings in the class body, and do one-time "
            "computations in prepare(self)."
        )
    labels = set()
    for setting in kind.declared:
        what = f"The setting {setting.name} of {kind.__name__}"
        if (setting.kind == "mask") != (setting.name == "mask"):
            raise SettingsError(f"{what} must be called mask if it is a mask, and only then.")
        if not setting.name.isascii():
            raise SettingsError(f"{what} has a name with unusual letters; use plain ones, a to z.")
        if setting.kind != "mask" and (hasattr(Operator, setting.name) or setting.name == "resolution"):
            raise SettingsError(f"{what} has the name of an attribute of every operator; give it another one.")
        if setting.label in labels:
            raise SettingsError(f"{what} has the label {shown(setting.label)} of another setting; give it its own.")
        labels.add(setting.label)
        complaint = setting.complaint()
        if complaint:
            raise SettingsError(f"{what} {complaint}.")
        if setting.when is not None and setting.when not in _choices(kind):
            raise SettingsError(f"{what} depends on {shown(setting.when)}, but no earlier choice has this value.")


def _choices(kind: type[Operator]) -> set[tuple[str, str]]:
    """(choice, value) for all choices of an operator."""
    return {(setting.name, value) for setting in kind.declared for value, _ in setting.choices}


def build(name: str, resolution: int, /, **settings: Any) -> Operator:
    """Build an operator by name.

    Args:
        name: key of `OPERATORS`.
        resolution: side R of the pictures in pixels.
        settings: the operator's settings, as returned by `Operator.settings`, and the mask if it has one.

    Raises:
        SettingsError: the name or a setting is unknown, a setting is missing, or a value is not allowed.
    """
    kind = find(name)
    kind.check_names(settings)
    return kind(resolution=resolution, **settings)


def find(name: Any) -> type[Operator]:
    """The operator class with a name. Raises `SettingsError` if there is none."""
    if not isinstance(name, str) or name not in OPERATORS:
        raise SettingsError(f"The task is {shown(name)}; allowed are {', '.join(OPERATORS)}.")
    return OPERATORS[name]
