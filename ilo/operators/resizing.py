"""Resizing pictures, and computing in at least float32."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional as F


def widen(x: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32; leave other dtypes unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def resize(x: torch.Tensor, size: int) -> torch.Tensor:
    """Resize `x [B,1 or 3,s,s]` to `[B,3,size,size]`: bicubic (a = −0.5), with antialiasing when reducing."""
    x = widen(x).expand(-1, 3, -1, -1)
    if x.shape[-1] == size:
        return x
    m = _resizing_matrix(x.shape[-1], size, x.device).to(x.dtype)
    return m @ x @ m.mT


# A matrix product is used because the gradient of torch's own interpolation is not deterministic on CUDA.
@functools.lru_cache(maxsize=8)
def _resizing_matrix(side: int, size: int, device: torch.device) -> torch.Tensor:
    """One axis of the resizing: float32 `[size, side]`."""
    with torch.inference_mode(False):  # the cached matrix must also work in later calls that need gradients
        eye = torch.eye(side, dtype=torch.float64)[None, None]
        return F.interpolate(eye, size=(size, side), mode="bicubic", antialias=True)[0, 0].to(device, torch.float32)


def enlarge_nearest(x: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge `x [B,1 or 3,h,w]` to `[B,3,size,size]` by repeating pixels."""
    x = x.expand(-1, 3, -1, -1)
    return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="nearest")
