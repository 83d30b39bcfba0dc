"""Classical baselines: what each task gives without a generative model.

Each function takes one measurement and returns one picture, float32 `[1,3,R,R]` in [-1, 1], on the CPU.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from scipy import fft

from ilo.operators import OPERATORS, Operator
from ilo.operators.resizing import resize
from ilo.settings import SettingsError, check_choice, check_number, check_whole

_FILLING = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}


def baseline(operator: Operator, y: torch.Tensor, method: str | None = None, **tuning: Any) -> torch.Tensor:
    """Reconstruct a measurement with a classical method.

    Args:
        operator: operator of the measurement.
        y: one measurement `[1, *operator.measurement_shape]`.
        method: one of `operator.baselines`; None takes the first.
        tuning: keyword arguments of the method's function: `radius` (`fill_holes`), `strength` (`non_local_means`),
            `weight` and `steps` (`sparse_dct`; the default weight is the operator's).

    Returns:
        float32 `[1,3,R,R]` in [-1, 1] on the CPU.

    Raises:
        SettingsError: the task has no baseline or not this method, a setting in `tuning` is unknown or out of range,
            or `y` is not a single measurement of this operator.
    """
    names = operator.baselines
    if not names:
        tasks = ", ".join(name for name, kind in OPERATORS.items() if kind.baselines)
        raise SettingsError(f"There is no classical baseline for {operator.title}; there is for {tasks}.")
    method = names[0] if method is None else method
    check_choice("baseline", method, names)
    known = _TUNING[method]
    if unknown := sorted(set(tuning) - set(known)):
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise SettingsError(f"The baseline {method} does not know the setting {', '.join(unknown)}; {has}.")
    operator = operator.to("cpu")
    y = y.detach().float().cpu()
    operator.check_measurement(y)
    if y.shape[0] != 1:
        raise SettingsError(f"There are {y.shape[0]} measurements; a baseline takes one, so pass them one by one.")
    if method == "dct":
        return sparse_dct(operator, y, **{"weight": operator.dct_weight, **tuning})
    if method == "bicubic":
        return enlarge(y, operator.resolution)
    if method == "non-local means":
        return non_local_means(y, operator.assumed_noise.sigma, **tuning)
    if operator.mask is None:
        raise SettingsError(f"{operator.title} has no mask, so {method} has nothing to fill; choose another baseline.")
    return fill_holes(y, operator.mask, method, **tuning)


_TUNING: dict[str, tuple[str, ...]] = {
    "telea": ("radius",),
    "navier-stokes": ("radius",),
    "non-local means": ("strength",),
    "bicubic": (),
    "dct": ("weight", "steps"),
}


def enlarge(y: torch.Tensor, resolution: int) -> torch.Tensor:
    """Bicubic enlargement (Keys 1981, a = −0.5) of `y [1,3,r,r]` to `[1,3,R,R]`."""
    return resize(y, resolution).clamp(-1.0, 1.0)


def fill_holes(y: torch.Tensor, mask: torch.Tensor, method: str = "telea", radius: float = 3.0) -> torch.Tensor:
    """Fill holes from their border inwards, with OpenCV.

    Args:
        y: `[1,3,R,R]`; values in the holes are ignored.
        mask: `[1,1,R,R]`, 1 = observed. Observed pixels are returned unchanged.
        method: "telea" (fast marching, Telea 2004) or "navier-stokes" (Bertalmio et al. 2001).
        radius: radius of the neighbourhood that each pixel is filled from, 1 … 64 pixels.

    Raises:
        SettingsError: the method is unknown or the radius out of range.
    """
    check_choice("method of filling", method, tuple(_FILLING))
    check_number("radius", radius, 1.0, 64.0)
    hidden = (mask[0, 0] < 0.5).numpy().astype(np.uint8)
    filled = _from_bgr(cv2.inpaint(_to_bgr(y), hidden, float(radius), _FILLING[method]))
    return torch.where(mask > 0.5, y, filled).clamp(-1.0, 1.0)


def non_local_means(y: torch.Tensor, sigma: float, strength: float = 0.6) -> torch.Tensor:
    """Denoise by non-local means (Buades et al. 2005) in the Lab colour space, with OpenCV.

    Args:
        y: noisy picture `[1,3,R,R]`.
        sigma: standard deviation of the noise on the grey-value scale, 0 … 255.
        strength: filter strength h in units of sigma, 0 … 10.

    Raises:
        SettingsError: `sigma` or `strength` is out of range.
    """
    check_number("sigma", sigma, 0.0, 255.0)
    check_number("strength", strength, 0.0, 10.0)
    h = float(strength * sigma)
    if h == 0.0:
        return y.clamp(-1.0, 1.0)
    return _from_bgr(cv2.fastNlMeansDenoisingColored(_to_bgr(y), None, h, h, 7, 21))


def sparse_dct(operator: Operator, y: torch.Tensor, weight: float = 0.02, steps: int = 200) -> torch.Tensor:
    """Find a picture that is sparse in the cosine basis and fits the measurement.

    FISTA (Beck & Teboulle 2009) on ½‖A(x) − y‖² + weight·‖C x‖₁, where C is the orthonormal 2-D cosine transform of
    each channel; its constant coefficient is not penalised.

    Args:
        operator: linear operator, on the CPU.
        y: one measurement `[1, *operator.measurement_shape]`.
        weight: weight of the l1 norm, 0 … 10.
        steps: number of FISTA iterations, 1 … 10000.

    Raises:
        SettingsError: the operator is not linear, or a value is out of range.
    """
    check_number("weight", weight, 0.0, 10.0)
    check_whole("steps", steps, 1, 10_000)
    with torch.no_grad():
        step = 1.0 / _squared_norm(operator)
        threshold = weight * step
        coefficients = _dct(torch.zeros(1, 3, operator.resolution, operator.resolution))
        ahead, t = coefficients, 1.0
        for _ in range(steps):
            gradient = _dct(operator.adjoint(operator(_idct(ahead)) - y))
            moved = ahead - step * gradient
            shrunk = moved.sign() * (moved.abs() - threshold).clamp_min(0.0)
            shrunk[..., 0, 0] = moved[..., 0, 0]
            t_next = (1.0 + (1.0 + 4.0 * t * t) ** 0.5) / 2.0
            ahead = shrunk + (t - 1.0) / t_next * (shrunk - coefficients)
            coefficients, t = shrunk, t_next
        return _idct(coefficients).clamp(-1.0, 1.0)


def _squared_norm(operator: Operator, iterations: int = 30) -> float:
    """Slight overestimate of ‖A‖², the largest eigenvalue of A*A, by power iteration."""
    x = torch.randn(1, 3, operator.resolution, operator.resolution, generator=torch.Generator().manual_seed(0))
    for _ in range(iterations):
        x = operator.adjoint(operator(x / x.norm()))
    return 1.1 * float(x.norm())


def _dct(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho"))


def _idct(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(fft.idctn(x.numpy(), axes=(-2, -1), norm="ortho"))


def _to_bgr(x: torch.Tensor) -> np.ndarray:
    """Convert `[1,3,R,R]` in [-1, 1] to uint8 `[R,R,3]` in OpenCV's channel order."""
    grey_values = ((x[0].clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(grey_values.flip(0).permute(1, 2, 0).numpy())


def _from_bgr(picture: np.ndarray) -> torch.Tensor:
    values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).flip(0)
    return (values.float() / 127.5 - 1.0)[None]
