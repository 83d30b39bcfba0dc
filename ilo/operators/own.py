"""Operators from elsewhere: a file of the user's, or an installed package that names its modules in its metadata."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from ilo.operators.base import OPERATORS, Operator
from ilo.settings import SettingsError
from ilo.text.words import reason, shown

GROUP = "ilo.operators"  # of entry points


def load(files: Iterable[str | Path] = ()) -> None:
    """Register the operators of installed packages and of some files. Raises `SettingsError`, see `load_file`."""
    for entry in metadata.entry_points(group=GROUP):
        _load(f"The operators {entry.value} of an installed package", entry.load)
    for file in files:
        load_file(file)


def load_file(file: str | Path) -> list[type[Operator]]:
    """Run a Python file that defines and registers operators.

    Returns:
        The operators that it registers; those that it registered before are replaced.

    Raises:
        SettingsError: if it cannot be read or run, registers nothing, or declares what makes no sense. Then nothing of
            it stays registered.
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
            f"The operator module {shown(path.name)} registers no operator; put @register above a class of it."
        )
    return found


def _load(what: str, run: Callable[[], Any]) -> list[type[Operator]]:
    """What `run` registers; nothing of it if it fails."""
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
