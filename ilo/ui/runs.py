"""Solves in the background: one at a time, in the order in which they were asked for, at most one for each session.

All solves share one thread, so a second visitor waits instead of halving the speed of the first, and a page that goes
away can never take the solver's state with it. The page only looks at what a run has to show.
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

PREVIEW_SECONDS = 0.14  # each preview costs a tenth of a second where the browser shares the cores
RESULT_SECONDS = 1.0
Status = Literal["waiting", "running", "done", "stopped", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What to solve."""

    problem: Problem | Guidance
    settings: SolverSettings
    input_image: Tensor | None
    damaged_here: bool
    measurement_seed: int = 0
    placed: Placed | None = None  # where the picture lies in a photograph
    shown: Placed | None = None  # the same in a smaller copy, to be looked at

    @property
    def total_steps(self) -> int:
        """Optimisation steps of the whole run, as `Step.total` will have them."""
        if isinstance(self.problem, Guidance):
            return total_steps(self.settings, self.input_image is not None)
        return self.settings.total_steps


class Run:
    """One solve: what it has found so far, and a way to stop it. All methods may be called from any thread."""

    def __init__(self, order: Order):
        self.order = order
        self.status: Status = "waiting"
        self.step: Step | None = None
        self.recorder: Recorder | None = None
        self.usage: dict[int, dict[str, float]] = {}  # round → ball → share of its radius
        self.error: str | None = None  # a sentence for the user, None if the failure is ours
        self.started = self.ended = 0.0
        self.turn_over = False  # it was ended because others wait
        self.stopping = threading.Event()
        self._news = threading.Condition()
        self._version = 0

    @property
    def live(self) -> bool:
        return self.status in ("waiting", "running")

    def stop(self) -> None:
        """Ask the run to end: at once if it still waits, otherwise after the step it is in."""
        with self._news:
            self.stopping.set()
            if self.status == "waiting":
                self.status = "stopped"
            self._version += 1
            self._news.notify_all()

    def begin(self) -> bool:
        """Whether the wait is over and the run still wanted."""
        with self._news:
            if self.status != "waiting":
                return False
            self.status = "running"
            self.started = time.monotonic()
            self._version += 1
            self._news.notify_all()
        return True

    def wait(self, seen: int, timeout: float) -> int:
        """Wait until there is something new since version `seen`, or `timeout` seconds; the version that there is."""
        with self._news:
            self._news.wait_for(lambda: self._version != seen, timeout)
            return self._version

    def publish(self) -> None:
        with self._news:
            self._version += 1
            self._news.notify_all()


def warm_up(model: Model, perceptual: Perceptual | None = None, rounds: int | None = None) -> Iterator[Step]:
    """A step in each round of the usual preset, or in the first `rounds` of them."""
    side = model.resolution
    plans = [replace(plan, steps=1) for plan in preset().rounds[: model.layers][:rounds]]
    problem = Problem.damage(torch.zeros(1, 3, side, side), undamaged(side))
    yield from solve(model, problem, SolverSettings(tuple(plans)), perceptual=perceptual)


class Runs:
    """All runs of a page.

    Args:
        model: what solves.
        perceptual: the perceptual distance, None for none.
        limits: of the steps of a run, its time, and the runs in line.
    """

    def __init__(self, model: Model, perceptual: Perceptual | None = None, limits: Limits | None = None):
        self._model, self._perceptual, self.limits = model, perceptual, limits or Limits()
        self._lock = threading.Lock()
        self._line: list[tuple[str, Run]] = []  # session, run; in the order of their start
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._loop, name="solver", daemon=True)
        self._worker.start()
        atexit.register(self.close)

    def start(self, session: str, order: Order) -> Run | None:
        """Line up a run; None if this session has a live one already.

        Raises:
            SettingsError: it has too many steps, or too many runs wait.
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
        """Raises `SettingsError` if a run may not have so many steps."""
        if 0 < self.limits.steps < steps:
            raise SettingsError(text.too_many_steps(steps, self.limits.steps))

    def check_line(self) -> None:
        """Raises `SettingsError` if too many runs wait for another one to be lined up."""
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
        """How many runs have to end before this one begins."""
        with self._lock:
            live = [other for _, other in self._live()]
        return live.index(run) if run in live else 0

    def forget(self, run: Run) -> None:
        """Keep nothing of a run that has ended or will end at its next step."""
        with self._lock:
            self._line = [(name, other) for name, other in self._line if other is not run or other.status == "running"]

    def stop(self, session: str) -> None:
        run = self.of(session)
        if run is not None:
            run.stop()

    def close(self) -> None:
        """Stop everything, for good."""
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
            del run  # its picture must not wait for the next one

    def _warm_up(self) -> None:
        """So that the first visitor does not wait for what torch sets up on first use."""
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
        """Stop a run that has taken its time, if others wait."""
        if time.monotonic() - run.started > self.limits.turn_seconds and not run.stopping.is_set():
            with self._lock:
                others = any(other.status == "waiting" for _, other in self._line)
            if others:
                run.turn_over = True
                run.stop()

    def _solve(self, run: Run) -> None:
        order = run.order
        perceptual = self._perceptual if isinstance(order.problem, Problem) else None
        recipe = make_recipe(
            self._model,
            order.problem,
            order.settings,
            damaged_here=order.damaged_here,
            measurement_seed=order.measurement_seed,
            input_image=order.input_image,
            perceptual=perceptual,
        )
        run.recorder = Recorder(recipe, order.problem, order.input_image, order.placed)
        clock, results = every(PREVIEW_SECONDS), every(RESULT_SECONDS)

        # After Stop the very next step is due, with its result: the wait is one step, and nothing is lost.
        def due() -> bool:
            self._end_turn(run)
            return run.stopping.is_set() or clock()

        def due_result() -> bool:
            return run.stopping.is_set() or results()

        if isinstance(order.problem, Guidance):
            steps = morph(self._model, order.problem, order.settings, order.input_image, due, due_result)
        else:
            steps = solve(self._model, order.problem, order.settings, due, perceptual, due_result)
        for step in steps:
            run.recorder.add(step)
            if not step.inverting:
                run.usage[step.round] = {ball: float(share[0]) for ball, share in step.usage.items()}
            run.step = step
            run.publish()
            if run.stopping.is_set():
                break
