"""Milliseconds per optimisation step in each round, beside a plainly written baseline, in one run.

    python -m benchmarks.step [--repeats 5] [--steps 20] [--dtype float32]

Steps of the two are measured in turns, so that a noisy machine disturbs both alike; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.plain import PlainGenerator, PlainRound
from ilo import engine, load, preset
from ilo.losses import Objective
from ilo.operators import build
from ilo.problem import Problem
from ilo.search import Round
from ilo.state import State

WARM_UP = 3
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="float32", choices=list(engine.DTYPES))
    args = parser.parse_args()

    model = load()
    settings = replace(preset("Quick"), dtype=args.dtype)
    generator = engine.prepare(model.generator, settings.dtype)
    state = State.random(model, seed=0)
    with torch.no_grad():
        truth = State.random(model, seed=1).render(model.generator, model.latents, "diagonal").clamp(-1, 1)
        plain = PlainGenerator(model)(model.latents(state.z), list(state.noise))
        same = (plain - state.render(model.generator, model.latents, "diagonal")).abs().max()
    print(f"largest difference between the two networks' pictures: {float(same):.1e}")
    problem = Problem.damage(truth, build("random-inpaint", model.resolution, fraction=0.1))
    objective = Objective(problem, settings.weights, None)

    rows = []
    for k, plan in enumerate(settings.rounds):
        if k:
            state = state.enter(model.generator, model.latents, k, settings)
        long = replace(plan, steps=args.steps)
        ours, theirs = [], []
        for _ in range(args.repeats):
            ours.append(milliseconds(Round(generator, model.latents, objective, state, long, settings), args.steps))
            theirs.append(milliseconds(PlainRound(model, problem, state, long), args.steps))
        ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
        row = {"round": k, "steps": plan.steps, "ms": statistics.median(ours), "plain_ms": statistics.median(theirs)}
        rows.append(row | {"ratio": ratio})
    whole = {
        key: sum(row[key] * row["steps"] for row in rows) / sum(row["steps"] for row in rows)
        for key in ("ms", "plain_ms")
    }
    quick = whole["plain_ms"] / whole["ms"]
    print("| round | ms per step | plain, ms | ratio |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['round']} | {row['ms']:.1f} | {row['plain_ms']:.1f} | {row['ratio']:.2f} |")
    print(f"| Quick run, mean | {whole['ms']:.1f} | {whole['plain_ms']:.1f} | {quick:.2f} |")
    RESULTS.mkdir(exist_ok=True)
    about = {"dtype": args.dtype, **engine.description(model.device)}
    name = f"step-{args.dtype}-{str(about['processor']).lower().replace(' ', '-')}.json"
    (RESULTS / name).write_text(json.dumps({"rounds": rows, "quick_ratio": quick, **about}, indent=1))


def milliseconds(search: Round | PlainRound, steps: int) -> float:
    """Mean time of a step, after the first few, which are not counted."""
    for i in range(WARM_UP):
        search.step(i)
    start = time.perf_counter()
    for i in range(WARM_UP, steps):
        search.step(i)
    return (time.perf_counter() - start) / (steps - WARM_UP) * 1e3


if __name__ == "__main__":
    main()
