"""Limits on the time and memory spent reading one untrusted file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ilo.weights.lazy import Extent, ReadError

# The largest published files (FFHQ at 1024 px; a ResNet-50 with its optimiser) use 10 to 25 % of each limit.
INSTRUCTIONS = 300_000
TEXT = 4_000_000
ITEMS = 150_000
PICKLES = 6_000
TENSORS = 20_000
SECONDS = 4.0
PACE = 100e6  # bytes per second at which the slowest format, pickle protocol 2, is decoded
EVERY = 1024  # instructions between two checks of the clock


@dataclass
class Budget:
    """What is left of one file's limits, shared by all its readers; a file that exceeds a limit is refused."""

    copied: int  # bytes that may be kept in memory before it is known whether they are needed
    instructions: int = INSTRUCTIONS  # instructions of all pickles together
    text: int = TEXT  # bytes of strings
    items: int = ITEMS  # items copied from one container to another
    pickles: int = PICKLES  # pickles nested inside the pickle
    tensors: int = TENSORS
    seconds: float = SECONDS  # CPU time of this thread, so a busy machine does not refuse valid files
    _began: float = field(default_factory=time.thread_time)

    @classmethod
    def of(cls, data: Extent) -> Budget:
        """The budget for a file: bytes kept are limited to its size, and a large file may take longer."""
        return cls(copied=len(data), seconds=SECONDS + len(data) / PACE)

    def spend(self, what: str, amount: int = 1) -> None:
        """Use up some of the budget named `what`.

        Raises:
            ReadError: the budget is used up.
        """
        left = getattr(self, what) - amount
        setattr(self, what, left)
        if left < 0:
            raise ReadError(f"it holds more {what} than any network's file")
        if what == "instructions" and left % EVERY == 0:
            self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        """Raises `ReadError` if the time is used up."""
        if time.thread_time() - self._began > self.seconds:
            raise ReadError(f"reading it takes longer than {self.seconds:g} seconds")
