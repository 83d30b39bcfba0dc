"""Reading pictures and masks: the only place where a file becomes pixels.

Whatever goes wrong with a picture is a `PictureError`, whose message is meant for the user.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from ilo.settings import SettingsError, check_number
from ilo.state import to_uint8

Source: TypeAlias = "str | Path | bytes | Image.Image | np.ndarray"

# No format whose reader starts another program or fetches something.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SMALLEST_SIDE = 8
LARGEST_SIDE = 10_000
MOST_PIXELS = 40_000_000
MAX_ZOOM = 8.0
PngImagePlugin.MAX_TEXT_MEMORY = 2**22  # bytes of text that a PNG may unfold, of which nothing is used


class PictureError(ValueError):
    """A picture that cannot be used; the message says why and what would do."""


@dataclass(frozen=True)
class Crop:
    """The square part of a picture that is used.

    Args:
        x, y: its centre as fractions 0 … 1 of the picture's width and height.
        zoom: 1 … 8; 1 is the largest square that fits, 2 half its side.

    Raises:
        SettingsError: for values out of range.
    """

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0

    def __post_init__(self) -> None:
        check_number("The crop's centre x", self.x, 0.0, 1.0)
        check_number("The crop's centre y", self.y, 0.0, 1.0)
        check_number("The crop's zoom", self.zoom, 1.0, MAX_ZOOM)


WHOLE = Crop()


def read_picture(source: Source, smallest: int = SMALLEST_SIDE, largest: int = LARGEST_SIDE) -> Image.Image:
    """A picture, turned upright, in RGB.

    Grey, 16-bit, palette and CMYK pictures are converted, transparency is put on white, an animation gives its first
    frame.

    Args:
        source: a file's path or its bytes, a PIL image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8,
            uint16, bool, or floats from 0 to 1.
        smallest, largest: the numbers of pixels per side that are allowed.

    Raises:
        PictureError: no such file, not a picture, broken, or too small or too large. The size is read from the file's
            header, so a huge picture is never decoded.
    """
    return _guarded(_name(source), lambda: _rgb(_open(source, smallest, largest)))


def read_mask(source: Source, largest: int = LARGEST_SIDE) -> Tensor:
    """A mask: float32 [1, 1, H, W], 1 = observed, 0 = to be filled in.

    In the file, white marks the pixels that are to be filled in and black is kept. If it has an alpha channel that is
    not opaque everywhere, what is painted (alpha above 0) is to be filled in.

    Arguments and errors are those of `read_picture`; any size from 1×1 will do.
    """

    def hidden() -> np.ndarray:
        image = _open(source, 1, largest)
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
            if alpha.min() < 255:
                return alpha > 0
        return np.asarray(_rgb(image).convert("L")) >= 128

    return 1.0 - torch.from_numpy(_guarded(_name(source), hidden)).float()[None, None]


def mask_picture(mask: Tensor) -> Image.Image:
    """A mask [1, 1, H, W] (1 = observed) as `read_mask` reads it: grey, white = to be filled in."""
    hidden = (mask[0, 0].cpu() <= 0.5).numpy()
    return Image.fromarray(hidden.astype(np.uint8) * 255)


def crop_box(size: tuple[int, int], crop: Crop) -> tuple[float, float, float]:
    """Left, top and side in pixels of the square that `crop` takes of a picture of `size` (width, height).

    A square that would stick out is moved inside.
    """
    width, height = size
    side = min(width, height) / crop.zoom
    left = min(max(crop.x * width - side / 2, 0.0), width - side)
    top = min(max(crop.y * height - side / 2, 0.0), height - side)
    return left, top, side


def to_tensor(image: Image.Image, resolution: int, crop: Crop = WHOLE) -> Tensor:
    """The cropped square of an RGB picture: float32 [1, 3, R, R] in [−1, 1], of 256 levels.

    Bicubic, with antialiasing where it is reduced.
    """
    left, top, side = crop_box(image.size, crop)
    box = (left, top, left + side, top + side)
    pixels = np.array(image.convert("RGB").resize((resolution, resolution), Image.Resampling.BICUBIC, box=box))
    return from_uint8(pixels[None])


def to_picture(image: Tensor) -> Image.Image:
    """The first sample of [B, 3 or 1, H, W] in [−1, 1], clamped, as an RGB picture."""
    return Image.fromarray(to_uint8(image[:1].expand(-1, 3, -1, -1))[0])


def from_uint8(pixels: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W] in [−1, 1]; `ilo.state.to_uint8` is the exact inverse."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def _guarded(name: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; every failure of a decoder becomes a `PictureError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on large pictures (the limits here are narrower) and odd data
            return read()
    except (PictureError, SettingsError):
        raise
    except FileNotFoundError:
        raise PictureError(f"There is no file {name}; check the path.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise PictureError(f"{name} cannot be read ({error.strerror}); give a picture file.") from None
    except UnidentifiedImageError:
        raise PictureError(
            f"{name} is not a picture that can be read; give a PNG, JPEG, WebP, GIF, BMP or TIFF file."
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(f"{name} has far too many pixels; {_limits()}") from None
    except Exception as error:  # a decoder may fail in any way on a broken file
        reason = " ".join(str(error).split())[:120]
        raise PictureError(f"{name} is broken or cut off ({reason}); save or copy it again.") from error


def _name(source: Source) -> str:
    return Path(source).name or str(source) if isinstance(source, (str, Path)) else "The picture"


def _open(source: Source, smallest: int, largest: int) -> Image.Image:
    """The decoded picture, upright, in its own mode."""
    if isinstance(source, np.ndarray):
        image = _from_array(source, smallest)
    elif isinstance(source, Image.Image):
        image = source
    else:
        file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
        image = Image.open(file, formats=FORMATS)
    _check_size(image.size, smallest, largest)
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF data is no reason to refuse the pixels
        return image


def _check_size(size: tuple[int, int], smallest: int, largest: int = LARGEST_SIDE) -> None:
    width, height = size
    if min(size) < smallest:
        raise PictureError(f"The picture is {width}×{height} px; at least {smallest}×{smallest} px are needed.")
    if largest < LARGEST_SIDE and max(size) > largest:
        raise PictureError(f"The picture is {width}×{height} px; at most {largest} px per side are allowed.")
    if max(size) > LARGEST_SIDE or width * height > MOST_PIXELS:
        raise PictureError(f"The picture is {width}×{height} px; {_limits()}")


def _limits() -> str:
    return (
        f"allowed are {LARGEST_SIDE:,} px per side and {MOST_PIXELS // 1_000_000} megapixels in all. "
        "Make it smaller first."
    )


def _from_array(pixels: np.ndarray, smallest: int) -> Image.Image:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise PictureError(f"The picture is an array of shape {list(pixels.shape)}; give [H,W], [H,W,3] or [H,W,4].")
    _check_size((pixels.shape[1], pixels.shape[0]), smallest)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(_eight_bits(pixels))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """uint8 values of any supported array."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        return np.round(pixels / 257).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise PictureError(f"The picture's values are {pixels.dtype}; give uint8, uint16, or floats from 0 to 1.")
    if not np.isfinite(pixels).all():
        raise PictureError("The picture has values that are not finite (NaN or inf); give floats from 0 to 1.")
    return np.round(pixels.clip(0, 1) * 255).astype(np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, in 32-bit words for some formats
        return Image.fromarray(_eight_bits(np.asarray(image).clip(0, 65535).astype(np.uint16))).convert("RGB")
    if image.mode == "F":  # floats up to 1, or on the 8-bit scale
        values = np.asarray(image)
        scale = 255.0 if values.max() > 1 else 1.0
        return Image.fromarray(_eight_bits(values / scale)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
