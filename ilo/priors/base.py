"""What the solver needs of a generative prior: a generator that can be entered before each of its layers.

A prior with K layers is G = G_K ∘ … ∘ G_1. Round 0 searches its latents; round k ≥ 1 searches the state that enters
layer k; behind the last layer that state is the picture itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ilo.settings import SolverSettings

BALLS = ("features", "latents", "noise")  # whose radii a round's settings give


@dataclass(frozen=True)
class State:
    """The variables of all rounds at one point of a run, of B samples. Its prior makes the picture of it."""

    values: Mapping[str, Tensor]  # by the prior's own names, [B, …] each
    layer: int = 0  # before which the features stand; 0: there are none

    def __len__(self) -> int:
        """B, the number of samples."""
        return len(next(iter(self.values.values())))

    def changed(self, **values: Tensor) -> State:
        """The same with other values."""
        return replace(self, values={**self.values, **values})

    def expand(self, batch: int) -> State:
        """A state of one sample, repeated."""
        return self._each(lambda t: t.repeat(batch, *[1] * (t.dim() - 1)))

    def to(self, device: torch.device | str) -> State:
        return self._each(lambda t: t.to(device))

    def cpu(self) -> State:
        """A copy on the CPU that later steps do not change."""
        return self._each(lambda t: t.detach().cpu().clone())

    def _each(self, change: Any) -> State:
        return replace(self, values={name: change(value) for name, value in self.values.items()})


class Searched(NamedTuple):
    """A tensor that a search moves."""

    ball: str  # one of BALLS: whose radius holds for it
    value: Tensor  # [B, …], where the search begins
    sphere: tuple[int, ...] = ()  # dimensions whose norm is kept; empty for none


class Prior(Protocol):
    """A generative prior. Nothing in the solver knows more of one than this.

    `settings` are a run's; a prior reads what concerns it. `values` are the searched tensors, in the order in which
    `searched` or `range_searched` names them.
    """

    @property
    def id(self) -> str: ...

    @property
    def sha256(self) -> str:
        """Of the weights, for the recipe."""

    @property
    def resolution(self) -> int:
        """R, pixels per side of its pictures."""

    @property
    def layers(self) -> int:
        """K, the number of layers; round K searches the picture itself."""

    @property
    def device(self) -> torch.device: ...

    def draw(self, seed: int, batch: int = 1) -> State:
        """A random start at layer 0; sample b comes from seed + b, so that a batch equals its single runs."""

    def sample(self, seed: int, settings: SolverSettings, truncation: float = 1.0, batch: int = 1) -> State:
        """What the generator itself draws, at layer 0; with `truncation` below 1 nearer to its average."""

    def searched(self, state: State, settings: SolverSettings) -> list[Searched]:
        """What the round at the state's layer searches."""

    def replaced(self, state: State, values: Sequence[Tensor], settings: SolverSettings) -> State:
        """The state with other values of what is searched there."""

    def render(self, state: State, settings: SolverSettings) -> Tensor:
        """The picture [B, 3, R, R], about [−1, 1]."""

    def enter(self, state: State, layer: int, settings: SolverSettings) -> State:
        """The same point before a deeper layer; the picture stays the same."""

    def range_searched(self, state: State) -> list[Searched]:
        """What the features of a state depend on, if they lie in the range of the layers before them (line 5)."""

    def in_range(self, state: State, values: Sequence[Tensor], settings: SolverSettings) -> State:
        """The state at the same layer whose features those layers make of `values` (line 6)."""

    def distance(self, state: State, other: State) -> Tensor:
        """How far the features of two states at one layer are apart, [B]: mean squared."""

    def memory_needed(self, settings: SolverSettings, batch: int = 1, frugal: bool = False) -> int:
        """Bytes that a run takes beside the weights; `frugal`: by the prior that `frugal()` gives."""

    def frugal(self) -> Prior:
        """The same function, which needs less memory and more time."""

    def in_format(self, dtype: str) -> Prior:
        """The same prior computing in a number format of `SolverSettings.dtype`."""
