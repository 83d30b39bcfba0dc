"""Search for each method's best settings, on validation pictures that benchmarks/quality.py does not use.

    python -m benchmarks.tune ilo|csgm --trials 10 [--pictures 16] [--rows …] [--seed 0]
    python -m benchmarks.tune ilo|csgm --try "radius of the features=0.5" …

It starts from the preset and changes two random settings at a time, or those given by --try; a change is kept if it
lowers the mean logarithm of the rows' squared errors. Each trial is written as one line of JSON to
benchmarks/results/tune-METHOD.jsonl: the settings, each row's mean squared error, and whether the change was kept.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks import faces, rows
from benchmarks.step import RESULTS
from ilo import Problem, SolverSettings, load, preset, solve
from ilo.engine import devices
from ilo.priors.load import Model

DEFAULT_ROWS = [list(rows.ROWS)[i] for i in (0, 4, 6, 8)]
FACTORS = (0.4, 0.6, 1.6, 2.5)


def _first(settings: SolverSettings, **changes: Any) -> SolverSettings:
    return replace(settings, rounds=(replace(settings.rounds[0], **changes), *settings.rounds[1:]))


def _scale(settings: SolverSettings, name: str, factor: float, growth: float = 1.0) -> SolverSettings:
    """Multiply a setting of all later rounds by `factor`, and by another `growth` per round."""
    later = [
        replace(plan, **{name: getattr(plan, name) * factor * growth**k}) for k, plan in enumerate(settings.rounds[1:])
    ]
    return replace(settings, rounds=(settings.rounds[0], *later))


def _geodesic(settings: SolverSettings, factor: float) -> SolverSettings:
    weights = replace(settings.weights, geodesic=max(1e-4, settings.weights.geodesic) * factor**2)
    return replace(settings, weights=weights)


# name → (settings, factor) → settings
COMMON: dict[str, Callable[[SolverSettings, float], SolverSettings]] = {
    "learning rate of round 0": lambda s, f: _first(s, lr=s.rounds[0].lr * f**0.7),
    "geodesic weight": _geodesic,
    "covariance": lambda s, _: replace(s, covariance="full" if s.covariance == "diagonal" else "diagonal"),
}
LATER: dict[str, Callable[[SolverSettings, float], SolverSettings]] = {
    "learning rate": lambda s, f: _scale(s, "lr", f),
    "radius of the features": lambda s, f: _scale(s, "radius_features", f),
    "its change from round to round": lambda s, f: _scale(s, "radius_features", 1.0, f**0.5),
    "radius of the latents": lambda s, f: _scale(s, "radius_latents", f),
    "radius of the noise": lambda s, f: _scale(s, "radius_noise", f),
}
CHANGES = {"ilo": COMMON | LATER, "csgm": COMMON}


def error(model: Model, settings: SolverSettings, row: str, pictures: torch.Tensor, batch: int = 12) -> float:
    """Mean squared error to the truth on [0, 1]."""
    total = 0.0
    for part in pictures.split(batch):
        problem = Problem.damage(part, rows.operator(row, model.resolution))
        *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None)
        assert last.result is not None
        total += float((last.result.image.clamp(-1, 1) - part).div(2).square().mean((1, 2, 3)).sum())
    return total / len(pictures)


def named(change: str) -> dict[str, float]:
    """Parse a change such as "radius of the features=0.5" into the setting and its factor."""
    name, factor = change.split("=")
    return {name: float(factor)}


def drawn(args: argparse.Namespace) -> list[dict[str, float]]:
    """Draw two settings and their factors for each trial; the first trial is the preset itself."""
    rng, names = random.Random(args.seed), list(CHANGES[args.method])
    return [{}, *({name: rng.choice(FACTORS) for name in rng.sample(names, 2)} for _ in range(1, args.trials))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(CHANGES))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--try", nargs="+", type=named, dest="named", metavar="NAME=FACTOR", help="only these")
    parser.add_argument("--pictures", type=int, default=faces.TUNING)
    parser.add_argument("--rows", nargs="*", default=DEFAULT_ROWS, choices=list(rows.ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps; default: ILO_DEVICE, or auto")
    args = parser.parse_args()

    plan = [{}, *args.named] if args.named else drawn(args)
    if unknown := {name for changed in plan for name in changed} - set(CHANGES[args.method]):
        parser.error(
            f"{', '.join(unknown)}: not a setting of {args.method}; allowed are {', '.join(CHANGES[args.method])}."
        )
    model = load(device=devices.choose(args.device).device)
    pictures = faces.for_tuning(args.pictures, model.resolution)
    best, least = preset("Quick", args.method), math.inf
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"tune-{args.method}.jsonl").open("a") as log:
        for changed in plan:
            settings = best
            for name, factor in changed.items():
                settings = CHANGES[args.method][name](settings, factor)
            errors = {row: error(model, settings, row, pictures) for row in args.rows}
            score = sum(math.log(e) for e in errors.values()) / len(errors)
            kept = score < least
            if kept:
                best, least = settings, score
            record = {"changed": changed, "kept": kept, "score": score, "mse": errors, "settings": settings.to_dict()}
            log.write(json.dumps(record, ensure_ascii=False) + "\n")
            log.flush()
            print(f"{score:.3f}{' kept' if kept else ''}: {', '.join(changed)}", flush=True)


if __name__ == "__main__":
    main()
