"""Background runs: one at a time on each machine, first come first served, at most one per session.

Each machine has a thread of its own, and all threads take runs from one queue. So a visitor waits instead of halving
the speed of another, and a closed page cannot harm the state of the solver. The page only reads the state of a run.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import traceback
from collections.abc import Sequence
from queue import SimpleQueue

from ilo.engine import devices
from ilo.settings import SettingsError
from ilo.ui import text
from ilo.ui.runs.machine import Facts, Machine, Maker, damage, release
from ilo.ui.runs.order import Order, Run, Status
from ilo.ui.visitors.limits import Limits

log = logging.getLogger(__name__)


class Runs:
    """All runs of a page.

    A machine that runs out of memory, or whose device fails, is made anew; if the device does not work any more, its
    thread ends and the others go on.

    Args:
        makers: make one machine each; called here at the start, and again when a machine must be replaced.
        limits: maximum steps and time of a run, and length of the queue.

    Raises:
        SettingsError: a machine cannot be made.
    """

    def __init__(self, makers: Sequence[Maker], limits: Limits | None = None):
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._line: list[tuple[str, Run]] = []  # (session, run) in the order in which they start
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        made = [[make()] for make in makers]
        self.facts: list[Facts] = [machine.facts for (machine,) in made]
        self._working = len(made)  # machines that still work
        self._workers = [
            threading.Thread(target=self._loop, args=pair, name="solver", daemon=True)
            for pair in zip(made, makers, strict=True)
        ]
        for worker in self._workers:
            worker.start()
        atexit.register(self.close)

    def start(self, session: str, order: Order) -> Run | None:
        """Queue a run; None if this session already has a live run.

        Raises:
            SettingsError: the run has too many steps or a number format that is not offered, too many runs are waiting,
                or no machine works any more.
        """
        self.check_steps(order.total_steps)
        self.check_format(order.settings.dtype)
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

    def check_format(self, dtype: str) -> None:
        """Raises `SettingsError` if the machines do not offer a number format."""
        offered = self.facts[0].formats
        if dtype not in offered:
            raise SettingsError(text.format_not_offered(dtype, offered))

    def check_line(self) -> None:
        """Raises `SettingsError` if the queue is full, or if no machine works any more."""
        with self._lock:
            self._check_line()

    def _check_line(self) -> None:
        if not self._working:
            raise SettingsError(text.NO_MACHINE)
        if len(self._live()) >= self.limits.waiting + self._working:  # the first ones do not wait
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
            return max(0, live.index(run) + 1 - self._working) if run in live else 0

    def forget(self, run: Run) -> None:
        """Remove a run that has ended or will end at its next step."""
        with self._lock:
            self._line = [(name, other) for name, other in self._line if other is not run or other.status == "running"]

    def stop(self, session: str) -> None:
        run = self.of(session)
        if run is not None:
            run.stop()

    def close(self) -> None:
        """Stop all runs and the worker threads."""
        with self._lock:
            line, self._line = self._line, []
        for _, run in line:
            run.stop()
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join(timeout=5)

    # What a worker's thread does.

    def _loop(self, made: list[Machine], make: Maker) -> None:
        self._warm_up(made[0])
        machine: Machine | None = made.pop()  # nothing else holds it, so that its memory can be freed
        while machine is not None and (run := self._queue.get()) is not None:
            broken = run.begin() and run.context.run(self._work, machine, run)
            self.forget(run)
            del run  # release its picture before the next run comes
            if broken:
                facts, machine = machine.facts, None
                machine = self._replaced(facts, make)

    def _warm_up(self, machine: Machine) -> None:
        try:
            machine.warm_up()
        except Exception:
            log.exception("warming up %s failed", machine.facts.name)

    def _work(self, machine: Machine, run: Run) -> bool:
        """Make a run; returns whether the machine must be replaced."""
        status: Status = "failed"
        words, broken = None, False
        try:
            self._solve(machine, run)
            status = "done" if run.recorder is not None and run.recorder.complete else "stopped"
        except SettingsError as error:
            words = str(error)
        except Exception as error:
            # As text: a traceback object would hold the machine's memory.
            log.error("a run failed on %s\n%s", machine.facts.name, traceback.format_exc())
            found = damage(error)
            words = text.DAMAGED[found] if found else None
            broken = found is not None and machine.facts.device is not None
        run.end(status, words)
        return broken

    def _solve(self, machine: Machine, run: Run) -> None:
        def stopping() -> bool:
            self._end_turn(run)
            return run.stopping.is_set()

        for news in machine.solve(run.order, stopping):
            run.take(news)

    def _end_turn(self, run: Run) -> None:
        """Stop a run that has used its time while others wait."""
        if time.monotonic() - run.started > self.limits.turn_seconds and not run.stopping.is_set():
            with self._lock:
                others = any(other.status == "waiting" for _, other in self._line)
            if others:
                run.turn_over = True
                run.stop()

    def _replaced(self, facts: Facts, make: Maker) -> Machine | None:
        """A new machine on a device where one has failed; None if the device does not work any more."""
        release()
        problem = devices.failure(str(facts.device))
        if problem is None:
            try:
                machine = make()
                machine.warm_up()
            except Exception as error:
                problem = str(error)
            else:
                log.warning("%s (%s) was set up again after a run failed.", facts.device, facts.name)
                return machine
        log.error("%s (%s) is not used any more: %s.", facts.device, facts.name, problem.rstrip("."))
        self._retire()
        return None

    def _retire(self) -> None:
        """End a worker. After the last one, the waiting runs cannot start any more."""
        with self._lock:
            self._working -= 1
            waiting = [] if self._working else [run for _, run in self._line]
        if not self._working:
            log.error("No device is left for runs; start the page again.")
        for run in waiting:
            if run.begin():
                run.end("failed", text.NO_MACHINE)
            self.forget(run)
