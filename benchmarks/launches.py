"""Count the operations of an optimisation step that a GPU would have to launch a kernel for.

    python -m benchmarks.launches [--preset Quick] [--task random-inpaint] [--perceptual]

A step on a GPU costs at least a few microseconds for each of them. They are counted on the CPU, where the balls are
projected onto as on a GPU. Views of a tensor, and memory that is not filled, launch nothing. Only operations of PyTorch
are counted: the library may launch more than one kernel for one of them, such as a sort.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ilo import load, objective, preset, projection
from ilo import search as search_module
from ilo.methods import PRESETS
from ilo.objective import MeasurementObjective
from ilo.operators import OPERATORS, nominal
from ilo.perceptual.base import Perceptual
from ilo.perceptual.classifier_features import robust_features
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.search import LayerSearch
from ilo.settings import SolverSettings

PARTS = ("forward", "backward", "Adam", "balls", "keeping")
RESULT = Path(__file__).parent / "results" / "launches.json"
EMPTY = (
    "profiler::",
    "aten::empty",
    "aten::new_empty",
    "aten::_unsafe_view",
    "aten::_reshape_alias",
    "aten::detach",
    "aten::lift",
)


class Launches(TorchDispatchMode):
    """Counts operations by the part of the step that they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.names: Counter[tuple[str, str]] = Counter()
        self._part = "forward"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if not func.is_view and not name.startswith(EMPTY):
            self.counts[self._part] += 1
            self.names[self._part, name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as part `name`."""
        before, self._part = self._part, name
        try:
            yield
        finally:
            self._part = before

    def within(self, name: str, function: Any) -> Any:
        """`function`, whose operations count as part `name`."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return counted


def count(search: LayerSearch) -> Launches:
    """The operations of one whole step in the middle of a search, as on a GPU."""
    launches = Launches()
    parts = {
        "backward": (torch.Tensor, "backward"),
        "Adam": (torch.optim.Adam, "step"),
        "balls": (search_module, "constrain"),
        "keeping": (LayerSearch, "_keep"),
    }
    with ExitStack() as patched:
        patched.enter_context(mock.patch.object(projection, "project_l1_newton", projection.project_l1_sorting))
        patched.enter_context(mock.patch.object(objective, "geodesic", objective._Geodesic.apply))
        for _ in range(2):
            search.step()  # the first ones also compute what later ones reuse
        for part, (owner, method) in parts.items():
            patched.enter_context(mock.patch.object(owner, method, launches.within(part, getattr(owner, method))))
        with launches:
            search.step()
    return launches


def rounds(model: Model, settings: SolverSettings, task: str, perceptual: Perceptual | None) -> Iterator[LayerSearch]:
    """A search for each round of a run from a random start, with a copy of the model that computes as on a GPU."""
    model = replace(model, generator=copy.deepcopy(model.generator).freeze(few_launches=True))
    state = model.draw(0)
    with torch.no_grad():
        truth = model.render(model.draw(1), settings).clamp(-1, 1)
    size = model.resolution
    problem = Problem.damage(truth, nominal(task, size, OPERATORS[task].suggested(size)))
    goal = MeasurementObjective(problem, settings.weights, perceptual, settings.sna)
    for k, plan in enumerate(settings.rounds):
        if k:
            with torch.no_grad():
                state = model.enter(state, k, settings)
        yield LayerSearch(model, goal, state, plan, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="Quick", choices=list(PRESETS))
    parser.add_argument("--task", default="random-inpaint", choices=list(OPERATORS))
    parser.add_argument("--perceptual", action="store_true", help="with the embedded perceptual distance")
    args = parser.parse_args()
    model, perceptual = load(), robust_features() if args.perceptual else None
    rows = []
    print(f"| round | {' | '.join(PARTS)} | together |\n|{'---|' * (len(PARTS) + 2)}")
    for k, search in enumerate(rounds(model, preset(args.preset), args.task, perceptual)):
        counts = count(search).counts
        rows.append({"round": k, **{part: counts[part] for part in PARTS}, "together": counts.total()})
        print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |")
    found = {"preset": args.preset, "task": args.task, "perceptual": args.perceptual, "rounds": rows}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
