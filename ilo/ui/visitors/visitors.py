"""Who is on the page: which sessions somebody listens to, and which have gone without a word.

A browser keeps one connection open as long as its tab exists (the heartbeat) and another one while something is going
on (the stream, by which a run's news come). `ilo.ui.visitors.door` sees both come and go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ilo.ui.visitors.limits import Limits


@dataclass(eq=False)  # one is not another, even if they look alike
class Line:
    """An open connection to a visitor.

    Args:
        stream: whether it is a stream, rather than a heartbeat.
        stuck: since when (`time.monotonic`) something waits to be sent, because the other end does not read; None:
            nothing waits.
    """

    stream: bool
    stuck: float | None = None


class Visitors:
    """All sessions of a page. All methods may be called from any thread.

    Where no server reports who is there (`served` is False), everybody is taken to be listening.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.served = False
        self._lock = threading.Lock()
        self._lines: dict[str, list[Line]] = {}
        self._last: dict[str, float] = {}  # session → when it was last heard of
        self._leaving: list[Callable[[str], None]] = []

    def when_gone(self, leave: Callable[[str], None]) -> None:
        """Call `leave` with each session that is forgotten."""
        self._leaving.append(leave)

    def asked(self, session: str) -> None:
        """A session has sent a request."""
        with self._lock:
            self._last[session] = time.monotonic()

    @contextmanager
    def listening(self, session: str, stream: bool) -> Iterator[Line]:
        """While a connection of a session is open."""
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
        """Whether somebody takes what is sent to a session."""
        with self._lock:
            return not self.served or any(line.stream and line.stuck is None for line in self._lines.get(session, ()))

    def away(self, session: str) -> float:
        """Seconds since a session was last heard of; 0 while somebody listens. It begins when first asked about."""
        with self._lock:
            return self._away(session, time.monotonic())

    def _away(self, session: str, now: float) -> float:
        if not self.served:
            return 0.0
        heard = [now if line.stuck is None else line.stuck for line in self._lines.get(session, ())]
        return now - max(self._last.setdefault(session, now), *heard, 0.0)

    def unheard(self, session: str) -> bool:
        """Whether a session has been away for so long that its run is nobody's."""
        return self.away(session) > self.limits.unheard_seconds

    def gone(self) -> list[str]:
        """The sessions that are to be forgotten: away for too long, or the ones too many that were away the longest."""
        with self._lock:
            now = time.monotonic()
            away = {session: self._away(session, now) for session in {*self._last, *self._lines}}
        absent = sorted((s for s in away if away[s] > self.limits.unheard_seconds), key=lambda s: -away[s])
        too_many = max(0, len(away) - self.limits.sessions)
        return [s for i, s in enumerate(absent) if i < too_many or away[s] > self.limits.session_seconds]

    def forget(self, session: str) -> None:
        """Keep nothing of a session."""
        for leave in self._leaving:
            leave(session)
        with self._lock:
            self._last.pop(session, None)
