"""Error metrics of a reconstruction against the truth. For display only: the solver never sees the truth.

Pictures are `[B,3,R,R]` in [-1, 1] of any floating dtype; values outside are clamped. Errors are on the [0, 1] scale,
as the paper reports them (section 4.3).
"""

from __future__ import annotations

import math

import torch
from skimage.metrics import structural_similarity

from ilo.settings import SettingsError

SSIM_WINDOW = 11  # window size in pixels: a Gaussian with σ = 1.5 truncated at 3.5 σ
MAX_PSNR = 100.0  # dB; `report` returns it for equal pictures, because JSON has no infinity


def mse(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error per sample on the [0, 1] scale.

    Args:
        a, b: `[B,3,R,R]` in [-1, 1].
        mask: region to evaluate, `[B or 1,1,R,R]`, 1 = included; None: the whole picture.

    Returns:
        float64 `[B]`, 0 … 1, on the device of `a`.

    Raises:
        SettingsError: shapes do not match, or the mask is empty.
    """
    region = _region(a, b, mask)
    squared = (_unit(a) - _unit(b)) ** 2
    return (squared * region).sum((1, 2, 3)) / (3 * region.sum((1, 2, 3)))


def psnr(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio per sample in dB, −10 log₁₀ of `mse`: float64 `[B]`; inf for equal pictures.

    Arguments and errors are those of `mse`.
    """
    return -10.0 * torch.log10(mse(a, b, mask))


def ssim(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Structural similarity per sample (Wang et al. 2004) with a Gaussian window, by scikit-image.

    Args:
        a, b: `[B,3,R,R]` in [-1, 1], R at least 11.
        mask: `[B or 1,1,R,R]`, 1 = included; averages the similarity map over this region. None gives the usual mean,
            which omits a border of 5 pixels.

    Returns:
        float64 `[B]`, −1 … 1, on the device of `a`.

    Raises:
        SettingsError: shapes do not match, the pictures are smaller than 11 pixels, or the mask is empty.
    """
    region = _region(a, b, mask)[:, 0].cpu().numpy() > 0
    if a.shape[-1] < SSIM_WINDOW:
        raise SettingsError(f"The pictures are {a.shape[-1]} px wide; SSIM needs at least {SSIM_WINDOW} px.")
    left, right = (_unit(x).permute(0, 2, 3, 1).cpu().numpy() for x in (a, b))
    values = []
    for i in range(a.shape[0]):
        mean, similarity = structural_similarity(
            left[i],
            right[i],
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        values.append(float(mean if mask is None else similarity[region[i]].mean()))
    return torch.tensor(values, dtype=torch.float64, device=a.device)


def report(image: torch.Tensor, truth: torch.Tensor, hole: torch.Tensor | None = None) -> dict[str, float]:
    """Compute all metrics of one sample.

    Args:
        image, truth: `[1,3,R,R]` in [-1, 1].
        hole: `[1,1,R,R]`, 1 = hidden; adds the same metrics inside the hole.

    Returns:
        "mse", "psnr" (dB, at most 100) and "ssim"; with a hole also "mse_hole", "psnr_hole" and "ssim_hole". SSIM is
        omitted below 11 pixels, where it is not defined.

    Raises:
        SettingsError: there is more than one sample, shapes do not match, or the hole is empty.
    """
    if image.shape[0] != 1:
        raise SettingsError(f"A report is about one picture, but {image.shape[0]} are given; pass them one by one.")
    values: dict[str, float] = {}
    for suffix, mask in (("", None), ("_hole", hole)):
        if suffix and mask is None:
            continue
        error = float(mse(image, truth, mask))
        values[f"mse{suffix}"] = error
        values[f"psnr{suffix}"] = min(MAX_PSNR, -10.0 * math.log10(max(error, 1e-30)))
        if image.shape[-1] >= SSIM_WINDOW:
            values[f"ssim{suffix}"] = float(ssim(image, truth, mask))
    return values


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Map [-1, 1] to [0, 1] in float64, without gradient."""
    return (x.detach().double().clamp(-1.0, 1.0) + 1.0) / 2.0


def _region(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The region to evaluate: float64 `[B,1,R,R]` of zeros and ones."""
    if a.ndim != 4 or a.shape[1] != 3 or a.shape != b.shape:
        raise SettingsError(f"The pictures have shapes {list(a.shape)} and {list(b.shape)}; give two equal [B,3,R,R].")
    shape = (a.shape[0], 1, *a.shape[-2:])
    if mask is None:
        return torch.ones(shape, dtype=torch.float64, device=a.device)
    if mask.ndim != 4 or mask.shape[0] not in (1, a.shape[0]) or mask.shape[1:] != shape[1:]:
        raise SettingsError(f"The region has shape {list(mask.shape)}; give {list(shape)}, 1 = included.")
    region = (mask.to(a.device) > 0.5).double().expand(shape)
    if not bool((region.sum((1, 2, 3)) > 0).all()):
        raise SettingsError("The region to evaluate is empty; give a mask with at least one pixel of 1.")
    return region
