"""Operators that mix neighbouring pixels: super-resolution and deblurring. Borders are reflected."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional as F

from ilo.operators.base import Operator
from ilo.operators.setting import Setting
from ilo.settings import SettingsError

BlurKind = Literal["gaussian", "motion"]
MOST_WEIGHTS = 2**20  # maximum number of weights held in memory while a motion kernel is drawn


def bicubic_matrix(resolution: int, factor: int) -> torch.Tensor:
    """One axis of bicubic reduction with antialiasing, as a matrix.

    The kernel of Keys (1981) with a = −0.5 is stretched by `factor`, so that it spans 4·factor pixels, and centred on
    each output pixel; rows sum to 1. Borders are reflected without repeating the edge.

    Returns:
        float64 `[R/factor, R]`.
    """
    matrix = torch.zeros(resolution // factor, resolution, dtype=torch.float64)
    offsets = torch.arange(4 * factor + 1)
    for j in range(resolution // factor):
        centre = j * factor + (factor - 1) / 2
        positions = math.ceil(centre - 2 * factor) + offsets
        t = ((positions.double() - centre) / factor).abs()
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weights = torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
        matrix[j].index_add_(0, _reflect(positions, resolution), weights / weights.sum())
    return matrix


def _reflect(positions: torch.Tensor, n: int) -> torch.Tensor:
    """Fold integer positions into 0 … n − 1 by reflection: …, 2, 1, 0, 1, 2, …, n − 1, n − 2, …"""
    period = 2 * (n - 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded)


def usual_factor(resolution: int) -> int:
    """Suggested factor: ×4 at 64 px, ×16 at 1024 px, a power of two in between; for 8 px or more."""
    return int(2 ** max(1, min(5, math.floor(math.log2(resolution / 64) / 2 + 2))))


class SuperResolve(Operator):
    """Super-resolution: y = M x Mᵀ `[B,3,R/f,R/f]` per channel, where M is `bicubic_matrix` (section 4.2).

    The factor f divides R.
    """

    name, title = "super-resolve", "Enlarge"
    formula = "y = M x Mᵀ, M: bicubic (a = −0.5) over 4·factor pixels"
    help = "Only a smaller version is known."
    upload = "as it is"
    shrinks = True
    baselines = ("bicubic", "dct")
    dct_weight = 0.001
    factor: int = Setting.whole(
        4,
        2,
        32,
        unit="×",
        label="Downscaling",
        help="How many times smaller the picture is on each side.",
        suggested=usual_factor,
        offers=lambda side: [f for f in (2, 4, 8, 16, 32) if side % f == 0 and side // f >= 2],
    )

    def prepare(self) -> None:
        side, factor = self.resolution, self.factor
        if side % factor:
            allowed = [str(f) for f in range(2, 33) if side % f == 0]
            cure = f"give one of {', '.join(allowed)}" if allowed else "choose another resolution"
            raise SettingsError(f"The factor {factor} does not divide the resolution {side}; {cure}.")
        self.reduction = bicubic_matrix(side, factor).float()  # [R/f, R]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = self.reduction.to(x.dtype)
        return m @ x @ m.mT

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        m = self.reduction.to(y.dtype)
        return m.mT @ y @ m

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        side = self.resolution // self.factor
        return (3, side, side)


def gaussian_matrix(resolution: int, sigma: float) -> torch.Tensor:
    """One axis of a Gaussian blur truncated at 4σ, with reflected borders: float64 `[R, R]`; rows sum to 1."""
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / sigma).double() ** 2)
    band = torch.zeros(resolution, resolution + 2 * radius, dtype=torch.float64)
    for i in range(resolution):
        band[i, i : i + 2 * radius + 1] = weights / weights.sum()
    return band @ padding_matrix(resolution, radius)


def padding_matrix(resolution: int, radius: int) -> torch.Tensor:
    """One axis of reflection padding by `radius` pixels per side: float64 `[R + 2·radius, R]` of zeros and ones."""
    source = _reflect(torch.arange(-radius, resolution + radius), resolution)
    matrix = torch.zeros(len(source), resolution, dtype=torch.float64)
    return matrix.scatter_(1, source[:, None], 1.0)


def motion_kernel(length: float, angle: float) -> torch.Tensor:
    """Motion-blur kernel: a line through the centre, drawn with bilinear weights and symmetric under 180° rotation.

    Args:
        length: length of the line in pixels.
        angle: angle from the horizontal in degrees, counter-clockwise.

    Returns:
        float64 `[k,k]`, k = 2·ceil(length/2) + 1, sum 1.
    """
    radius = math.ceil(length / 2)
    points = max(2, math.ceil(32 * length))
    along = ((torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5) * length
    across, up = along * math.cos(math.radians(angle)), along * math.sin(math.radians(angle))
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.zeros(len(grid), len(grid), dtype=torch.float64)
    some = max(1, MOST_WEIGHTS // len(grid))  # points at a time
    for x, y in zip(across.split(some), up.split(some), strict=True):
        columns = (1 - (grid - x[:, None]).abs()).clamp_min(0)  # [points, k]
        rows = (1 - (grid + y[:, None]).abs()).clamp_min(0)  # row numbers grow downwards
        kernel += rows.mT @ columns
    return kernel / points


class Deblur(Operator):
    """Deblurring: y = k ∗ x per channel, with reflected borders."""

    name, title = "deblur", "Deblur"
    formula = "y = k ∗ x, k: Gaussian or motion blur"
    help = "The picture is out of focus or motion-blurred."
    upload = "as it is"
    baselines = ("dct",)
    dct_weight = 0.0001
    kind: BlurKind = Setting.choice(
        "gaussian",
        {"gaussian": "Out of focus", "motion": "Motion blur"},
        label="Blur",
        help="What blurred the picture.",
    )
    sigma: float = Setting.number(
        2.0,
        0.1,
        1024.0,
        step=0.1,
        unit="px",
        when=("kind", "gaussian"),
        label="Radius σ",
        help="Standard deviation of the Gaussian.",
        suggested=lambda side: side / 32,
        fits=lambda side: side / 4,
        slider=lambda side: (0.5, side / 8),
    )
    length: float = Setting.number(
        9.0,
        1.0,
        4096.0,
        step=0.5,
        when=("kind", "motion"),
        label="Length",
        help="Length of the motion, in pixels.",
        suggested=lambda side: side / 8,
        fits=float,
        slider=lambda side: (1, side / 2),
    )
    angle: float = Setting.number(
        0.0,
        -360.0,
        360.0,
        when=("kind", "motion"),
        label="Angle",
        help="Direction of the motion, in degrees counter-clockwise from the horizontal.",
        slider=lambda _: (-90, 90),
    )

    def prepare(self) -> None:
        self.kernel: torch.Tensor | None = None
        if self.kind == "gaussian":
            self.axis = gaussian_matrix(self.resolution, self.sigma).float()  # [R, R]
        else:
            kernel = motion_kernel(self.length, self.angle).float()
            self.axis = padding_matrix(self.resolution, kernel.shape[-1] // 2).float()  # [R + k − 1, R]
            self.kernel = kernel.expand(3, 1, -1, -1).contiguous()  # one per channel: [3, 1, k, k]

    # Reflection is a matrix product because the gradient of torch's own padding is not deterministic on CUDA.
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axis = self.axis.to(x.dtype)
        x = axis @ x @ axis.mT
        if self.kernel is None:
            return x
        return F.conv2d(x, self.kernel.to(x.dtype), groups=3)

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        axis = self.axis.to(y.dtype)
        if self.kernel is not None:
            y = F.conv_transpose2d(y, self.kernel.to(y.dtype), groups=3)
        return axis.mT @ y @ axis
