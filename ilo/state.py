"""The snapshots that the solver yields."""

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
    image: Tensor  # [B, 3, R, R], about [−1, 1]
    round: int
    step: int


@dataclass(frozen=True)
class Step:
    """A snapshot of the solver."""

    round: int  # the layer whose input is searched
    step: int  # of this search, 0 … steps
    steps: int
    done: int  # optimisation steps since the run began
    total: int  # and how many the whole run has
    losses: dict[str, np.ndarray]  # term → [B], of the best point so far
    usage: dict[str, np.ndarray]  # ball → [B], share of its radius in use now; NaN where there is no ball
    previews: np.ndarray  # uint8 [B, R, R, 3], the best so far
    trace: np.ndarray  # float32 [n, B, 9], a row of TRACE_COLUMNS for each step since the last snapshot
    first: int  # `done` of the trace's first row
    result: Result | None = None
    projected: int = 0  # steps of the range projection that follows this search
    inverting: bool = False  # a photograph is being inverted, before a guided run

    @property
    def preview(self) -> np.ndarray:
        """uint8 [R, R, 3] of the batch's first picture."""
        return self.previews[0]


def to_uint8(image: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [−1, 1] (clamped) → uint8 [B, H, W, 3]."""
    pixels = image.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
