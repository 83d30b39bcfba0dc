"""`python -m ilo compile`, and the engine of a replay."""

from __future__ import annotations

import argparse
import os
import sys
import time

from ilo.engine import compiling
from ilo.priors.load import load
from ilo.priors.stylegan2.prior import Model
from ilo.records.recipe import Recipe
from ilo.settings import SettingsError

LOWEST = 19  # priority, as `nice` counts


def compile_model(options: argparse.Namespace) -> int:
    """Compile a generator for one batch size; prints the seconds for each layer."""
    if options.background and hasattr(os, "nice"):
        os.nice(LOWEST)
    model = load(options.model)
    start = time.perf_counter()
    try:
        for layer, seconds in compiling.build(model, options.batch):
            print(f"{model.id}, layer {layer}: {seconds:.1f} s", flush=True)
        total, start = time.perf_counter() - start, time.perf_counter()
        compiling.load(model, options.batch)
    except compiling.NotReadyError as error:
        raise SettingsError(f"The compiled engine is not available for {model.id}: {error}.") from None
    loading = time.perf_counter() - start
    print(f"Compiled in {total:.1f} s, loads in {loading:.2f} s; kept in {compiling.folder()}")
    return 0


def recorded_engine(recipe: Recipe, model: Model, count: int, name: str | None) -> Model:
    """The model with the engine that a recipe names, or that of --engine; prints if the recipe's is not available.

    Args:
        recipe: of the run to repeat.
        model: the generator.
        count: number of measurements.
        name: value of --engine, or None.
    """
    compiled = recipe.engine.get("engine") == "compiled"
    wanted = name or ("auto" if compiled else "eager")
    chosen = compiling.chosen(model, recipe.settings, compiling.batch_of(count, recipe.settings), wanted)
    if compiled and name is None and chosen.engine != "compiled":
        print(
            "The run used compiled code, which is not ready here (`python -m ilo compile` makes it), so the last bits "
            "may differ.",
            file=sys.stderr,
        )
    return chosen
