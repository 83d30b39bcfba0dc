"""Compressed sensing with a randomly signed partial circulant matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ilo.operators.base import Operator
from ilo.operators.resizing import widen
from ilo.operators.setting import Setting

Map = Callable[[torch.Tensor], torch.Tensor]


class _LinearMap(torch.autograd.Function):
    """A linear map whose backward pass applies its adjoint, which is cheaper than differentiating real FFTs."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, apply: Map, transpose: Map) -> torch.Tensor:
        ctx.maps = (apply, transpose)
        return apply(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        apply, transpose = ctx.maps
        return _LinearMap.apply(grads[0], transpose, apply), None, None


class CompressedSensing(Operator):
    """y = (F D x)_Ω `[B,m]` of the flattened picture (section 3.4, lemma 1).

    D is diagonal with random signs; F is circulant with first row g ~ N(0, 1/m) and is applied by FFT; Ω is a random
    set of m rows. The expected value of ‖y‖² is ‖x‖².
    """

    name, title = "compressed-sensing", "Random measurements"
    formula = "y = (F D x)_Ω, F: circulant, D: random signs"
    help = "Only a few random weighted sums of all pixels are known."
    baselines = ("dct",)
    dct_weight = 0.2
    fraction: float = Setting.number(
        0.05,
        0.005,
        1.0,
        step=0.005,
        unit="%",
        label="Measurements",
        help="m/n: number of measurements over number of pixel values.",
    )
    seed: int = Setting.seed(help="A different seed gives different random measurements.")

    def prepare(self) -> None:
        n = self.size
        m = max(1, round(self.fraction * n))
        random = torch.Generator().manual_seed(self.seed)
        self.signs = torch.randint(0, 2, (n,), generator=random).float() * 2 - 1
        g = torch.randn(n, generator=random, dtype=torch.float64) / m**0.5
        self.spectrum = torch.fft.rfft(g).to(torch.complex64)  # [n // 2 + 1]
        self.rows = torch.randperm(n, generator=random)[:m].sort().values  # Ω

    def _spectrum(self, like: torch.Tensor) -> torch.Tensor:
        return self.spectrum.to(torch.complex128) if like.dtype == torch.float64 else self.spectrum

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        v = torch.fft.rfft(x.flatten(1) * self.signs)
        # (F v)_i = Σ_j g_(j − i) v_j is a correlation, so the spectrum is conjugated.
        every_row = torch.fft.irfft(self._spectrum(x).conj() * v, n=self.size)
        return every_row.index_select(1, self.rows)

    def _apply_transposed(self, y: torch.Tensor) -> torch.Tensor:
        rows = y.new_zeros(y.shape[0], self.size).index_copy(1, self.rows, y)
        v = torch.fft.irfft(self._spectrum(y) * torch.fft.rfft(rows), n=self.size)
        return (v * self.signs).reshape(-1, 3, self.resolution, self.resolution)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _LinearMap.apply(x, self._apply, self._apply_transposed)

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return _LinearMap.apply(y, self._apply_transposed, self._apply)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.rows.numel(),)

    @property
    def normaliser(self) -> int:
        """n, because the measurement preserves the picture's norm in expectation."""
        return self.size

    @property
    def compares_features(self) -> bool:
        return False

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        """The adjoint A*y `[B,3,R,R]`, scaled so that ±2.5 standard deviations fill [-1, 1]."""
        image = self.adjoint(widen(y))
        spread = image.std(dim=(1, 2, 3), keepdim=True)
        return (image / (2.5 * spread).clamp_min(1e-12)).clamp(-1.0, 1.0)
