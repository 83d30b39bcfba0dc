"""Random search for each method's settings, on validation pictures that benchmarks/quality.py does not measure on.

    python -m benchmarks.tune ilo|csgm --trials 20 [--pictures 12] [--rows …] [--seed 0]

One line of JSON per trial goes to benchmarks/results/tune-METHOD.jsonl: the settings and each row's mean squared error.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace

import torch

from benchmarks import faces, rows
from benchmarks.step import RESULTS
from ilo import LossWeights, Problem, RoundSettings, SolverSettings, load, preset, solve
from ilo.models import Model
from ilo.settings import PRESETS, Covariance

FIRST = 50  # the pictures before are measured on
DEFAULT_ROWS = [list(rows.ROWS)[i] for i in (0, 4, 6, 8)]


def csgm(rng: random.Random) -> SolverSettings:
    """150 steps of round 0 with another learning rate, covariance and weight of the geodesic term."""
    plan = RoundSettings(steps=sum(PRESETS["Quick"]), lr=rng.choice([0.05, 0.1, 0.2, 0.3, 0.4]))
    weights = LossWeights(geodesic=rng.choice([0.0, 0.003, 0.01, 0.03]))
    covariance: Covariance = "full" if rng.random() < 0.5 else "diagonal"
    return replace(preset("Quick", "csgm"), rounds=(plan,), weights=weights, covariance=covariance)


def ilo(rng: random.Random) -> SolverSettings:
    """The same for round 0 of ILO, and radii and learning rate of the rounds after it."""
    first = csgm(rng)
    radius, growth = 10 ** rng.uniform(-3, -1.3), rng.choice([0.5, 0.7, 1.0, 1.4])
    latents = rng.choice([0.003, 0.01, 0.03, 0.1, 0.3])
    lr = rng.choice([0.01, 0.02, 0.04, 0.1])
    plans = [RoundSettings(steps=PRESETS["Quick"][0], lr=first.rounds[0].lr)]
    for k, steps in enumerate(PRESETS["Quick"][1:]):
        plans.append(RoundSettings(steps, lr, radius * growth**k, latents, 0.02))
    return replace(first, method="ilo", rounds=tuple(plans))


def error(model: Model, settings: SolverSettings, row: str, pictures: torch.Tensor, batch: int = 12) -> float:
    """Mean squared error to the truth on [0, 1]."""
    total = 0.0
    for part in pictures.split(batch):
        problem = Problem.damage(part, rows.operator(row, model.resolution))
        *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None)
        assert last.result is not None
        total += float((last.result.image.clamp(-1, 1) - part).div(2).square().mean((1, 2, 3)).sum())
    return total / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["ilo", "csgm"])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rows", nargs="*", default=DEFAULT_ROWS, choices=list(rows.ROWS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    model = load()
    pictures = faces.read(FIRST, FIRST + args.pictures, model.resolution)
    rng = random.Random(args.seed)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"tune-{args.method}.jsonl").open("a") as log:
        for _ in range(args.trials):
            settings = replace({"ilo": ilo, "csgm": csgm}[args.method](rng), dtype="bfloat16")
            start = time.monotonic()
            errors = {row: error(model, settings, row, pictures) for row in args.rows}
            record = {"settings": settings.to_dict(), "mse": errors, "seconds": time.monotonic() - start}
            log.write(json.dumps(record) + "\n")
            log.flush()
            print(json.dumps(errors), flush=True)


if __name__ == "__main__":
    main()
