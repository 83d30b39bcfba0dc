"""The solver's interface to a generative prior: a generator that can be split before any of its layers.

A prior with K layers is G = G_K ∘ … ∘ G_1. Round 0 searches its latents; round k ≥ 1 searches the state that enters
layer k; in round K that state is the picture itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ilo.settings import SolverSettings

# What a searched tensor's values mean. "unit": drawn from N(0, 1). "features": their scale is the generator's choice.
# "pixels": zero is grey, so that a share of their norm means nothing.
Kind = Literal["unit", "features", "pixels"]
BALLS = ("features", "latents", "noise")  # kinds of l1 balls, with a radius each in a round's settings


@dataclass(frozen=True)
class State:
    """All variables of B samples at one point of a run, from which the prior renders the pictures."""

    values: Mapping[str, Tensor]  # prior's name of a variable → [B, …]
    layer: int = 0  # the layer that the features enter; 0: there are no features

    def __len__(self) -> int:
        """Number of samples B."""
        return len(next(iter(self.values.values())))

    def changed(self, **values: Tensor) -> State:
        """A copy with some values replaced."""
        return replace(self, values={**self.values, **values})

    def expand(self, batch: int) -> State:
        """A state of one sample, repeated `batch` times."""
        return self._each(lambda t: t.repeat(batch, *[1] * (t.dim() - 1)))

    def to(self, device: torch.device | str) -> State:
        return self._each(lambda t: t.to(device))

    def cpu(self) -> State:
        """A copy on the CPU that shares no memory with this state."""
        return self._each(lambda t: t.detach().cpu().clone())

    def _each(self, change: Any) -> State:
        return replace(self, values={name: change(value) for name, value in self.values.items()})


class Searched(NamedTuple):
    """A tensor that a search moves."""

    ball: str  # one of BALLS: its radius applies to this tensor
    value: Tensor  # [B, …], starting point of the search
    sphere: tuple[int, ...] = ()  # dimensions whose norm is kept; empty for none
    kind: Kind = "unit"


class Prior(Protocol):
    """A generative prior; the solver uses nothing else of it.

    `settings` are those of the run; a prior reads the ones that concern it. `values` are the searched tensors, in the
    order of `searched`.
    """

    @property
    def id(self) -> str: ...

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file, for the recipe."""

    @property
    def resolution(self) -> int:
        """Pixels per side of the generated pictures, R."""

    @property
    def layers(self) -> int:
        """Number of layers K; round K searches the picture itself."""

    @property
    def device(self) -> torch.device: ...

    @property
    def engine(self) -> str:
        """How pictures are rendered, for the recipe: "eager", or "compiled" by `ilo.engine.compiling`."""

    def feature_count(self, layer: int) -> int:
        """Number of values in the features of one sample that enter a layer, 1 … K."""

    def draw(self, seed: int, batch: int = 1) -> State:
        """Draw a random starting state at layer 0; sample b uses seed + b, so a batch equals single runs."""

    def sample(self, seed: int, settings: SolverSettings, truncation: float = 1.0, batch: int = 1) -> State:
        """Draw a state at layer 0 from the generator's own distribution; `truncation` below 1 moves it to the mean."""

    def searched(self, state: State, settings: SolverSettings) -> list[Searched]:
        """The tensors that the round at the state's layer searches."""

    def replaced(self, state: State, values: Sequence[Tensor], settings: SolverSettings) -> State:
        """The state with new values for the searched tensors."""

    def render(self, state: State, settings: SolverSettings) -> Tensor:
        """The pictures [B, 3, R, R], approximately in [−1, 1]."""

    def enter(self, state: State, layer: int, settings: SolverSettings) -> State:
        """The same point, expressed at the input of a deeper layer; the picture stays the same. Differentiable."""

    def distance(self, state: State, other: State) -> Tensor:
        """Distance [B] between what two states give to their layer, relative to `other`; mean squares."""

    def memory_needed(self, settings: SolverSettings, batch: int = 1, frugal: bool = False) -> int:
        """Bytes that a run needs in addition to the weights; `frugal`: with the prior returned by `frugal()`."""

    def frugal(self) -> Prior:
        """An equivalent prior that needs less memory and more time."""

    def in_format(self, dtype: str) -> Prior:
        """The same prior, computing in the number format `dtype` (see `SolverSettings.dtype`)."""
