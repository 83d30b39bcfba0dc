"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data").

Real and generated pictures are changed alike before the discriminator sees them, each kind of change with probability p
per picture. As long as p stays well below 1 the generator gains nothing by drawing such changes itself. p grows while
the discriminator is too sure of the real pictures, which is how its overfitting shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Standard deviations, as in the paper: log₂ of the size, the shift as a share of the side, brightness on [−1, 1], …
SIZE, SHIFT, BRIGHTNESS = 0.2, 0.125, 0.2
CONTRAST, SATURATION = 0.5, 1.0  # … and log₂ of these two


@dataclass
class Adaption:
    """The probability p and what it is adapted by: the mean sign of D(real), 0 when D is at a loss, 1 when it is sure.

    Args:
        target: the sign that is aimed at.
        images: real pictures until p could have gone from 0 to 1.
        every: steps between two changes.
    """

    target: float = 0.6
    images: float = 100_000.0
    every: int = 4
    p: float = 0.0
    sign: float = 0.0  # sum over the steps since the last change
    steps: int = 0

    def observe(self, sign: float, batch: int) -> None:
        """Take in the mean sign of the logits of a batch of real pictures."""
        self.sign += sign
        self.steps += 1
        if self.steps == self.every:
            change = math.copysign(self.steps * batch / self.images, self.sign / self.steps - self.target)
            self.p = min(1.0, max(0.0, self.p + change))
            self.sign, self.steps = 0.0, 0


def augment(images: Tensor, p: float, rng: torch.Generator) -> Tensor:
    """Pictures [B, 3, R, R] in [−1, 1] → changed ones, differentiable, a little beyond [−1, 1]; the same for p = 0.

    Args:
        images: on the device of `rng`.
        p: 0 … 1.
        rng: its numbers depend on B alone.
    """
    if p <= 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # places need more than bfloat16's 8 bits
        moved = move(images.float(), geometry(len(images), images.shape[-1], p, rng))
        matrix, offset = colours(len(images), p, rng)
        return torch.baddbmm(offset, matrix, moved.flatten(2)).unflatten(2, images.shape[2:])


def move(images: Tensor, inverse: Tensor) -> Tensor:
    """Sample [B, C, R, R] at the places that `inverse` [B, 2, 3] maps to; outside is the mirrored picture."""
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def geometry(count: int, side: int, p: float, rng: torch.Generator) -> Tensor:
    """[B, 2, 3]: from places in the changed picture to places in the given one, both on [−1, 1].

    Mirroring, shifts by whole pixels, size, rotation, stretching, rotation again, shifts by parts of a pixel.
    """
    draw = _Draw(count, p, rng)
    one = torch.ones(count, device=rng.device)
    flip = draw(1 - 2 * draw.integer(0, 1), 1.0)
    reach = round(SHIFT * side)
    whole = [draw(draw.integer(-reach, reach) * (2 / side), 0.0) for _ in range(2)]
    size = draw(torch.exp2(SIZE * draw.normal()), 1.0)
    rarely = 1 - math.sqrt(1 - p)  # two rotations, so that one of them happens with p
    before = draw(draw.angle(), 0.0, rarely)
    stretch = draw(torch.exp2(SIZE * draw.normal()), 1.0)
    after = draw(draw.angle(), 0.0, rarely)
    parts = [draw(2 * SHIFT * draw.normal(), 0.0) for _ in range(2)]
    inverse = _scaled(flip, one) @ _shifted(*whole) @ _scaled(size, size) @ _rotated(before)
    inverse = inverse @ _scaled(stretch, 1 / stretch) @ _rotated(after) @ _shifted(*parts)
    return inverse[:, :2]


def colours(count: int, p: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """[B, 3, 3] and [B, 3, 1]: what colours are multiplied with, and what is added then.

    Brightness, contrast, hue (a rotation about the grey axis) and saturation (the distance from it).
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
    # Greys stay where hue and saturation are turned.
    return contrast[:, None, None] * matrix, (contrast * brightness)[:, None, None].expand(-1, 3, 1)


class _Draw:
    """Random numbers [B], and the choice of the pictures that they are for."""

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
        """low … high."""
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
