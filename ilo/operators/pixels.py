"""Operators that act on each pixel separately: inpainting, denoising, colourising and plain inversion."""

from __future__ import annotations

import torch

from ilo.operators.base import Operator
from ilo.operators.noise import ClippedGaussian, Noise
from ilo.operators.resizing import resize, widen
from ilo.operators.setting import Setting
from ilo.photos.masks import fit_mask
from ilo.settings import SettingsError

# Share of observed pixels below which only the squared error is used; section 4.2 says "scarce", without a number.
SCARCE = 0.2


class _Masked(Operator):
    """y = mask · x. Hidden values are 0, but only the mask, not the value 0, marks them as hidden."""

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
    def compares_features(self) -> bool:
        return self.share >= SCARCE

    @property
    def fills(self) -> bool:
        return True

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
        if not self.compares_features:
            return None
        # Fill the holes of the observation with generated pixels before resizing.
        image = widen(image)
        filled = self.mask * y + (1.0 - self.mask) * image
        return resize(image, size), resize(filled, size)

    def expected(self, x: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        """Hidden pixels stay 0: they have no noise."""
        return self.mask * super().expected(x, noise)

    def perturbed(self, x: torch.Tensor, rngs: list[torch.Generator], noise: Noise | None = None) -> torch.Tensor:
        """Hidden pixels stay 0: they have no noise."""
        return self.mask * super().perturbed(x, rngs, noise)

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        """The observed pixels; hidden pixels are mid-grey (0)."""
        return super().picture(self.mask * y)


class Inpaint(_Masked):
    """Inpainting: fill in the pixels that a mask hides (section 4.3).

    The mask has shape `[H,W]` … `[1,1,H,W]`, where values above 0.5 are observed. It is resized to R if necessary, see
    `mask_resized`. It must hide at least one pixel and leave at least one observed.
    """

    name, title = "inpaint", "Inpaint"
    help = "Paint over the part to fill in, or choose a mask."
    upload = "applied"
    holes = True
    baselines = ("telea", "navier-stokes", "dct")
    dct_weight = 0.01
    mask: torch.Tensor = Setting.mask(help="The hidden part: white pixels are filled in.")

    def prepare(self) -> None:
        fitted, self.mask_resized = fit_mask(self.mask, self.resolution)
        self._set_mask(fitted)
        if self._pixels == 0:
            raise SettingsError("The mask hides every pixel; leave at least one pixel visible.")
        if self._pixels == self.resolution**2:
            raise SettingsError("The mask hides no pixel, so there is nothing to fill in; paint over the part to hide.")


class RandomInpaint(_Masked):
    """Fill in a picture from a few random pixels, known in all three channels (section 4.3)."""

    name, title = "random-inpaint", "Missing pixels"
    help = "Only some random pixels are kept."
    baselines = ("navier-stokes", "telea", "dct")
    dct_weight = 0.03
    fraction: float = Setting.number(
        0.5, 0.005, 1.0, step=0.005, unit="%", label="Pixels kept", help="Share of the pixels that are kept."
    )
    seed: int = Setting.seed(help="A different seed keeps different pixels.")

    def prepare(self) -> None:
        pixels = self.resolution**2
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(self.seed))
        mask = torch.zeros(pixels)
        mask[order[: max(1, round(self.fraction * pixels))]] = 1.0
        self._set_mask(mask.reshape(1, 1, self.resolution, self.resolution))


class Identity(Operator):
    """Plain inversion: the whole picture is measured."""

    name, title, formula = "identity", "Reproduce", "y = x"
    help = "The whole picture is known: find the code that generates it."
    upload = "as it is"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return y


class Denoise(Identity):
    """Remove Gaussian noise that was clipped to [-1, 1]; the operator is the identity (section 4.2)."""

    name, title = "denoise", "Denoise"
    formula = "y = x + N(0, (σ/127.5)²), clipped to [−1, 1]"
    help = "Every pixel is noisy; σ is on the scale 0–255."
    upload = "as it is"
    baselines = ("non-local means",)
    sigma: float = Setting.number(
        25.0,
        0.0,
        255.0,
        slider=lambda _: (0, 100),
        label="Noise σ",
        help="Standard deviation of the noise, on the scale 0–255.",
    )
    assumed_sigma: float | None = Setting.number(
        None,
        0.0,
        255.0,
        optional="same",
        label="σ assumed by the solver",
        help="The noise level that the solver expects.",
    )

    @property
    def noise(self) -> Noise:
        return ClippedGaussian(self.sigma)

    @property
    def assumed_noise(self) -> Noise:
        return ClippedGaussian(self.sigma if self.assumed_sigma is None else self.assumed_sigma)


class Colorize(Operator):
    """Colourise a grey picture: y `[B,1,R,R]` is the luma of ITU-R BT.601."""

    name, title, formula = "colorize", "Colourise", "y = 0.299 R + 0.587 G + 0.114 B"
    help = "Only the brightness is known, not the colours."
    upload = "applied"

    def prepare(self) -> None:
        self.luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.luma * x).sum(1, keepdim=True)

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        return self.luma * y

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (1, self.resolution, self.resolution)
