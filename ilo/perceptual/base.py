"""One interface for every perceptual distance: pictures are compared by features instead of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Perceptual(ABC):
    """A distance between pictures that looks at features instead of pixels."""

    name: str
    size: int  # pixels per side of what is compared, at most
    fills_holes: bool  # whether hidden pixels are filled by the generated ones before a measurement is looked at

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """What is compared of pictures [B, 3, r, r] in [−1, 1]: [B, C, h, w] at several depths."""

    @abstractmethod
    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Of the features of two batches → [B]."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Two batches of pictures [B, 3, r, r] in [−1, 1] → [B]."""
        return self.distance(self.features(a), self.features(b))


def unit(features: Tensor) -> Tensor:
    """[B, C, h, w] with the norm 1 at every pixel."""
    return features / (features.norm(dim=1, keepdim=True) + 1e-8)
