"""The distance of LPIPS on the features of the embedded robust classifier, which needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.perceptual.base import Perceptual, unit

ROBUST = "robust64"
FEATURES_SCALE = 0.1  # the better of 0.03 and 0.1 on the pictures that benchmarks/tune.py uses


class ClassifierFeatures(Perceptual):
    """The distance of LPIPS on a classifier's own features; no weights are learned.

    Zhang et al. 2018, eq. 1 with w = 1: the mean over pixels of ‖a − b‖² of features that are unit-normalised at every
    pixel, averaged over the depths. `scale` times that, so that a loss weight of 1 is a good one.

    Hidden pixels stay grey. To fill them with generated ones, as LPIPS gets them, lets a hole lower the distance by
    outshining its surroundings: with these features the error inside painted eyes doubled.
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
    """The distance of the embedded robust classifier.

    Raises:
        ClassifierError: its file is broken.
    """
    return ClassifierFeatures(classifier.load(ROBUST, device), FEATURES_SCALE)
