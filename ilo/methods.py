"""The presets, for a task by its name."""

from __future__ import annotations

from ilo import settings
from ilo.operators import OPERATORS
from ilo.settings import Method, SolverSettings


def preset(name: str = "Quick", method: Method = "ilo", *, seed: int = 0, task: str | None = None) -> SolverSettings:
    """The settings of a preset for one of the three methods, all with the same total number of steps.

    Args:
        name: "Quick" (50, 50, 25 and 25 steps) or "Paper" (300 in each of four rounds).
        method: "ilo"; "csgm", which is round 0 alone; "pulse", which is CSGM with the published settings of PULSE.
        seed: of the starting point, 0 … 2³¹ − 1.
        task: the operator's name; for one that hides whole regions, ILO has a higher weight of the geodesic term.

    Raises:
        SettingsError: for an unknown name, method or seed.
    """
    holes = task in OPERATORS and OPERATORS[task].holes
    return settings.preset(name, method, seed=seed, holes=holes)
