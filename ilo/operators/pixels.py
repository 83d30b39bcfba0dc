"""Operators that look at one pixel at a time: inpainting, denoising, colourising and plain inversion."""

from __future__ import annotations

from typing import Any

import torch

from ilo.operators.base import MAX_SEED, Operator, register, resize, widen
from ilo.photos.masks import fit_mask
from ilo.settings import SettingsError, check_number, check_whole

SCARCE = 0.2  # below this observed share a perceptual distance does harm (section 4.2)


class _Masked(Operator):
    """y = mask · x; hidden values are 0, and it is the mask that says which ones are hidden, not their colour."""

    formula = "y = mask · x"
    mask: torch.Tensor

    def _set_mask(self, mask: torch.Tensor) -> None:
        self.mask = mask  # [1,1,R,R]
        self._pixels = int(mask.sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask * x

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return self.mask * y

    @property
    def observed(self) -> int:
        return 3 * self._pixels

    @property
    def perceptual(self) -> bool:
        return self.share >= SCARCE

    def check_measurement(self, y: torch.Tensor) -> None:
        super().check_measurement(y)
        if bool((y * (1.0 - self.mask)).any()):
            raise SettingsError(
                "The measurement has values where the mask hides the picture. Make it with .measure(image) of the "
                "same operator."
            )

    def comparable(
        self, image: torch.Tensor, prediction: torch.Tensor, y: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self.perceptual:
            return None
        # The holes of the observation are filled by the generated pixels before anything is resized.
        image = widen(image)
        filled = self.mask * y + (1.0 - self.mask) * image
        return resize(image, size), resize(filled, size)

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        """The observed pixels; hidden ones are mid-grey (0)."""
        return super().picture(self.mask * y)


@register
class Inpaint(_Masked):
    """Fill in what a mask hides (section 4.3).

    Args:
        resolution: R.
        mask: `[H,W]` … `[1,1,H,W]`, above 0.5 = observed; one of another size is resized, see `mask_resized`.

    Raises:
        SettingsError: if the mask hides every pixel, hides none, or is no mask.
    """

    name, title = "inpaint", "Inpaint"

    def __init__(self, *, resolution: int, mask: Any) -> None:
        super().__init__(resolution=resolution)
        fitted, self.mask_resized = fit_mask(mask, resolution)
        self._set_mask(fitted)
        if self._pixels == 0:
            raise SettingsError("The mask hides every pixel; leave at least one pixel to be seen.")
        if self._pixels == resolution**2:
            raise SettingsError("The mask hides no pixel, so nothing is to be filled in; paint over a part to hide it.")


@register
class RandomInpaint(_Masked):
    """Fill in a picture of which a few random pixels are known, all three channels of each (section 4.3).

    Args:
        resolution: R.
        fraction: of the pixels that are known, 0.005 … 1.
        seed: of the choice of pixels, 0 … 2³¹ − 1.

    Raises:
        SettingsError: for a fraction or a seed that is not allowed.
    """

    name, title = "random-inpaint", "Fill in from random pixels"

    def __init__(self, *, resolution: int, fraction: float = 0.1, seed: int = 0) -> None:
        super().__init__(resolution=resolution)
        check_number("The observed fraction", fraction, 0.005, 1.0)
        check_whole("seed", seed, 0, MAX_SEED)
        self.fraction, self.seed = fraction, seed
        pixels = resolution**2
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed))
        mask = torch.zeros(pixels)
        mask[order[: max(1, round(fraction * pixels))]] = 1.0
        self._set_mask(mask.reshape(1, 1, resolution, resolution))


@register
class Denoise(Operator):
    """Remove Gaussian noise: y = x + N(0, (σ/127.5)²), clipped to [-1, 1]; the operator itself is the identity.

    Args:
        resolution: R.
        sigma: of the noise that measuring adds, on the 0 … 255 scale of grey values.
        assumed_sigma: what the solver takes it to be for stochastic noise addition (section 4.2); None means sigma.

    Raises:
        SettingsError: for a sigma outside of 0 … 255.
    """

    name, title, formula = "denoise", "Denoise", "y = x + N(0, (σ/127.5)²), clipped to [−1, 1]"

    def __init__(self, *, resolution: int, sigma: float = 25.0, assumed_sigma: float | None = None) -> None:
        super().__init__(resolution=resolution)
        check_number("sigma", sigma, 0.0, 255.0)
        if assumed_sigma is not None:
            check_number("assumed_sigma", assumed_sigma, 0.0, 255.0)
        self.sigma, self.assumed_sigma = sigma, assumed_sigma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return y

    def add_noise(self, y: torch.Tensor, seed: int) -> torch.Tensor:
        samples = range(y.shape[0])
        noise = [torch.randn(y.shape[1:], generator=torch.Generator().manual_seed(seed + b)) for b in samples]
        return (y + self.sigma / 127.5 * torch.stack(noise).to(y)).clamp(-1.0, 1.0)

    @property
    def sna_sigma(self) -> float:
        return (self.sigma if self.assumed_sigma is None else self.assumed_sigma) / 127.5


@register
class Colorize(Operator):
    """Give a grey picture its colours: y `[B,1,R,R]` is the luma of ITU-R BT.601."""

    name, title, formula = "colorize", "Colourise", "y = 0.299 R + 0.587 G + 0.114 B"

    def __init__(self, *, resolution: int) -> None:
        super().__init__(resolution=resolution)
        self.luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.luma * x).sum(1, keepdim=True)

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return self.luma * y

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (1, self.resolution, self.resolution)


@register
class Identity(Operator):
    """Plain inversion: the whole picture is measured."""

    name, title, formula = "identity", "Invert", "y = x"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return y
