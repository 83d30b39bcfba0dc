"""ILO Studio: inverse problems with a generative prior, by Intermediate Layer Optimization."""

from ilo.models import Model, load
from ilo.operators import OPERATORS, Operator, build, register
from ilo.problem import Problem
from ilo.settings import LossWeights, RoundSettings, SettingsError, SolverSettings, preset
from ilo.solver import every, solve
from ilo.state import Result, Step

__all__ = [
    "OPERATORS",
    "LossWeights",
    "Model",
    "Operator",
    "Problem",
    "Result",
    "RoundSettings",
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
