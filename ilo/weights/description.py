"""Describing a weights file without reading the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ilo.text.words import shown
from ilo.weights.lazy import LazyTensor, ReadError, read_weights

MOST_REASONS = 20  # maximum number of problems listed for a file


@dataclass
class Description:
    """A weights file before loading."""

    format: str  # file format, in words
    size: int  # size of the file in bytes
    tensors: dict[str, LazyTensor] = field(default_factory=dict)  # its tensors, under the studio's parameter names
    filled: dict[str, Tensor] = field(default_factory=dict)  # tensors that the network needs and the file lacks
    about: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # every reason why it cannot be used

    @property
    def role(self) -> str:
        """The kind of model in words; empty if the file does not say."""
        return ""

    def compare(self, wanted: Mapping[str, Tensor], optional: Sequence[str] = ()) -> None:
        """Compare the tensors with those of a network, and add the differences to the problems.

        Args:
            wanted: state dict of the network, on the meta device.
            optional: names of tensors that may be missing.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in (self.filled | self.tensors).items()}
        self.problems += differences(wanted, shapes, optional)

    def weights(self) -> dict[str, Tensor]:
        """Read all tensors as float32.

        Raises:
            ReadError: the description has problems, or numbers are missing or not finite.
        """
        if self.problems:
            raise ReadError(self.problems[0])
        return read_weights(self.tensors, self.size) | self.filled


def differences(
    wanted: Mapping[str, Tensor], given: Mapping[str, Sequence[int]], optional: Sequence[str] = ()
) -> list[str]:
    """Differences between the shapes in a file and a network's, one sentence each, for the first few."""
    found = [f"{name} is missing" for name in wanted if name not in given and name not in optional]
    found += [f"{shown(name)} does not belong to the network" for name in sorted(given.keys() - wanted.keys())]
    found += [
        f"{name} has shape {list(shape)}; the network has {list(wanted[name].shape)}"
        for name, shape in given.items()
        if name in wanted and tuple(shape) != tuple(wanted[name].shape)
    ]
    return found if len(found) <= MOST_REASONS else [*found[:MOST_REASONS], f"{len(found) - MOST_REASONS} more such"]
