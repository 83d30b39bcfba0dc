"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data").

Real and generated pictures are augmented before the discriminator sees them, each transformation with probability p per
picture. As long as p stays well below 1, the generator does not learn to produce augmented pictures. p grows while the
discriminator is too confident on real pictures, which indicates overfitting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Standard deviations from the paper: log₂ of the scale, shift as a fraction of the side, brightness on [−1, 1], …
SIZE, SHIFT, BRIGHTNESS = 0.2, 0.125, 0.2
CONTRAST, SATURATION = 0.5, 1.0  # … and log₂ of contrast and saturation


@dataclass
class Adaption:
    """The augmentation probability p, adapted by the mean sign of D(real): 0 when D is guessing, 1 when it is certain.

    Args:
        target: target mean sign.
        images: number of real pictures in which p can go from 0 to 1.
        every: steps between two changes of p.
    """

    target: float = 0.6
    images: float = 100_000.0
    every: int = 4
    p: float = 0.0
    sign: float = 0.0  # sum over the steps since the last change
    steps: int = 0

    def observe(self, sign: float, batch: int) -> None:
        """Record the mean sign of the logits of a batch of real pictures, and adapt p."""
        self.sign += sign
        self.steps += 1
        if self.steps == self.every:
            change = math.copysign(self.steps * batch / self.images, self.sign / self.steps - self.target)
            self.p = min(1.0, max(0.0, self.p + change))
            self.sign, self.steps = 0.0, 0


def augment(images: Tensor, p: float, rng: torch.Generator) -> Tensor:
    """Augment pictures [B, 3, R, R] in [−1, 1], differentiably; results may slightly exceed [−1, 1].

    Args:
        images: pictures on the device of `rng`.
        p: probability of each transformation, 0 … 1; 0 leaves the pictures unchanged.
        rng: random generator; the numbers drawn depend only on B.
    """
    if p <= 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # coordinates need more precision than bfloat16
        moved = move(images.float(), geometry(len(images), images.shape[-1], p, rng))
        matrix, offset = colours(len(images), p, rng)
        return torch.baddbmm(offset, matrix, moved.flatten(2)).unflatten(2, images.shape[2:])


def move(images: Tensor, inverse: Tensor) -> Tensor:
    """Sample [B, C, R, R] at the coordinates given by `inverse` [B, 2, 3]; the outside is filled by reflection."""
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def geometry(count: int, side: int, p: float, rng: torch.Generator) -> Tensor:
    """Random affine maps [B, 2, 3] from the augmented to the original picture, both with coordinates on [−1, 1].

    They combine mirroring, whole-pixel shifts, scaling, rotation, anisotropic scaling, rotation, and sub-pixel shifts.
    """
    draw = _Draw(count, p, rng)
    one = torch.ones(count, device=rng.device)
    flip = draw(1 - 2 * draw.integer(0, 1), 1.0)
    reach = round(SHIFT * side)
    whole = [draw(draw.integer(-reach, reach) * (2 / side), 0.0) for _ in range(2)]
    size = draw(torch.exp2(SIZE * draw.normal()), 1.0)
    rarely = 1 - math.sqrt(1 - p)  # for each of the two rotations, so that at least one happens with probability p
    before = draw(draw.angle(), 0.0, rarely)
    stretch = draw(torch.exp2(SIZE * draw.normal()), 1.0)
    after = draw(draw.angle(), 0.0, rarely)
    parts = [draw(2 * SHIFT * draw.normal(), 0.0) for _ in range(2)]
    inverse = _scaled(flip, one) @ _shifted(*whole) @ _scaled(size, size) @ _rotated(before)
    inverse = inverse @ _scaled(stretch, 1 / stretch) @ _rotated(after) @ _shifted(*parts)
    return inverse[:, :2]


def colours(count: int, p: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random colour transformations: matrices [B, 3, 3] and offsets [B, 3, 1].

    They combine brightness, contrast, hue (rotation about the grey axis) and saturation (distance from it).
    """
    draw = _Draw(count, p, rng)
    brightness = draw(BRIGHTNESS * draw.normal(), 0.0)
    contrast = draw(torch.exp2(CONTRAST * draw.normal()), 1.0)
    hue = draw(draw.angle(), 0.0)
    saturation = draw(torch.exp2(SATURATION * draw.normal()), 1.0)
    identity = torch.eye(3, device=rng.device)
    grey = torch.full((3, 3), 1 / 3, device=rng.device)  # projection onto the grey axis
    turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=rng.device) / math.sqrt(3)
    c, s, k = (t[:, None, None] for t in (hue.cos(), hue.sin(), saturation))
    matrix = grey + k * (c * (identity - grey) + s * turn)
    # Changes of hue and saturation leave grey values unchanged.
    return contrast[:, None, None] * matrix, (contrast * brightness)[:, None, None].expand(-1, 3, 1)


class _Draw:
    """Draws random numbers [B] and selects the pictures to which they apply."""

    def __init__(self, count: int, p: float, rng: torch.Generator):
        self._count, self._p, self._rng = count, p, rng

    def __call__(self, values: Tensor, neutral: float, p: float | None = None) -> Tensor:
        hit = self._uniform() < (self._p if p is None else p)
        return torch.where(hit, values, torch.full_like(values, neutral))

    def _uniform(self) -> Tensor:
        return torch.rand(self._count, generator=self._rng, device=self._rng.device)

    def angle(self) -> Tensor:
        return math.pi * (2 * self._uniform() - 1)

    def normal(self) -> Tensor:
        return torch.randn(self._count, generator=self._rng, device=self._rng.device)

    def integer(self, low: int, high: int) -> Tensor:
        """Random whole numbers from low to high, inclusive."""
        return torch.randint(low, high + 1, (self._count,), generator=self._rng, device=self._rng.device).float()


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _scaled(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[x, zero, zero], [zero, y, zero], [zero, zero, one]])


def _shifted(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[one, zero, x], [zero, one, y], [zero, zero, one]])


def _rotated(angle: Tensor) -> Tensor:
    zero, one, c, s = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _matrix([[c, -s, zero], [s, c, zero], [zero, zero, one]])
