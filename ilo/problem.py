"""An inverse problem: what was measured, how, and, when it is known, of what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ilo.operators import Noise, Operator


@dataclass(frozen=True)
class Problem:
    """y = A(x) + noise (eq. 1 of the paper)."""

    operator: Operator  # A
    y: Tensor  # [B, …], in the operator's measurement shape
    truth: Tensor | None = None  # x [B, 3, R, R] in [−1, 1]; for metrics only, the solver never reads it
    noise: Noise | None = None  # that y was measured with, if it is not the operator's own

    def __post_init__(self) -> None:
        self.operator.check_measurement(self.y)

    @classmethod
    def damage(cls, truth: Tensor, operator: Operator, seed: int = 0, noise: Noise | None = None) -> Problem:
        """Measure a known picture [B, 3, R, R] in [−1, 1]; sample b's noise comes from seed + b.

        `noise` takes the place of the operator's own, such as `Gaussian(10)` for a noisy super-resolution.
        """
        return cls(operator, operator.measure(truth, seed, noise), truth, noise)

    def __len__(self) -> int:
        """B, the number of pictures."""
        return len(self.y)

    def to(self, device: torch.device | str) -> Problem:
        truth = None if self.truth is None else self.truth.to(device)
        return Problem(self.operator.to(device), self.y.to(device), truth, self.noise)
