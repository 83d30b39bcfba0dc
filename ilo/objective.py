"""What the solver minimises: data fidelity, perceptual distance, geodesic regulariser, dead zone, classifier loss.

Every function is per sample: [B, …] → [B].
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.guidance import Guidance
from ilo.operators.base import resize
from ilo.problem import Problem
from ilo.settings import LossWeights, SolverSettings
from ilo.weights import download, registry
from ilo.weights.download import DownloadError

DEAD_ZONE = 0.1
ROBUST = "robust64"
FEATURES_SCALE = 0.1  # the better of 0.03 and 0.1 on the pictures that benchmarks/tune.py uses
TERMS = ("total", "mse", "perceptual", "geodesic", "dead_zone", "classifier")


def geodesic(z: Tensor) -> Tensor:
    """Spread of the latents on their sphere (PULSE's GEOCROSS): z [B, S, D] → [B].

    The squared angle between two latents, times D, averaged over all ordered pairs and divided by 8.
    """
    count, dim = z.shape[1:]
    if count < 2:
        return z.new_zeros(z.shape[0])
    i, j = torch.triu_indices(count, count, 1, device=z.device)
    a, b = z[:, i], z[:, j]
    angle = 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=2), torch.linalg.vector_norm(a + b, dim=2))
    # Each unordered pair counts twice; a latent's angle with itself is 0.
    return angle.square().sum(1) * (2 * dim / (8 * count**2))


def data_fidelity(residual: Tensor, normaliser: int) -> Tensor:
    """‖A(G) − y‖² / N of a residual [B, …]."""
    return residual.flatten(1).square().sum(1) / normaliser


def dead_zone(residual: Tensor) -> Tensor:
    """Mean of max(0, |A(G) − y| − 0.1)."""
    return (residual.flatten(1).abs() - DEAD_ZONE).clamp_min(0).mean(1)


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


class LpipsVgg(Perceptual):
    """LPIPS (Zhang et al. 2018) on VGG-16, through the `lpips` package."""

    name, size, fills_holes = "lpips-vgg", 256, True  # it works best at this size (paper §4.2)

    def __init__(self, backbone: Path, device: torch.device | str = "cpu"):
        """`backbone`: torchvision's VGG-16 weights (a state dict; its `features.*` entries are read).

        Raises:
            ValueError: the file does not hold the VGG-16 features.
        """
        from lpips import LPIPS

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips names torchvision arguments that are deprecated
            self._net = LPIPS(net="vgg", pnet_rand=True, verbose=False)
        try:
            weights = torch.load(backbone, map_location="cpu", weights_only=True)
            weights = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
            # lpips cuts the features into slices and keeps torchvision's layer numbers inside them.
            for part in (getattr(self._net.net, f"slice{i}") for i in range(1, 6)):
                part.load_state_dict(
                    {k: v for k, v in weights.items() if k.split(".")[0] in dict(part.named_children())}
                )
        except Exception as error:
            raise ValueError(
                f"{backbone.name}: not the weights of VGG-16 ({error}). Remove or replace the file."
            ) from error
        self._net.eval().requires_grad_(False).to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        return [_unit(x) for x in self._net.net(self._net.scaling_layer(images))]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        pairs = zip(self._net.lins, a, b, strict=True)
        return torch.stack([linear((x - y).square()).mean((1, 2, 3)) for linear, x, y in pairs]).sum(0)


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
        return [_unit(x) for x in self._classifier.features(images)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        distances = [(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return self.scale * torch.stack(distances).mean(0)


def _unit(features: Tensor) -> Tensor:
    """[B, C, h, w] with the norm 1 at every pixel."""
    return features / (features.norm(dim=1, keepdim=True) + 1e-8)


def lpips_backbone() -> Path | None:
    """The VGG-16 file: the registry's, or where torchvision keeps its downloads; None if it is in neither.

    Raises:
        ValueError: the registry's is another file than it should be.
    """
    entry = registry.BY_ID["lpips-vgg"]
    if entry.here:
        try:
            return download.checked(entry)
        except DownloadError as error:
            raise ValueError(str(error)) from None
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.file
    return path if path.is_file() else None


def find_perceptual(device: torch.device | str = "cpu", name: str | None = None) -> Perceptual:
    """LPIPS where its weights are in the local cache, otherwise the features of the embedded robust classifier.

    Args:
        device: where the weights go.
        name: of the distance that is wanted, as recipes have it. The embedded one is always to be had.

    Raises:
        ValueError: the weights' file is broken.
    """
    backbone = None if name == ROBUST else lpips_backbone()
    if backbone is not None:
        return LpipsVgg(backbone, device)
    return robust_features(device)


def robust_features(device: torch.device | str = "cpu") -> ClassifierFeatures:
    """The distance of the embedded robust classifier.

    Raises:
        ClassifierError: its file is broken.
    """
    return ClassifierFeatures(classifier.load(ROBUST, device), FEATURES_SCALE)


class Objective:
    """The weighted sum of the terms that compare with a measurement (paper §4.2)."""

    def __init__(self, problem: Problem, weights: LossWeights, perceptual: Perceptual | None, sna: bool = True):
        self.problem, self.weights, self.sna = problem, weights, sna
        wanted = weights.perceptual > 0 and problem.operator.perceptual
        self.perceptual = perceptual if wanted else None
        self._measured: list[Tensor] | None = None

    def __call__(self, image: Tensor, z: Tensor) -> Tensor:
        """All terms, unweighted, below their weighted sum.

        Args:
            image: [B, 3, R, R], the generator's.
            z: [B, S, z_dim], the latents in use.

        Returns:
            [6, B] in the order of `TERMS`.
        """
        return self._terms(image, z, image)

    def perturbed(self, image: Tensor, z: Tensor, rngs: list[torch.Generator]) -> Tensor | None:
        """Stochastic noise addition: the sum [B] for a picture with the noise that the measurement has.

        Its gradient is followed instead. Sample b draws from rngs[b]. None where the measurement has no noise.
        """
        sigma = self.problem.operator.sna_sigma if self.sna else 0.0
        if not sigma:
            return None
        noise = torch.cat([torch.randn(image[:1].shape, generator=rng, device=image.device) for rng in rngs])
        return self._terms(image, z, image + sigma * noise)[0]

    def _terms(self, image: Tensor, z: Tensor, measured: Tensor) -> Tensor:
        operator, y, weights = self.problem.operator, self.problem.y, self.weights
        prediction = operator(measured)
        residual = prediction - y
        mse = data_fidelity(residual, operator.normaliser)
        spread = geodesic(z) if weights.geodesic else torch.zeros_like(mse)
        dead = dead_zone(residual) if weights.dead_zone else torch.zeros_like(mse)
        distance = self._distance(image, prediction)
        total = weights.mse * mse + weights.perceptual * distance + weights.geodesic * spread + weights.dead_zone * dead
        return torch.stack([total, mse, distance, spread, dead, torch.zeros_like(mse)])

    def _distance(self, image: Tensor, prediction: Tensor) -> Tensor:
        perceptual = self.perceptual
        if perceptual is None:
            return image.new_zeros(image.shape[0])
        size = min(image.shape[-1], perceptual.size)
        if not perceptual.fills_holes:
            return perceptual.distance(perceptual.features(resize(prediction, size)), self._measured_features(size))
        pair = self.problem.operator.comparable(image, prediction, self.problem.y, size)
        return image.new_zeros(image.shape[0]) if pair is None else perceptual(*pair)

    @torch.no_grad()
    def _measured_features(self, size: int) -> list[Tensor]:
        """Of the measurement, which stays the same; on the first call they are computed."""
        if self._measured is None:
            assert self.perceptual is not None
            self._measured = self.perceptual.features(resize(self.problem.y, size))
        return self._measured


class GuidedObjective:
    """Cross-entropy of a classifier, and the geodesic term; nothing is measured (paper §4.4).

    Its methods are those of `Objective`.
    """

    def __init__(self, guidance: Guidance, weights: LossWeights):
        self.guidance, self.weights = guidance, weights

    def __call__(self, image: Tensor, z: Tensor) -> Tensor:
        loss = self.guidance.loss(image)
        spread = geodesic(z) if self.weights.geodesic else torch.zeros_like(loss)
        none = torch.zeros_like(loss)
        return torch.stack([loss + self.weights.geodesic * spread, none, none, spread, none, loss])

    def perturbed(self, image: Tensor, z: Tensor, rngs: list[torch.Generator]) -> Tensor | None:
        """The mean over shifted, noisy views."""
        guidance = self.guidance
        if not guidance.views:
            return None
        loss = guidance.loss(guidance.shifted(image, rngs)).unflatten(0, (len(image), guidance.views)).mean(1)
        return loss + self.weights.geodesic * geodesic(z) if self.weights.geodesic else loss


def objective_of(
    problem: Problem | Guidance, settings: SolverSettings, perceptual: Perceptual | None
) -> Objective | GuidedObjective:
    """What a problem asks to be minimised."""
    if isinstance(problem, Guidance):
        return GuidedObjective(problem, settings.weights)
    return Objective(problem, settings.weights, perceptual, settings.sna)
