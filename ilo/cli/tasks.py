"""The operators on the command line: their options, the values given, and the list of tasks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ilo.operators import OPERATORS, Operator, find
from ilo.operators.setting import REQUIRED, Setting
from ilo.settings import SettingsError

_METAVARS = {"number": "X", "whole": "N", "seed": "N", "choice": "NAME", "parts": "JSON"}


class _Given(argparse.Action):
    """Stores a setting's option and its text; the task, which determines its type, may come later."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), self.const: (option, values)})


def add_options(group: Any) -> dict[str, str]:
    """Add one option for every setting that an operator declares; returns setting → option.

    Operators with a setting of the same name share its option. If the command line already has an option of that name,
    the new one is called --operator-NAME.
    """
    options = {}
    for name, of in _by_name().items():
        dashed = name.replace("_", "-")
        kinds = dict.fromkeys(_METAVARS[setting.kind] for setting in of.values())
        what: dict[str, Any] = {
            "help": "; ".join(f"{task}: {describe(setting)}" for task, setting in of.items()).replace("%", "%%"),
            "metavar": "|".join(kinds),
            "const": name,
            "dest": "operator",
            "action": _Given,
        }
        for option in (f"--{dashed}", f"--operator-{dashed}"):
            try:
                group.add_argument(option, **what)
            except argparse.ArgumentError:  # the name is taken
                continue
            options[name] = option
            break
        else:
            raise SettingsError(
                f"The option names for the setting {name} of {next(iter(of))} are taken; rename the setting."
            )
    return options


def _by_name() -> dict[str, dict[str, Setting]]:
    """Setting → task → its declaration; masks have a separate option."""
    found: dict[str, dict[str, Setting]] = {}
    for task, kind in OPERATORS.items():
        for setting in kind.declared:
            if setting.kind != "mask":
                found.setdefault(setting.name, {})[task] = setting
    return found


def describe(setting: Setting) -> str:
    """The description of a setting, and its allowed values."""
    words = setting.help.rstrip(".")
    if setting.kind == "seed":
        return words
    unit = setting.unit if setting.unit not in ("%", "×") else ""
    facts = [f"{setting.allowed}{unit and ' '}{unit}"]
    facts.append("" if setting.default in (REQUIRED, None) or setting.suggested else f"default {setting.default}")
    facts.append(f"for {setting.when[0]} {setting.when[1]}" if setting.when else "")
    said = ", ".join(fact for fact in facts if fact)
    return f"{words} ({said})" if said else words


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The given settings of the chosen task's operator. Raises `SettingsError` for a value of the wrong type."""
    given: Mapping[str, tuple[str, str]] = options.operator or {}
    kind = find(options.task)
    kind.check_known(given)
    declared = {setting.name: setting for setting in kind.declared}
    return {name: declared[name].read(text) for name, (_, text) in given.items()}


def listed(options: Mapping[str, str]) -> str:
    """All tasks with their formulas and options."""
    return "\n".join(line for name, kind in OPERATORS.items() for line in _lines(name, kind, options))


def _lines(name: str, kind: type[Operator], options: Mapping[str, str]) -> Sequence[str]:
    indent = " " * 20
    lines = [f"{name:<19} {kind.title}: {kind.formula}"]
    if kind.help:
        lines.append(f"{indent}{kind.help}")
    for setting in kind.declared:
        option = "--mask" if setting.kind == "mask" else options[setting.name]
        lines.append(f"{indent}{option:<17} {describe(setting)}")
    return lines


def table() -> str:
    """All tasks and their settings as a Markdown table, for docs/command-line.md."""
    rows = ["| task | meaning | measurement | settings |", "|---|---|---|---|"]
    for name, kind in OPERATORS.items():
        own = "; ".join(f"`{setting.name}`: {_short(setting)}" for setting in kind.declared)
        rows.append(f"| `{name}` | {kind.help} | {kind.formula} | {own} |")
    return "\n".join(rows)


def _short(setting: Setting) -> str:
    """A setting's label and range."""
    label = setting.label[0].lower() + setting.label[1:]
    return f"{label} ({setting.allowed})" if setting.allowed and setting.kind != "seed" else label
