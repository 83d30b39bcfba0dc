"""Loading user-defined operators from a Python file or from the entry points of installed packages."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from ilo.operators.base import Operator
from ilo.operators.registry import OPERATORS
from ilo.settings import SettingsError
from ilo.text.words import reason, shown

GROUP = "ilo.operators"  # entry point group


def load(files: Iterable[str | Path] = ()) -> None:
    """Register the operators of installed packages and of `files`. Raises `SettingsError`, see `load_file`."""
    for entry in metadata.entry_points(group=GROUP):
        _load(f"The operators {entry.value} of an installed package", entry.load)
    for file in files:
        load_file(file)


def load_file(file: str | Path) -> list[type[Operator]]:
    """Run a Python file that defines and registers operators.

    Returns:
        The operators that the file registers; operators from an earlier load of the file are replaced.

    Raises:
        SettingsError: the file cannot be read or run, registers nothing, or has an invalid declaration. None of its
            operators then stay registered.
    """
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"There is no operator module {shown(str(file))}; give a Python file.")

    def run() -> None:
        name = f"ilo_operators_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
        spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise

    found = _load(f"The operator module {shown(path.name)}", run)
    if not found:
        raise SettingsError(
            f"The operator module {shown(path.name)} registers no operator; put @register above its operator class."
        )
    return found


def _load(what: str, run: Callable[[], Any]) -> list[type[Operator]]:
    """Call `run` and return the operators it registers; if it fails, undo its registrations."""
    before = dict(OPERATORS)
    try:
        run()
    except (Exception, SystemExit) as error:
        OPERATORS.clear()
        OPERATORS.update(before)
        if isinstance(error, SettingsError):
            raise SettingsError(f"{what} cannot be used. {error}") from None
        raise SettingsError(f"{what} cannot be imported ({type(error).__name__}: {reason(error)}).") from error
    return [kind for name, kind in OPERATORS.items() if before.get(name) is not kind]
