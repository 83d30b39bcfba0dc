"""The visitors of the page: which sessions are connected, and which have left without notice.

A browser keeps one connection open while its tab exists (the heartbeat) and another one during an action (the stream,
which carries the updates of a run). `ilo.ui.visitors.door` reports when each of them opens and closes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ilo.ui.visitors.limits import Limits


@dataclass(eq=False)  # compared by identity
class Line:
    """An open connection to a visitor.

    Args:
        stream: True for a stream, False for a heartbeat.
        stuck: the time (`time.monotonic`) since which a message waits because the other end does not read; None if no
            message waits.
    """

    stream: bool
    stuck: float | None = None


class Visitors:
    """All sessions of a page. Any thread may call its methods.

    If no server reports connections (`served` is False), every session counts as connected.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.served = False
        self._lock = threading.Lock()
        self._lines: dict[str, list[Line]] = {}
        self._last: dict[str, float] = {}  # session → time of its last contact
        self._leaving: list[Callable[[str], None]] = []

    def when_gone(self, leave: Callable[[str], None]) -> None:
        """Call `leave` with each session that is dropped."""
        self._leaving.append(leave)

    def asked(self, session: str) -> None:
        """Note a request of a session."""
        with self._lock:
            self._last[session] = time.monotonic()

    @contextmanager
    def listening(self, session: str, stream: bool) -> Iterator[Line]:
        """Context manager for the time in which a connection of a session is open."""
        line = Line(stream)
        with self._lock:
            self._lines.setdefault(session, []).append(line)
        try:
            yield line
        finally:
            with self._lock:
                heard = time.monotonic() if line.stuck is None else line.stuck
                self._last[session] = max(self._last.get(session, 0.0), heard)
                self._lines[session].remove(line)
                if not self._lines[session]:
                    del self._lines[session]

    def reads(self, session: str) -> bool:
        """Whether the browser of a session reads its messages."""
        with self._lock:
            return not self.served or any(line.stream and line.stuck is None for line in self._lines.get(session, ()))

    def away(self, session: str) -> float:
        """Seconds since the last contact with a session; 0 while it is connected. A new session starts at 0."""
        with self._lock:
            return self._away(session, time.monotonic())

    def _away(self, session: str, now: float) -> float:
        if not self.served:
            return 0.0
        heard = [now if line.stuck is None else line.stuck for line in self._lines.get(session, ())]
        return now - max(self._last.setdefault(session, now), *heard, 0.0)

    def unheard(self, session: str) -> bool:
        """Whether a session has been away for so long that its run should stop."""
        return self.away(session) > self.limits.unheard_seconds

    def gone(self) -> list[str]:
        """The sessions to drop: those away for too long, and the longest absent ones beyond the limit."""
        with self._lock:
            now = time.monotonic()
            away = {session: self._away(session, now) for session in {*self._last, *self._lines}}
        absent = sorted((s for s in away if away[s] > self.limits.unheard_seconds), key=lambda s: -away[s])
        too_many = max(0, len(away) - self.limits.sessions)
        return [s for i, s in enumerate(absent) if i < too_many or away[s] > self.limits.session_seconds]

    def forget(self, session: str) -> None:
        """Delete all data of a session."""
        for leave in self._leaving:
            leave(session)
        with self._lock:
            self._last.pop(session, None)
