"""Choosing the perceptual distance of a run."""

from __future__ import annotations

import torch

from ilo.perceptual.base import Perceptual
from ilo.perceptual.classifier_features import ROBUST, robust_features
from ilo.perceptual.lpips_vgg import LpipsVgg, lpips_backbone


def find_perceptual(device: torch.device | str = "cpu", name: str | None = None) -> Perceptual:
    """LPIPS if its weights are in the local cache, otherwise the embedded robust classifier's features.

    Args:
        device: device for the weights.
        name: name recorded in a recipe; None takes the best. The embedded one is always available.

    Raises:
        ValueError: the weights file is broken.
    """
    backbone = None if name == ROBUST else lpips_backbone()
    if backbone is not None:
        return LpipsVgg(backbone, device)
    return robust_features(device)
