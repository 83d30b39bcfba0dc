"""Background runs: one at a time, first come first served, at most one per session.

All runs share one thread, so a second visitor waits instead of halving the speed of the first, and a closed page cannot
harm the state of the solver. The page only reads the state of a run.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Literal

import torch
from torch import Tensor

from ilo.engine.background import Background
from ilo.engine.compiling import batch_of
from ilo.guidance import Guidance
from ilo.methods import preset
from ilo.morph import morph, total_steps
from ilo.operators import undamaged
from ilo.perceptual.base import Perceptual
from ilo.photos.faces import Placed
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records.recipe import make_recipe
from ilo.records.recorder import Recorder
from ilo.settings import SettingsError, SolverSettings
from ilo.solver import every, solve
from ilo.state import Step
from ilo.ui import text
from ilo.ui.visitors.limits import Limits

PREVIEW_SECONDS = 0.14  # a preview costs 0.1 s if the browser shares the cores
RESULT_SECONDS = 1.0
Status = Literal["waiting", "running", "done", "stopped", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A problem and the settings of its run."""

    problem: Problem | Guidance
    settings: SolverSettings
    input_image: Tensor | None
    damaged_here: bool
    measurement_seed: int = 0
    placed: Placed | None = None  # place of the picture in a photograph
    shown: Placed | None = None  # the same in the smaller copy that the page shows

    @property
    def total_steps(self) -> int:
        """Number of optimisation steps of the whole run, equal to `Step.total`."""
        if isinstance(self.problem, Guidance):
            return total_steps(self.settings, self.input_image is not None)
        return self.settings.total_steps


class Run:
    """One run: its results so far, and a way to stop it. Any thread may call its methods."""

    def __init__(self, order: Order):
        self.order = order
        self.status: Status = "waiting"
        self.step: Step | None = None
        self.recorder: Recorder | None = None
        self.usage: dict[int, dict[str, float]] = {}  # round → ball → share of its radius
        self.error: str | None = None  # a message for the user; None for a bug
        self.started = self.ended = 0.0
        self.turn_over = False  # it was stopped because others wait
        self.stopping = threading.Event()
        self._news = threading.Condition()
        self._version = 0

    @property
    def live(self) -> bool:
        return self.status in ("waiting", "running")

    def stop(self) -> None:
        """Stop the run: at once if it is still waiting, otherwise after the current step."""
        with self._news:
            self.stopping.set()
            if self.status == "waiting":
                self.status = "stopped"
            self._version += 1
            self._news.notify_all()

    def begin(self) -> bool:
        """Start a waiting run; False if it was stopped before."""
        with self._news:
            if self.status != "waiting":
                return False
            self.status = "running"
            self.started = time.monotonic()
            self._version += 1
            self._news.notify_all()
        return True

    def wait(self, seen: int, timeout: float) -> int:
        """Wait for news since version `seen`, at most `timeout` seconds; returns the current version."""
        with self._news:
            self._news.wait_for(lambda: self._version != seen, timeout)
            return self._version

    def publish(self) -> None:
        with self._news:
            self._version += 1
            self._news.notify_all()


def warm_up(model: Model, perceptual: Perceptual | None = None, rounds: int | None = None) -> Iterator[Step]:
    """Run one step in each round of the default preset, or in its first `rounds` rounds."""
    side = model.resolution
    plans = [replace(plan, steps=1) for plan in preset().rounds[: model.layers][:rounds]]
    problem = Problem.damage(torch.zeros(1, 3, side, side), undamaged(side))
    yield from solve(model, problem, SolverSettings(tuple(plans)), perceptual=perceptual)


class Runs:
    """All runs of a page.

    Args:
        model: the generator.
        perceptual: the perceptual distance, or None.
        limits: maximum steps and time of a run, and length of the queue.
        background: the model's compiled variants, which a run uses if they are ready when it starts; None: there are
            none.
    """

    def __init__(
        self,
        model: Model,
        perceptual: Perceptual | None = None,
        limits: Limits | None = None,
        background: Background | None = None,
    ):
        self._background = background
        self._model, self._perceptual, self.limits = model, perceptual, limits or Limits()
        self._lock = threading.Lock()
        self._line: list[tuple[str, Run]] = []  # (session, run) in the order in which they start
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._loop, name="solver", daemon=True)
        self._worker.start()
        atexit.register(self.close)

    def start(self, session: str, order: Order) -> Run | None:
        """Queue a run; None if this session already has a live run.

        Raises:
            SettingsError: the run has too many steps, or too many runs are waiting.
        """
        self.check_steps(order.total_steps)
        run = Run(order)
        with self._lock:
            if any(name == session for name, _ in self._live()):
                return None
            self._check_line()
            self._line = [*self._live(), (session, run)]
            self._queue.put(run)
        return run

    def check_steps(self, steps: int) -> None:
        """Raises `SettingsError` if a run would take too many steps."""
        if 0 < self.limits.steps < steps:
            raise SettingsError(text.too_many_steps(steps, self.limits.steps))

    def check_line(self) -> None:
        """Raises `SettingsError` if the queue is full."""
        with self._lock:
            self._check_line()

    def _check_line(self) -> None:
        if len(self._live()) > self.limits.waiting:  # the first one does not wait
            raise SettingsError(text.line_full(self.limits.waiting))

    def _live(self) -> list[tuple[str, Run]]:
        return [(name, run) for name, run in self._line if run.live]

    def of(self, session: str) -> Run | None:
        """The live run of a session."""
        with self._lock:
            return next((run for name, run in self._live() if name == session), None)

    def ahead(self, run: Run) -> int:
        """Number of runs that must end before this one starts."""
        with self._lock:
            live = [other for _, other in self._live()]
        return live.index(run) if run in live else 0

    def forget(self, run: Run) -> None:
        """Remove a run that has ended or will end at its next step."""
        with self._lock:
            self._line = [(name, other) for name, other in self._line if other is not run or other.status == "running"]

    def stop(self, session: str) -> None:
        run = self.of(session)
        if run is not None:
            run.stop()

    def close(self) -> None:
        """Stop all runs and the worker thread."""
        with self._lock:
            line, self._line = self._line, []
        for _, run in line:
            run.stop()
        self._queue.put(None)
        self._worker.join(timeout=5)

    def _loop(self) -> None:
        self._warm_up()
        for run in iter(self._queue.get, None):
            if run.begin():
                self._work(run)
            self.forget(run)
            del run  # release its picture before the next run comes

    def _warm_up(self) -> None:
        """Run a few steps, so that the first visitor does not wait for torch's set-up."""
        try:
            for _ in warm_up(self._model, self._perceptual):
                pass
        except Exception:
            log.exception("warming up failed")

    def _work(self, run: Run) -> None:
        status: Status = "failed"
        try:
            self._solve(run)
            status = "done" if run.recorder is not None and run.recorder.complete else "stopped"
        except SettingsError as error:
            run.error = str(error)
        except Exception:
            log.exception("a run failed")
        run.ended = time.monotonic()
        run.status = status
        run.publish()

    def _end_turn(self, run: Run) -> None:
        """Stop a run that has used its time while others wait."""
        if time.monotonic() - run.started > self.limits.turn_seconds and not run.stopping.is_set():
            with self._lock:
                others = any(other.status == "waiting" for _, other in self._line)
            if others:
                run.turn_over = True
                run.stop()

    def _solve(self, run: Run) -> None:
        order = run.order
        perceptual = self._perceptual if isinstance(order.problem, Problem) else None
        model = self._model
        if self._background is not None:
            model = self._background.model(order.settings, batch_of(len(order.problem), order.settings))
        recipe = make_recipe(
            model,
            order.problem,
            order.settings,
            damaged_here=order.damaged_here,
            measurement_seed=order.measurement_seed,
            input_image=order.input_image,
            perceptual=perceptual,
        )
        run.recorder = Recorder(recipe, order.problem, order.input_image, order.placed)
        clock, results = every(PREVIEW_SECONDS), every(RESULT_SECONDS)

        # After Stop, the next step is shown with its result, so the wait is one step and nothing is lost.
        def due() -> bool:
            self._end_turn(run)
            return run.stopping.is_set() or clock()

        def due_result() -> bool:
            return run.stopping.is_set() or results()

        if isinstance(order.problem, Guidance):
            steps = morph(model, order.problem, order.settings, order.input_image, due, due_result)
        else:
            steps = solve(model, order.problem, order.settings, due, perceptual, due_result)
        for step in steps:
            run.recorder.add(step)
            if not step.inverting:
                run.usage[step.round] = {ball: float(share[0]) for ball, share in step.usage.items()}
            run.step = step
            run.publish()
            if run.stopping.is_set():
                break
