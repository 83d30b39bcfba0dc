"""Mean and covariance of generated features, pulled towards those of the data.

The gradient of the Fréchet distance between two Gaussians, with respect to a sample of the first one, points from where
the optimal transport between them would bring it (Dowson and Landau 1982; Mathiasen and Hvilshøj 2020 on
back-propagating through it). A batch is too small to know the two, so they are kept as running averages. These lag
behind the generator: with a large weight it runs away from them (4 did, 0.1 did
not, at rates of 0.0005).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # of a variance, as a share of the mean variance


class Moments(nn.Module):
    """Running mean and second moment of vectors [B, C].

    Args:
        size: C.
        images: half-life of what has been seen; until then, all counts alike.
    """

    mean: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self, size: int, images: float):
        super().__init__()
        self.images = images
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("second", torch.zeros(size, size))
        self.register_buffer("weight", torch.zeros([]))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        self.weight.mul_(0.5 ** (len(x) / self.images)).add_(len(x))
        share = 1 / self.weight
        self.mean.lerp_(x.mean(0), len(x) * share)
        self.second.lerp_(x.t() @ x / len(x), len(x) * share)

    def covariance(self) -> Tensor:
        """[C, C] in float64."""
        mean = self.mean.double()
        return self.second.double() - torch.outer(mean, mean)


class Transport(nn.Module):
    """How far generated features are from where the data's mean and covariance would have them.

    Args:
        size: C of the features [B, C].
        images: half-life of the moments of generated features; those of real ones are remembered eight times as long.
        every: batches between two computations of the transport.
        begin: pictures that must have been seen before it counts.
    """

    matrix: Tensor
    batches: Tensor

    def __init__(self, size: int, images: float = 2_500.0, every: int = 32, begin: float = 2_500.0):
        super().__init__()
        self.fake, self.real = Moments(size, images), Moments(size, 8 * images)
        self.every, self.begin = every, begin
        self.register_buffer("matrix", torch.eye(size))
        self.register_buffer("batches", torch.zeros([], dtype=torch.int64))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Mean squared distance of fake [B, C] to where they would be carried, with the Fréchet distance's gradient."""
        self.fake.observe(fake.detach())
        self.real.observe(real.detach())
        self.batches += 1
        if self.fake.weight < self.begin:
            return fake.sum() * 0
        if self.batches % self.every == 0:
            self.matrix.copy_(transport(self.fake.covariance(), self.real.covariance()))
        carried = (fake.detach() - self.fake.mean) @ self.matrix + self.real.mean
        return (fake - carried).square().sum(1).mean()


def transport(a: Tensor, b: Tensor) -> Tensor:
    """The symmetric matrix T with T a T = b, of covariances [C, C]: the optimal transport from N(0, a) to N(0, b)."""
    floor = FLOOR * float(a.diagonal().mean())
    values, vectors = torch.linalg.eigh(a)
    root = values.clamp_min(floor).sqrt()
    up, down = (vectors * root) @ vectors.t(), (vectors / root) @ vectors.t()
    values, vectors = torch.linalg.eigh(up @ b @ up)
    middle = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    return down @ middle @ down
