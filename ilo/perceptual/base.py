"""The interface of perceptual distances, which compare pictures by features instead of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Perceptual(ABC):
    """A distance between pictures, computed on features instead of pixels."""

    name: str
    size: int  # maximum side of the compared pictures, in pixels
    fills_holes: bool  # whether hidden pixels of y are replaced by generated ones before comparing

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] at several depths, of pictures [B, 3, r, r] in [−1, 1]."""

    @abstractmethod
    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance [B] between the features of two batches."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance [B] between two batches of pictures [B, 3, r, r] in [−1, 1]."""
        return self.distance(self.features(a), self.features(b))


def unit(features: Tensor) -> Tensor:
    """Features [B, C, h, w], normalised to length 1 at every pixel."""
    return features / (features.norm(dim=1, keepdim=True) + 1e-8)
