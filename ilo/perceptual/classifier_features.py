"""The LPIPS distance on features of the embedded robust classifier; it needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.perceptual.base import Perceptual, unit

ROBUST = "robust64"
FEATURES_SCALE = 0.1  # the better of 0.03 and 0.1 on the pictures that benchmarks/tune.py uses


class ClassifierFeatures(Perceptual):
    """The LPIPS distance on a classifier's features, without learned weights.

    Zhang et al. 2018, eq. 1 with w = 1: features are unit-normalised at every pixel; ‖a − b‖² is averaged over pixels
    and depths. `scale` multiplies the result so that a loss weight of 1 works well.

    Hidden pixels stay grey. If they were filled with generated ones, as for LPIPS, the content of a hole could lower
    the distance by outweighing its surroundings: with these features the error inside painted eyes doubled.
    """

    fills_holes = False

    def __init__(self, network: Classifier, scale: float = 1.0):
        self.name, self.size, self.scale = network.name, network.network.size, scale
        self._classifier = network

    def features(self, images: Tensor) -> list[Tensor]:
        return [unit(x) for x in self._classifier.features(images)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        distances = [(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return self.scale * torch.stack(distances).mean(0)


def robust_features(device: torch.device | str = "cpu") -> ClassifierFeatures:
    """The distance on the embedded robust classifier's features.

    Raises:
        ClassifierError: the classifier's file is broken.
    """
    return ClassifierFeatures(classifier.load(ROBUST, device), FEATURES_SCALE)
