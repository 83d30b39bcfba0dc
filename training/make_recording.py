"""Record the run that the page plays before anyone presses Run: its first example with the first task.

    python -m training.make_recording

Run it again whenever the default model, its preset or the first example changes; a test says when.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import ilo
from ilo.perceptual.find import find_perceptual
from ilo.photos.pictures import Crop
from ilo.photos.tasks import build_problem
from ilo.records import recording
from ilo.records.recipe import Recipe, make_recipe
from ilo.ui import examples
from ilo.ui.parts import player, tasks

FRAMES = 50  # about how many, besides the ends of the rounds


@dataclass(frozen=True)
class Plan:
    """A run that is ready to be recorded."""

    title: str
    model: ilo.Model
    problem: ilo.Problem
    settings: ilo.SolverSettings
    recipe: Recipe


def plan(name: str | None = None, example: int = 0, task: str | None = None) -> Plan:
    """What the page solves when a visitor presses Run at once.

    Args:
        name: the generator; None: the default.
        example: index of the example picture.
        task: name of the operator, with its suggested settings; None: the page's first.
    """
    model = ilo.load() if name is None else ilo.load(name)
    chosen, task = examples.load()[example], task or next(iter(tasks.offered()))
    problem, image, _ = build_problem(model, chosen.image, task, {}, crop=Crop(*chosen.crop))
    settings = ilo.preset(model.preset, operator=problem.operator, noise=problem.noise, prior=model)
    recipe = make_recipe(
        model,
        problem,
        settings,
        damaged_here=True,
        measurement_seed=0,
        input_image=image,
        perceptual=find_perceptual(model.device),
    )
    return Plan(chosen.name, model, problem, settings, recipe)


def make(plan: Plan, frames: int = FRAMES) -> recording.Recording:
    """Make the run of `plan`, and record it."""
    count, every = itertools.count(1), max(1, plan.settings.total_steps // frames)
    start = time.monotonic()
    steps = list(
        ilo.solve(
            plan.model,
            plan.problem,
            plan.settings,
            lambda: next(count) % every == 0,
            find_perceptual(plan.model.device),
        )
    )
    return recording.record(plan.title, plan.recipe, plan.problem, steps, time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="the generator (default: the page's)")
    parser.add_argument("--out", type=Path, default=player.FIRST)
    options = parser.parse_args()
    made = make(plan(options.model))
    recording.write(made, options.out)
    marks = ", ".join(f"{mark.name} {mark.psnr:.1f} dB" for mark in made.marks if mark.psnr is not None)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {len(made.frames)} frames; {marks}")


if __name__ == "__main__":
    main()
