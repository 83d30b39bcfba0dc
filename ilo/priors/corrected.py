"""A prior that adds fixed corrections to the features which enter its layers.

The inversion of a photograph moves the features at several layers, away from what the latents alone generate there. As
corrections these moves stay in the picture while a later run searches an earlier layer again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ilo.priors.base import Prior, Searched, State
from ilo.settings import SolverSettings

Corrections = Mapping[int, Mapping[str, Tensor]]  # layer → name of a value → what is added to it, [1, …]


@torch.no_grad()
def corrected(prior: Prior, found: Sequence[State], settings: SolverSettings) -> tuple[Corrected, State]:
    """The prior with the corrections that a run found, and the run's last state at layer 0.

    Args:
        prior: the prior of the run.
        found: the states at the end of the run's rounds, one for each layer from 0 on, of one sample.
        settings: of what follows.

    Returns:
        The prior, and a state at layer 0 from which it renders the picture of the last state of `found`.
    """
    first, *later = found
    start = State({name: found[-1].values[name] for name in first.values})
    corrections: dict[int, dict[str, Tensor]] = {}
    state = start
    for reached in later:
        made = prior.enter(state, reached.layer, settings)
        features = made.values.keys() - first.values.keys()
        corrections[reached.layer] = {name: reached.values[name] - made.values[name] for name in sorted(features)}
        state = _moved(made, corrections[reached.layer])
    return Corrected(prior, corrections), start


def _moved(state: State, correction: Mapping[str, Tensor]) -> State:
    return state.changed(**{name: state.values[name] + change for name, change in correction.items()})


@dataclass(frozen=True)
class Corrected:
    """A prior with corrections; all else is as in `prior`."""

    prior: Prior
    corrections: Corrections

    @property
    def id(self) -> str:
        return self.prior.id

    @property
    def sha256(self) -> str:
        return self.prior.sha256

    @property
    def resolution(self) -> int:
        return self.prior.resolution

    @property
    def layers(self) -> int:
        return self.prior.layers

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def engine(self) -> str:
        return self.prior.engine

    @property
    def last(self) -> int:
        """The last layer with a correction: from there on the states are those of the plain prior."""
        return max(self.corrections, default=0)

    def feature_count(self, layer: int) -> int:
        return self.prior.feature_count(layer)

    def draw(self, seed: int, batch: int = 1) -> State:
        return self.prior.draw(seed, batch)

    def sample(self, seed: int, settings: SolverSettings, truncation: float = 1.0, batch: int = 1) -> State:
        return self.prior.sample(seed, settings, truncation, batch)

    def searched(self, state: State, settings: SolverSettings) -> list[Searched]:
        return self.prior.searched(state, settings)

    def replaced(self, state: State, values: Sequence[Tensor], settings: SolverSettings) -> State:
        return self.prior.replaced(state, values, settings)

    def render(self, state: State, settings: SolverSettings) -> Tensor:
        return self.prior.render(self.enter(state, max(state.layer, self.last), settings), settings)

    def enter(self, state: State, layer: int, settings: SolverSettings) -> State:
        """As the prior's, with the corrections of the layers on the way."""
        for stop in sorted(k for k in self.corrections if state.layer < k <= layer):
            state = _moved(self.prior.enter(state, stop, settings), self.corrections[stop])
        return state if state.layer == layer else self.prior.enter(state, layer, settings)

    def distance(self, state: State, other: State) -> Tensor:
        return self.prior.distance(state, other)

    def memory_needed(self, settings: SolverSettings, batch: int = 1, frugal: bool = False) -> int:
        return self.prior.memory_needed(settings, batch, frugal)

    def frugal(self) -> Corrected:
        return replace(self, prior=self.prior.frugal())

    def in_format(self, dtype: str) -> Corrected:
        return replace(self, prior=self.prior.in_format(dtype))
