"""Classifier guidance: a target class instead of a measurement (Daras et al. 2021, Figure 5)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ilo.classifiers.classifier import Classifier
from ilo.settings import SettingsError, check_number, check_whole, named
from ilo.text.words import shown

MOST_CLASSES = 4


@dataclass(frozen=True)
class Guidance:
    """Target classes, and the classifier whose loss steers the picture towards them.

    Args:
        classifier: classifier whose loss guides the search.
        classes: class name → weight; the loss is the weighted mean of the classes' cross-entropies.
        views: number of randomly shifted, noisy copies that the loss is averaged over at each step; 0 uses the
            unmodified picture. The best point is always chosen on the unmodified picture.
        shift: maximum random shift of each view, in classifier-input pixels.
        noise: standard deviation of each view's noise, on the [−1, 1] scale.
        batch: number of independent runs; set by `ilo.morph.morph`.

    Raises:
        SettingsError: a class is unknown, a weight is not above 0, or a value is out of range.
    """

    classifier: Classifier
    classes: Mapping[str, float]
    views: int = 0
    shift: int = 4
    noise: float = 0.1
    batch: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping):
            raise SettingsError(f"The classes are {shown(self.classes)}; give names with their weights.")
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise SettingsError(f"{len(self.classes)} classes are given; allowed are 1 to {MOST_CLASSES}.")
        for name, weight in self.classes.items():
            check_number(f"The weight of {named([name])}", weight, 1e-6, 1e6)
            self.classifier.index(name)
        check_whole("views", self.views, 0, 16)
        check_whole("shift", self.shift, 0, 32)
        check_number("The noise of a view", self.noise, 0.0, 1.0)
        check_whole("batch", self.batch, 1, 1024)

    def __len__(self) -> int:
        return self.batch

    def repeated(self, times: int) -> Guidance:
        """The same, to be followed from `times` as many starts."""
        return replace(self, batch=self.batch * times)

    def to(self, device: torch.device | str) -> Guidance:
        """A copy whose classifier is on `device`."""
        return replace(self, classifier=copy.deepcopy(self.classifier).to(device))

    @property
    def title(self) -> str:
        return " + ".join(self.classes)

    @cached_property
    def targets(self) -> dict[int, float]:
        """Class index → share of the loss; the shares sum to 1."""
        total = sum(self.classes.values())
        found: dict[int, float] = {}
        for name, weight in self.classes.items():
            index = self.classifier.index(name)
            found[index] = found.get(index, 0.0) + weight / total
        return found

    def settings(self) -> dict[str, Any]:
        """The settings as plain JSON types, for the recipe."""
        return {
            "classifier": self.classifier.name,
            "classifier_sha256": self.classifier.sha256,
            "classes": dict(self.classes),
            "views": self.views,
            "shift": self.shift,
            "noise": self.noise,
        }

    def loss(self, images: Tensor) -> Tensor:
        """Σ share · cross-entropy of pictures [B, 3, R, R] in [−1, 1] → [B]."""
        log_probabilities = F.log_softmax(self.classifier(images), dim=1)
        return sum((-share * log_probabilities[:, i] for i, share in self.targets.items()), images.new_zeros(()))

    def shifted(self, images: Tensor, rngs: list[torch.Generator]) -> Tensor:
        """Shifted, noisy views: [B, 3, R, R] → [B·views, 3, size, size].

        Each view is moved by up to `shift` pixels, and the border pixels are repeated. Sample b draws from rngs[b], so
        each sample gets the same views as in a run of its own.
        """
        images = self.classifier.prepare(images)
        size, device = images.shape[-1], images.device
        drawn = [torch.randint(0, 2 * self.shift + 1, (2, self.views), generator=rng, device=device) for rng in rngs]
        places = torch.arange(size, device=device)
        # Shift by matrix products: the gradients of padding and indexing are not deterministic on every device.
        sources = (places + torch.stack(drawn, 1)[..., None] - self.shift).clamp(0, size - 1)  # [2, B, views, size]
        rows, columns = (sources[..., None] == places).to(images.dtype)  # [B, views, size, size] each
        views = (rows[:, :, None] @ images[:, None] @ columns[:, :, None].mT).flatten(0, 1)
        shape = (self.views, *images.shape[1:])
        return views + self.noise * torch.cat([torch.randn(shape, generator=rng, device=device) for rng in rngs])
