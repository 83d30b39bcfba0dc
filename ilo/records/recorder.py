"""Collecting the data of a bundle during a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from ilo.guidance import Guidance
from ilo.photos.faces import Placed
from ilo.problem import Problem
from ilo.records.recipe import Recipe
from ilo.state import TRACE_COLUMNS, Result, Step

TRACE_HEADER = ("round", "step", "done", *TRACE_COLUMNS)
MOST_FRAMES = 300


class Recorder:
    """Collects the contents of a bundle from the snapshots of a run on one picture, with N answers to it.

    Args:
        recipe: recipe of the run.
        problem: problem to solve; its y, if any, is saved.
        input_image: cropped picture [1, 3, …] in [−1, 1] that the problem was made from; None if there is none.
        placed: place of this picture in a photograph, into which the result is pasted.
    """

    def __init__(
        self,
        recipe: Recipe,
        problem: Problem | Guidance,
        input_image: Tensor | None,
        placed: Placed | None = None,
    ):
        self.recipe, self.problem, self.input_image, self.placed = recipe, problem, input_image, placed
        self.film: list[tuple[str, np.ndarray]] = []  # (label, uint8 [R, R, 3]) for the start and the end of each round
        self.result: Result | None = None  # the latest result
        self.stopped_at: int | None = None  # number of steps made before that result
        self.complete = False  # whether the run has finished
        self.total = 0  # number of steps of the whole run
        self._rows: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._seen, self._every = 0, 1

    def add(self, step: Step) -> None:
        """Record a snapshot; call it for each one, in the solver's order."""
        preview = step.preview
        self._add_trace(step)
        self._add_frame(preview)
        if not self.film:
            self.film.append(("start", preview))
        elif step.step == step.steps and not step.projected:
            name = self._round_name(step)
            searches = sum(label.split(",")[0] == name for label, _ in self.film)
            self.film.append((f"{name}, search {searches + 1}" if searches else name, preview))
        if step.result is not None:
            self.result, self.stopped_at = step.result, step.done
        self.total = step.total
        self.complete = step.done == step.total and step.step == step.steps

    @property
    def frames(self) -> list[np.ndarray]:
        """Frames of the film, uint8 [R, R, 3] each: evenly spaced, at most about 300, including the last preview."""
        if not self._frames or self._frames[-1] is self._last:
            return list(self._frames)
        return [*self._frames, self._last]

    @property
    def trace(self) -> np.ndarray:
        """Trace of the first answer, one row per step: float32 [n, 11] with the columns `TRACE_HEADER`.

        NaN for balls switched off.
        """
        return self.traces[:, 0]

    @property
    def traces(self) -> np.ndarray:
        """The traces of all N answers, float32 [n, N, 11]."""
        nothing = np.zeros((0, self.recipe.settings.samples, len(TRACE_HEADER)), np.float32)
        return np.concatenate([nothing, *self._rows])

    def final_recipe(self) -> Recipe:
        """The recipe, with the engine that ran the steps, and the step at which the run was stopped, if it was."""
        ran = {} if self.result is None else {"engine": self.result.engine}
        recipe = replace(self.recipe, engine={**self.recipe.engine, **ran})
        return recipe if self.complete else replace(recipe, stopped_at=self.stopped_at)

    def _round_name(self, step: Step) -> str:
        if step.inverting:
            return "inverted"
        return "pixels" if self.recipe.settings.method == "pixels" else f"round {step.round}"

    def _add_trace(self, step: Step) -> None:
        trace = step.trace[:, : self.recipe.settings.samples]
        done = np.broadcast_to(
            step.first + np.arange(len(trace), dtype=np.float32)[:, None, None], (*trace.shape[:2], 1)
        )
        rounds = np.full_like(done, -1 if step.inverting else step.round)
        self._rows.append(np.concatenate([rounds, done - (step.done - step.step), done, trace], 2))

    def _add_frame(self, preview: np.ndarray) -> None:
        if self._seen % self._every == 0:
            self._frames.append(preview)
        self._last = preview
        self._seen += 1
        if len(self._frames) > MOST_FRAMES:
            self._frames, self._every = self._frames[::2], 2 * self._every
