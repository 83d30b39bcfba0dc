"""Solver presets, chosen by task name."""

from __future__ import annotations

from ilo import settings
from ilo.operators import OPERATORS
from ilo.settings import Method, SolverSettings


def preset(name: str = "Quick", method: Method = "ilo", *, seed: int = 0, task: str | None = None) -> SolverSettings:
    """The settings of a preset for one of the three methods, all with the same total number of steps.

    Args:
        name: "Quick" (50, 50, 25 and 25 steps) or "Paper" (300 in each of four rounds).
        method: "ilo"; "csgm", which is round 0 alone; "pulse", which is CSGM with the published settings of PULSE.
        seed: random seed for the starting point, 0 … 2³¹ − 1.
        task: operator name; ILO uses a higher geodesic weight for operators that hide whole regions.

    Raises:
        SettingsError: the preset or method is unknown, or the seed is out of range.
    """
    holes = task in OPERATORS and OPERATORS[task].holes
    return settings.preset(name, method, seed=seed, holes=holes)
