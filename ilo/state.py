"""Snapshots yielded by the solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ilo.objective import TERMS
from ilo.priors.base import BALLS, State

TRACE_COLUMNS = (*TERMS, *BALLS)


@dataclass(frozen=True)
class Result:
    """The best point of a run so far, on the CPU."""

    state: State
    image: Tensor  # [B, 3, R, R], approximately in [−1, 1]; with N samples, each problem's N answers in a row
    round: int
    step: int
    samples: int = 1  # N, answers to each problem
    engine: str = "eager"  # what ran the steps of its search; see `ilo.engine.graph`

    @property
    def mean(self) -> Tensor:
        """Mean of each problem's answers, [B / N, 3, R, R]: nearer to the truth than most of them."""
        return self._answers.mean(1)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each problem's answers at each pixel, [B / N, 3, R, R]; 0 for a single one."""
        return self._answers.std(1, correction=0)

    @property
    def _answers(self) -> Tensor:
        return self.image.clamp(-1, 1).unflatten(0, (-1, self.samples))


@dataclass(frozen=True)
class Step:
    """A snapshot of the solver."""

    round: int  # layer whose input is being searched
    step: int  # steps made by this search, 0 … steps
    steps: int
    done: int  # optimisation steps since the start of the run
    total: int  # optimisation steps of the whole run
    losses: dict[str, np.ndarray]  # term → [B], at the best point so far
    usage: dict[str, np.ndarray]  # ball → [B], fraction of its radius in use now; NaN where there is no ball
    previews: np.ndarray  # uint8 [B, R, R, 3], the best pictures so far
    trace: np.ndarray  # float32 [n, B, 9], one row of TRACE_COLUMNS per step since the last snapshot
    first: int  # value of `done` for the trace's first row
    result: Result | None = None
    projected: int = 0  # steps made by the range projection that follows this search
    inverting: bool = False  # whether a photograph is being inverted before a guided run

    @property
    def preview(self) -> np.ndarray:
        """Preview of the batch's first picture, uint8 [R, R, 3]."""
        return self.previews[0]


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert [B, 3, H, W] in [−1, 1] (clamped) to uint8 [B, H, W, 3]."""
    pixels = image.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
