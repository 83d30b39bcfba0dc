"""Noise models: the noise added to A(x) when measuring. Each works with every operator."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from ilo.settings import SettingsError, check_choice, check_number, named
from ilo.text.words import shown

MOST_SIGMA = 255.0


class Noise:
    """A noise model.

    Attributes:
        name: identifier in recipes and on the command line.
        clips: whether values are clipped to [-1, 1], which makes sense for pictures only.
        sigma: standard deviation on the grey-value scale 0 … 255, before clipping.
    """

    name: ClassVar[str]
    clips: ClassVar[bool] = False
    sigma: float = 0.0

    def perturb(self, y: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        """Add noise to `y [B, …]`, differentiably; sample b draws from rngs[b]."""
        raise NotImplementedError(f"{type(self).__name__} does not define perturb.")

    def expected(self, y: torch.Tensor) -> torch.Tensor:
        """The mean of all noisy versions of `y`, differentiable."""
        return y

    def settings(self) -> dict[str, Any]:
        """The name and settings as plain JSON types, the inverse of `noise_model`."""
        return {"name": self.name}


@dataclass(frozen=True)
class NoNoise(Noise):
    """No noise: y = A(x)."""

    name: ClassVar[str] = "none"

    def perturb(self, y: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        return y


@dataclass(frozen=True)
class Gaussian(Noise):
    """Gaussian noise: y = A(x) + N(0, (σ/127.5)²).

    Raises:
        SettingsError: sigma is not in 0 … 255.
    """

    name: ClassVar[str] = "gaussian"
    sigma: float = 25.0

    def __post_init__(self) -> None:
        check_number("The noise's sigma", self.sigma, 0.0, MOST_SIGMA)

    @property
    def deviation(self) -> float:
        """Standard deviation on the [−1, 1] scale."""
        return self.sigma / 127.5

    def perturb(self, y: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        noise = [torch.randn(y.shape[1:], generator=rng, device=rng.device) for rng in rngs]
        return y + self.deviation * torch.stack(noise).to(y)

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class ClippedGaussian(Gaussian):
    """Gaussian noise clipped as by a camera: y = A(x) + N(0, (σ/127.5)²), limited to [−1, 1]."""

    name: ClassVar[str] = "clipped-gaussian"
    clips: ClassVar[bool] = True

    def perturb(self, y: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        return super().perturb(y, rngs).clamp(-1.0, 1.0)

    def expected(self, y: torch.Tensor) -> torch.Tensor:
        """E[clip(y + n)] of n ~ N(0, s²): near the limits it lies inside y, since only one side is cut off."""
        s = self.deviation
        if s == 0:
            return y
        low, high = (-1.0 - y) / s, (1.0 - y) / s
        inside = y * (_cdf(high) - _cdf(low)) + s * (_density(low) - _density(high))
        return inside - _cdf(low) + _cdf(-high)


def _density(x: torch.Tensor) -> torch.Tensor:
    """Of the standard normal distribution."""
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def _cdf(x: torch.Tensor) -> torch.Tensor:
    """Cumulative distribution function of the standard normal distribution."""
    return 0.5 * torch.erfc(-x / math.sqrt(2))


MODELS: dict[str, type[Noise]] = {model.name: model for model in (NoNoise, Gaussian, ClippedGaussian)}


def noise_model(settings: Any) -> Noise:
    """Build a noise model from its name and settings, such as `{"name": "gaussian", "sigma": 10}`.

    Raises:
        SettingsError: the name or a setting is unknown or not allowed.
    """
    if not isinstance(settings, dict) or "name" not in settings:
        raise SettingsError(f"The noise is {shown(settings)}; give a name and settings.")
    check_choice("The noise", settings["name"], tuple(MODELS))
    model = MODELS[settings["name"]]
    own = {name: value for name, value in settings.items() if name != "name"}
    unknown = own.keys() - model.__dataclass_fields__.keys()  # type: ignore[attr-defined]
    if unknown:
        raise SettingsError(f"The noise {model.name} does not know {named(unknown)}.")
    return model(**own)
