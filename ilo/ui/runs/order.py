"""What a visitor orders, and the run that answers it."""

from __future__ import annotations

import contextvars
import threading
import time
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ilo.guidance import Guidance
from ilo.morph import total_steps
from ilo.photos.faces import Placed
from ilo.problem import Problem
from ilo.records.recipe import Recipe
from ilo.records.recorder import Recorder
from ilo.settings import SolverSettings
from ilo.state import Step

Status = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Order:
    """A problem, the settings of its run, and the model that solves it. All its tensors are on the CPU."""

    problem: Problem | Guidance
    settings: SolverSettings
    input_image: Tensor | None
    damaged_here: bool
    model: str  # id
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
        self.context = contextvars.copy_context()  # of the visitor's request; ZeroGPU reads in it whose quota to use
        self.status: Status = "waiting"
        self.step: Step | None = None
        self.recorder: Recorder | None = None
        self.usage: dict[int, dict[str, float]] = {}  # round → ball → share of its radius
        self.error: str | None = None  # a message for the user; None for a bug
        self.started = self.ended = 0.0
        self.turn_over = False  # it was stopped because others wait
        self.stopping = threading.Event()
        self._kept: Step | None = None  # the last step with a result
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
            self._tell()

    def begin(self) -> bool:
        """Start a waiting run; False if it was stopped before."""
        with self._news:
            if self.status != "waiting":
                return False
            self.status = "running"
            self.started = time.monotonic()
            self._tell()
        return True

    def take(self, news: Recipe | Step) -> None:
        """Take what a machine sends: the recipe first, then the steps."""
        if isinstance(news, Recipe):
            self.recorder = Recorder(news, self.order.problem, self.order.input_image, self.order.placed)
            return
        assert self.recorder is not None
        self.recorder.add(news)
        if not news.inverting:
            self.usage[news.round] = {ball: float(share[0]) for ball, share in news.usage.items()}
        if news.result is not None:
            self._kept = news
        with self._news:
            self.step = news
            self._tell()

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run with its last result; `error` is a message for the user."""
        with self._news:
            self.step = self._kept or self.step  # a run that was cut off may have shown later steps
            self.ended = time.monotonic()
            self.status, self.error = status, error
            self._tell()

    def wait(self, seen: int, timeout: float) -> int:
        """Wait for news since version `seen`, at most `timeout` seconds; returns the current version."""
        with self._news:
            self._news.wait_for(lambda: self._version != seen, timeout)
            return self._version

    def _tell(self) -> None:
        self._version += 1
        self._news.notify_all()
