"""An inverse problem: operator, measurement and, if known, the original picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ilo.operators import Noise, Operator


@dataclass(frozen=True)
class Problem:
    """y = A(x) + noise (eq. 1 of the paper)."""

    operator: Operator  # the forward operator A
    y: Tensor  # measurement [B, *operator.measurement_shape]
    truth: Tensor | None = None  # original x [B, 3, R, R] in [−1, 1]; used for metrics only, never by the solver
    noise: Noise | None = None  # noise model used to measure y; None: the operator's own

    def __post_init__(self) -> None:
        self.operator.check_measurement(self.y)

    @classmethod
    def damage(cls, truth: Tensor, operator: Operator, seed: int = 0, noise: Noise | None = None) -> Problem:
        """Measure a known picture [B, 3, R, R] in [−1, 1]; sample b's noise comes from seed + b.

        `noise` replaces the operator's own noise model, for example `Gaussian(10)` for noisy super-resolution.
        """
        return cls(operator, operator.measure(truth, seed, noise), truth, noise)

    def __len__(self) -> int:
        """Number of pictures B."""
        return len(self.y)

    @property
    def noisy(self) -> bool:
        """Whether the solver assumes any noise."""
        return self.operator.noise_level(self.noise) > 0

    def expected(self, image: Tensor) -> Tensor:
        """E[y | x = image], the mean measurement of a picture [B, 3, R, R]; differentiable."""
        return self.operator.expected(image, self.noise)

    def perturbed(self, image: Tensor, rngs: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """What enters the last operator when a picture [B, 3, R, R] is measured once more, and the measurement.

        Differentiable; sample b draws its noise from rngs[b].
        """
        entering = self.operator.entering(image, rngs)
        return entering, self.operator.last.perturbed(entering, rngs, self.noise)

    def repeated(self, times: int) -> Problem:
        """Each measurement `times` in a row, to be solved from as many starts."""
        truth = None if self.truth is None else self.truth.repeat_interleave(times, 0)
        return replace(self, y=self.y.repeat_interleave(times, 0), truth=truth)

    def to(self, device: torch.device | str) -> Problem:
        truth = None if self.truth is None else self.truth.to(device)
        return Problem(self.operator.to(device), self.y.to(device), truth, self.noise)
