"""Operators that mix neighbouring pixels: super-resolution and deblurring. Borders are reflected."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch.nn import functional as F

from ilo.operators.base import Operator, register
from ilo.settings import SettingsError, check_choice, check_number, check_whole

BlurKind = Literal["gaussian", "motion"]
MOST_WEIGHTS = 2**20  # of a motion's line that are held at once


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
    """Positions on the endless line folded into 0 … n − 1: …, 2, 1, 0, 1, 2, …, n − 1, n − 2, …"""
    period = 2 * (n - 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded)


@register
class SuperResolve(Operator):
    """Enlarge a picture: y = M x Mᵀ `[B,3,R/f,R/f]` per channel, M being `bicubic_matrix` (section 4.2).

    Args:
        resolution: R.
        factor: f, a whole number 2 … 32 that divides R.

    Raises:
        SettingsError: for a factor out of range or one that does not divide the resolution.
    """

    name, title, formula = "super-resolve", "Super-resolve", "y = M x Mᵀ, M: bicubic (a = −0.5) over 4·factor pixels"

    def __init__(self, *, resolution: int, factor: int = 4) -> None:
        super().__init__(resolution=resolution)
        check_whole("factor", factor, 2, 32)
        if resolution % factor:
            allowed = [str(f) for f in range(2, 33) if resolution % f == 0]
            cure = f"give one of {', '.join(allowed)}" if allowed else "choose another resolution"
            raise SettingsError(f"The factor {factor} does not divide the resolution {resolution}; {cure}.")
        self.factor = factor
        self.reduction = bicubic_matrix(resolution, factor).float()  # [R/f, R]

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
    """One axis of a Gaussian blur cut at 4σ, borders reflected: float64 `[R, R]`; rows sum to 1."""
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / sigma).double() ** 2)
    band = torch.zeros(resolution, resolution + 2 * radius, dtype=torch.float64)
    for i in range(resolution):
        band[i, i : i + 2 * radius + 1] = weights / weights.sum()
    return band @ padding_matrix(resolution, radius)


def padding_matrix(resolution: int, radius: int) -> torch.Tensor:
    """One axis of reflection, `radius` pixels on either side: float64 `[R + 2·radius, R]` of zeros and ones."""
    source = _reflect(torch.arange(-radius, resolution + radius), resolution)
    matrix = torch.zeros(len(source), resolution, dtype=torch.float64)
    return matrix.scatter_(1, source[:, None], 1.0)


def motion_kernel(length: float, angle: float) -> torch.Tensor:
    """A line of light through the centre, drawn by bilinear weights; it equals itself turned by 180°.

    Args:
        length: in pixels.
        angle: in degrees from the horizontal, counter-clockwise.

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


@register
class Deblur(Operator):
    """Sharpen a blurred picture: y = k ∗ x per channel, borders reflected.

    Args:
        resolution: R.
        kind: "gaussian" or "motion".
        sigma: of the Gaussian in pixels, 0.1 … R/4.
        length: of the motion in pixels, 1 … R.
        angle: of the motion in degrees from the horizontal, counter-clockwise, −360 … 360.

    Raises:
        SettingsError: for an unknown kind, or values out of range.
    """

    name, title, formula = "deblur", "Deblur", "y = k ∗ x, k: Gaussian or motion blur"

    def __init__(
        self,
        *,
        resolution: int,
        kind: BlurKind = "gaussian",
        sigma: float = 2.0,
        length: float = 9.0,
        angle: float = 0.0,
    ) -> None:
        super().__init__(resolution=resolution)
        check_choice("kind of blur", kind, get_args(BlurKind))
        # Only the one that the kind uses has to suit the resolution.
        check_number("sigma of the blur", sigma, 0.1, resolution / 4 if kind == "gaussian" else 1024.0)
        check_number("length of the motion", length, 1.0, resolution if kind == "motion" else 4096.0)
        check_number("angle of the motion", angle, -360.0, 360.0)
        self.kind, self.sigma, self.length, self.angle = kind, sigma, length, angle
        self.kernel: torch.Tensor | None = None
        if kind == "gaussian":
            self.axis = gaussian_matrix(resolution, sigma).float()  # [R, R]
        else:
            kernel = motion_kernel(length, angle).float()
            self.axis = padding_matrix(resolution, kernel.shape[-1] // 2).float()  # [R + k − 1, R]
            self.kernel = kernel.expand(3, 1, -1, -1).contiguous()  # one per channel: [3, 1, k, k]

    # Reflection is a matrix product, because the gradient of torch's own padding is not reproducible on CUDA.
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
