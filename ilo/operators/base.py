"""The base class of all forward operators."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch

from ilo.engine.streams import stream
from ilo.operators.noise import Noise, NoNoise
from ilo.operators.resizing import enlarge_nearest, resize, widen
from ilo.operators.setting import MAX_SEED, Setting
from ilo.settings import SettingsError, check_whole, named


class Operator:
    """A differentiable forward operator A: the measurement is y = A(x) + noise (Daras et al. 2021, section 2.1).

    It acts per sample on pictures `x [B,3,R,R]` in [-1, 1] and computes in float32, or in float64 for a float64 `x`;
    half-precision input is converted to float32. Its own tensors are float32.

    To add an operator, write a subclass with a name, its settings and `forward`:

        @register
        class Dim(Operator):
            name, title, formula = "dim", "Brighten", "y = gain · x"
            help = "Every value was multiplied by the same factor."
            gain: float = Setting.number(0.5, 0.0, 2.0, step=0.1, label="Gain", help="Factor on every value.")

            def forward(self, x):
                return self.gain * x

    `build` then finds it by name, the command line and the page offer its settings, and, if it is linear, it has an
    adjoint. Override `measurement_shape` if y is not a picture of R×R pixels, `noise` if measuring always adds noise,
    and `prepare` for computations that are done once.

    Args:
        resolution: side R of the pictures in pixels, 2 … 4096.
        settings: values of the declared settings; those with a default may be omitted.

    Raises:
        SettingsError: a setting is unknown, missing or not allowed.
    """

    name: ClassVar[str] = ""  # identifier in the registry, in recipes and on the command line
    title: ClassVar[str] = ""  # name shown to people
    label: ClassVar[str] = ""  # shorter name for the page's button, if the title is too long
    help: ClassVar[str] = ""  # one plain sentence: what was done to the picture
    formula: ClassVar[str] = ""  # one line of plain text
    declared: ClassVar[tuple[Setting, ...]] = ()  # settings declared in the class body, in their order
    # Whether an uploaded picture can be the measurement: not at all, unchanged, or after applying A, which leaves an
    # already damaged picture as it is.
    upload: Literal["no", "as it is", "applied"] = "no"
    shrinks: ClassVar[bool] = False  # whether the uploaded picture may be smaller than R
    holes: bool = False  # whether whole regions are hidden; presets have settings of their own for that
    baselines: ClassVar[tuple[str, ...]] = ()  # applicable methods of `ilo.baselines.classical`, the default first
    dct_weight: ClassVar[float] = 0.02  # weight of the l1 norm in the baseline `sparse_dct`
    linear: bool = True
    mask: torch.Tensor | None = None  # mask [1,1,R,R], 1 = observed, for operators that hide pixels

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}
        inherited = (setting for setting in cls.declared if setting.name not in vars(cls))
        cls.declared = (*inherited, *(replace(setting, name=name) for name, setting in own.items()))

    def __init__(self, *, resolution: int, **settings: Any) -> None:
        check_whole("resolution", resolution, 2, 4096)
        self.check_names(settings)
        self.resolution = resolution
        values = {setting.name: settings.get(setting.name, setting.default) for setting in self.declared}
        for setting in self.declared:
            setting.check(values, resolution)
            setattr(self, setting.name, values[setting.name])
        self.prepare()

    @classmethod
    def check_names(cls, settings: Mapping[str, Any]) -> None:
        """Raises `SettingsError` if a setting is not declared, or a required one is missing."""
        cls.check_known(settings)
        missing = [setting.name for setting in cls.declared if setting.required and setting.name not in settings]
        if missing:
            raise SettingsError(f"{cls.title} needs {', '.join(missing)}; give it as a setting.")

    @classmethod
    def check_known(cls, names: Iterable[str]) -> None:
        """Raises `SettingsError` if a name is not that of a setting."""
        known = [setting.name for setting in cls.declared]
        unknown = set(names) - set(known)
        if unknown:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise SettingsError(f"{cls.title} does not know the setting {named(unknown)}; {has}.")

    @classmethod
    def suggested(cls, resolution: int) -> dict[str, Any]:
        """Suggested settings at a resolution, without the mask."""
        return {setting.name: setting.suggest(resolution) for setting in cls.declared if setting.kind != "mask"}

    @classmethod
    def mask_setting(cls) -> Setting | None:
        """The declaration of the mask, or None if the operator takes none."""
        return next((setting for setting in cls.declared if setting.kind == "mask"), None)

    # To be defined by a subclass.

    def prepare(self) -> None:
        """Do one-time computations. All settings are already validated and set as attributes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A(x) for `x [B,3,R,R]`, float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward.")

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        """A*y for a linear operator; by default the vector-Jacobian product of `forward`, which is exact."""
        x = y.new_zeros(y.shape[0], 3, self.resolution, self.resolution, requires_grad=True)
        with torch.enable_grad():
            (image,) = torch.autograd.grad(self.forward(x), x, y, create_graph=y.requires_grad)
        return image

    @property
    def noise(self) -> Noise:
        """Noise model that measuring uses by default; here none."""
        return NoNoise()

    @property
    def assumed_noise(self) -> Noise:
        """Noise model that the solver assumes; here the one that measuring uses."""
        return self.noise

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one sample's y."""
        return (3, self.resolution, self.resolution)

    @property
    def observed(self) -> int:
        """m, the number of measured values per sample."""
        return math.prod(self.measurement_shape)

    @property
    def normaliser(self) -> int:
        """N of the data term ‖A(G) − y‖²/N, chosen so that random errors give the mean squared error per pixel."""
        return self.observed

    @property
    def compares_features(self) -> bool:
        """Whether a perceptual distance between prediction and measurement is meaningful (section 4.2)."""
        return self._measures_pictures

    @property
    def fills(self) -> bool:
        """Whether a perceptual distance compares with y after its holes are filled from the generated picture."""
        return False

    # The same for every operator.

    @property
    def _measures_pictures(self) -> bool:
        """Whether y is a square picture, grey or in colour."""
        shape = self.measurement_shape
        return len(shape) == 3 and shape[0] in (1, 3) and shape[1] == shape[2]

    @property
    def size(self) -> int:
        """n, the number of values in one picture."""
        return 3 * self.resolution**2

    @property
    def share(self) -> float:
        """m/n."""
        return self.observed / self.size

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A(x), without noise and differentiable.

        Args:
            x: `[B,3,R,R]` in [-1, 1], any floating dtype.

        Returns:
            `[B, *measurement_shape]`, float32 (float64 for a float64 `x`).

        Raises:
            SettingsError: `x` has a wrong shape.
        """
        self._check_picture(x)
        return self.forward(widen(x))

    def _check_picture(self, x: torch.Tensor) -> None:
        side = self.resolution
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, side, side):
            raise SettingsError(f"The picture has shape {list(x.shape)}; {self.title} needs [B,3,{side},{side}].")

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """A*y, with ⟨Ax, y⟩ = ⟨x, A*y⟩ for all x.

        Args:
            y: `[B, *measurement_shape]`, any floating dtype.

        Returns:
            `[B,3,R,R]`, float32 (float64 for a float64 `y`).

        Raises:
            SettingsError: the operator is not linear, or `y` has a wrong shape.
        """
        if not self.linear:
            raise SettingsError(f"{self.title} is not linear, so it has no adjoint.")
        self._check_shape(y)
        return self.transpose(widen(y))

    def measure(self, x: torch.Tensor, seed: int = 0, noise: Noise | None = None) -> torch.Tensor:
        """y = A(x) + noise, without gradient.

        Args:
            x: `[B,3,R,R]` in [-1, 1].
            seed: sample b draws its noise from seed + b on the CPU, so a batch equals single measurements.
            noise: noise model; None takes the operator's own, `Operator.noise`.

        Returns:
            `[B, *measurement_shape]` on the device of `x`.

        Raises:
            SettingsError: `x` has a wrong shape or values that are not finite, the result of `forward` does not have
                `measurement_shape`, or the noise is clipped but y is not a picture.
        """
        check_whole("seed", seed, 0, MAX_SEED)
        noise = self.noise if noise is None else noise
        if noise.clips and not self._measures_pictures:
            raise SettingsError(
                f"{self.title} does not measure a picture, so {noise.name} noise has no range to be clipped to; "
                "choose another noise model."
            )
        self._check_picture(x)
        rngs = [stream(seed + b, "measurement noise") for b in range(len(x))]
        with torch.no_grad():
            y = self.to(x.device).perturbed(x, rngs, noise)
        if tuple(y.shape[1:]) != self.measurement_shape:
            raise SettingsError(
                f"{self.title} gives a measurement of shape {list(y.shape[1:])}, but its measurement_shape is "
                f"{list(self.measurement_shape)}; override that property in {type(self).__name__}."
            )
        self.check_measurement(y)
        return y

    def expected(self, x: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        """E[y | x], the mean of all noisy measurements of `x [B,3,R,R]`; differentiable.

        Clipped noise makes it differ from A(x): fitting A(x) to y would pull the picture away from its limits.
        `noise` replaces `assumed_noise`.
        """
        noise = self.assumed_noise if noise is None else noise
        return noise.expected(self(x))

    def perturbed(self, x: torch.Tensor, rngs: list[torch.Generator], noise: Noise | None = None) -> torch.Tensor:
        """One random measurement of `x [B,3,R,R]`, differentiable; sample b draws its noise from rngs[b].

        `noise` replaces `assumed_noise`.
        """
        noise = self.assumed_noise if noise is None else noise
        return noise.perturb(self(x), rngs)

    def noise_level(self, noise: Noise | None = None) -> float:
        """σ of the noise that `expected` and `perturbed` assume, 0 … 255; `noise` replaces `assumed_noise`."""
        return (self.assumed_noise if noise is None else noise).sigma

    @property
    def last(self) -> Operator:
        """The operator whose output is y: this one, or the last of a sequence."""
        return self

    def entering(self, x: torch.Tensor, rngs: list[torch.Generator] | None = None) -> torch.Tensor:
        """The picture that enters the operator `last` when `x [B,3,R,R]` is measured: here `x` itself.

        Noise of earlier operators in a sequence is replaced by its mean, or drawn from `rngs` if they are given.
        """
        return x

    def check_measurement(self, y: torch.Tensor) -> None:
        """Raises `SettingsError` unless `y` is finite with shape `[B, *measurement_shape]`. Waits for the device."""
        self._check_shape(y)
        if not bool(torch.isfinite(y).all()):
            raise SettingsError("The measurement contains values that are not finite (NaN or inf); measure again.")

    def _check_shape(self, y: torch.Tensor) -> None:
        wanted = self.measurement_shape
        if not y.is_floating_point() or y.ndim == 0 or y.shape[0] < 1 or tuple(y.shape[1:]) != wanted:
            given = f"{list(y.shape)} of {str(y.dtype).removeprefix('torch.')}"
            needed = ",".join(map(str, ("B", *wanted)))
            raise SettingsError(
                f"The measurement is {given}; {self.title} at {self.resolution} px needs floating-point [{needed}]. "
                "Make it with .measure(image) of the same operator."
            )

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        """The measurement as a picture to show, `[B,3,R,R]` in [-1, 1].

        A grey y is repeated per channel; a low-resolution y is enlarged; a y that is not a picture is shown as A*y, or
        as plain grey if there is no adjoint.
        """
        self._check_shape(y)
        if not self._measures_pictures:
            seen = self.adjoint(y) if self.linear else y.new_zeros(y.shape[0], 3, self.resolution, self.resolution)
            return widen(seen).clamp(-1.0, 1.0)
        return enlarge_nearest(widen(y), self.resolution).clamp(-1.0, 1.0)

    def comparable(
        self, image: torch.Tensor, prediction: torch.Tensor, y: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The two pictures that a perceptual distance compares (section 4.2).

        Args:
            image: what `entering` makes of the generated picture, `[B,3,s,s]` with s = R except in a sequence.
            prediction: its measurement: the mean, or a random one under stochastic noise addition.
            y: the measurement.
            size: side of the compared pictures, min(R, 256); pictures are resized bicubically, with antialiasing when
                reduced.

        Returns:
            Two pictures `[B,3,size,size]`, the generated one first, or None if only the squared error is meaningful.
        """
        if not self.compares_features:
            return None
        return resize(prediction, size), resize(y, size)

    def settings(self) -> dict[str, Any]:
        """Settings as plain JSON types: `build(op.name, op.resolution, **op.settings())` gives the same operator.

        They do not include the mask, which is `op.mask`.
        """
        return {setting.name: getattr(self, setting.name) for setting in self.declared if setting.kind != "mask"}

    @property
    def upload_side(self) -> int:
        """Side in pixels of an uploaded measurement, see `upload`."""
        return self.resolution if self.upload == "applied" else self.measurement_shape[-1]

    def given(self, picture: torch.Tensor) -> torch.Tensor:
        """The measurement for an uploaded picture `[B,3,s,s]` with s = `upload_side`."""
        return self(picture) if self.upload == "applied" else picture

    def to(self, device: torch.device | str) -> Operator:
        """A copy whose tensors are on `device`."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (torch.Tensor, Operator)):
                setattr(moved, name, value.to(device))
            elif isinstance(value, tuple) and value and all(isinstance(v, (torch.Tensor, Operator)) for v in value):
                setattr(moved, name, tuple(v.to(device) for v in value))
        return moved

    def __repr__(self) -> str:
        settings = {"resolution": self.resolution, **self.settings()}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
