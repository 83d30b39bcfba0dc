"""ILO Studio: inverse problems with a generative prior, by Intermediate Layer Optimization."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilo.methods import preset
    from ilo.operators import OPERATORS, ClippedGaussian, Gaussian, Operator, Setting, build, register
    from ilo.priors.load import Model, load
    from ilo.problem import Problem
    from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings
    from ilo.solver import every, solve
    from ilo.state import Result, Step

__all__ = [
    "OPERATORS",
    "ClippedGaussian",
    "Gaussian",
    "LossWeights",
    "Model",
    "Operator",
    "Problem",
    "Result",
    "RoundSettings",
    "Setting",
    "SettingsError",
    "SolverSettings",
    "Step",
    "build",
    "every",
    "load",
    "preset",
    "register",
    "solve",
]
_HOMES = {
    "priors.load": ("Model", "load"),
    "methods": ("preset",),
    "operators": ("OPERATORS", "ClippedGaussian", "Gaussian", "Operator", "Setting", "build", "register"),
    "problem": ("Problem",),
    "settings": ("LossWeights", "RoundSettings", "SettingsError", "SolverSettings"),
    "solver": ("every", "solve"),
    "state": ("Result", "Step"),
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: importing torch takes seconds, and `--help` does not need it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"ilo.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
