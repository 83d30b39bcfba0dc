"""What reading one file may cost, whatever is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ilo.weights.lazy import Extent, ReadError

# The largest published files (FFHQ at 1024 px; a ResNet-50 with its optimiser) need a tenth to a quarter of each.
INSTRUCTIONS = 300_000
TEXT = 4_000_000
ITEMS = 150_000
PICKLES = 6_000
TENSORS = 20_000
SECONDS = 4.0
PACE = 100e6  # bytes a second that the slowest format, protocol 2, is decoded at
EVERY = 1024  # instructions between two looks at the clock


@dataclass
class Budget:
    """One for each file, handed through all of its readers; a file that spends more is refused."""

    copied: int  # bytes that are kept in memory before it is known whether they are wanted
    instructions: int = INSTRUCTIONS  # of all pickles together
    text: int = TEXT  # bytes of strings
    items: int = ITEMS  # copied from one container to another
    pickles: int = PICKLES  # inside the pickle
    tensors: int = TENSORS
    seconds: float = SECONDS  # of this thread's processor time, so that a busy machine refuses nothing
    _began: float = field(default_factory=time.thread_time)

    @classmethod
    def of(cls, data: Extent) -> Budget:
        """For a file: as many bytes may be kept as it has, and a large one may take longer."""
        return cls(copied=len(data), seconds=SECONDS + len(data) / PACE)

    def spend(self, what: str, amount: int = 1) -> None:
        """Take from the budget called `what`.

        Raises:
            ReadError: it is used up.
        """
        left = getattr(self, what) - amount
        setattr(self, what, left)
        if left < 0:
            raise ReadError(f"it holds more {what} than any network's file")
        if what == "instructions" and left % EVERY == 0:
            self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        """Raise a ReadError if the time is over."""
        if time.thread_time() - self._began > self.seconds:
            raise ReadError(f"reading it takes more than {self.seconds:g} seconds")
