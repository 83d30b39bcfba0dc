"""What a weights file is, found without reading the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ilo.text.words import shown
from ilo.weights.lazy import LazyTensor, ReadError, read_weights

MOST_REASONS = 20  # why a file cannot be used


@dataclass
class Description:
    """A weights file before it is loaded."""

    format: str  # for people: what wrote it
    size: int  # bytes of the file
    tensors: dict[str, LazyTensor] = field(default_factory=dict)  # under the names of the studio's network
    filled: dict[str, Tensor] = field(default_factory=dict)  # what the network needs and the file leaves open
    about: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # every reason why it cannot be used

    @property
    def role(self) -> str:
        """What it would be used as, for people; empty where the file leaves it open."""
        return ""

    def compare(self, wanted: Mapping[str, Tensor], optional: Sequence[str] = ()) -> None:
        """Add to the problems how its tensors differ from those of a network.

        Args:
            wanted: the network's state, on the meta device.
            optional: names that may be missing.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in (self.filled | self.tensors).items()}
        self.problems += differences(wanted, shapes, optional)

    def weights(self) -> dict[str, Tensor]:
        """All tensors as float32.

        Raises:
            ReadError: there is a problem, or the numbers are missing or not finite.
        """
        if self.problems:
            raise ReadError(self.problems[0])
        return read_weights(self.tensors, self.size) | self.filled


def differences(
    wanted: Mapping[str, Tensor], given: Mapping[str, Sequence[int]], optional: Sequence[str] = ()
) -> list[str]:
    """How named shapes differ from a network's: a sentence for each of the first ones."""
    found = [f"{name} is missing" for name in wanted if name not in given and name not in optional]
    found += [f"{shown(name)} does not belong to the network" for name in sorted(given.keys() - wanted.keys())]
    found += [
        f"{name} has shape {list(shape)}; the network has {list(wanted[name].shape)}"
        for name, shape in given.items()
        if name in wanted and tuple(shape) != tuple(wanted[name].shape)
    ]
    return found if len(found) <= MOST_REASONS else [*found[:MOST_REASONS], f"{len(found) - MOST_REASONS} more such"]
