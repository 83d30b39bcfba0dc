"""Reading pictures and masks: the only module that decodes picture files.

Every failure is raised as a `PictureError`, whose message is meant for the user.
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

# Formats whose decoders neither start other programs nor access the network.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SMALLEST_SIDE = 8
LARGEST_SIDE = 10_000
MOST_PIXELS = 40_000_000
MAX_ZOOM = 8.0
PngImagePlugin.MAX_TEXT_MEMORY = 2**22  # maximum bytes of decompressed text in a PNG, none of which is used


class PictureError(ValueError):
    """A picture cannot be used; the message says why, and what is accepted."""


@dataclass(frozen=True)
class Crop:
    """The square part of a picture to use.

    Args:
        x, y: centre of the square as fractions 0 … 1 of the picture's width and height.
        zoom: zoom factor 1 … 8; 1 is the largest square that fits, 2 has half its side.

    Raises:
        SettingsError: a value is out of range.
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
    """Read a picture, rotate it upright and convert it to RGB.

    Grey, 16-bit, palette and CMYK pictures are converted, transparency is blended with white, and of an animation the
    first frame is used.

    Args:
        source: path or bytes of a file, a PIL image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8,
            uint16, bool, or floats from 0 to 1.
        smallest, largest: allowed range of each side in pixels.

    Raises:
        PictureError: the file does not exist, is not a picture, is broken, or is too small or too large. The size is
            read from the file's header, so a huge picture is never decoded.
    """
    return _guarded(_name(source), lambda: _rgb(_open(source, smallest, largest)))


def read_mask(source: Source, largest: int = LARGEST_SIDE) -> Tensor:
    """Read a mask: float32 [1, 1, H, W], 1 = observed, 0 = to fill in.

    In the file, white marks pixels to fill in and black marks pixels to keep. If the file has an alpha channel that is
    not opaque everywhere, painted pixels (alpha above 0) are to be filled in instead.

    Arguments and errors are those of `read_picture`; any size from 1×1 is allowed.
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
    """Convert a mask [1, 1, H, W] (1 = observed) to the format of `read_mask`: grey, white = to fill in."""
    hidden = (mask[0, 0].cpu() <= 0.5).numpy()
    return Image.fromarray(hidden.astype(np.uint8) * 255)


def crop_box(size: tuple[int, int], crop: Crop) -> tuple[float, float, float]:
    """Left, top and side in pixels of a crop's square in a picture of `size` (width, height).

    A square that extends beyond the picture is moved inside.
    """
    width, height = size
    side = min(width, height) / crop.zoom
    left = min(max(crop.x * width - side / 2, 0.0), width - side)
    top = min(max(crop.y * height - side / 2, 0.0), height - side)
    return left, top, side


def to_tensor(image: Image.Image, resolution: int, crop: Crop = WHOLE) -> Tensor:
    """Crop and resize an RGB picture: float32 [1, 3, R, R] in [−1, 1], quantised to 256 levels.

    Resizing is bicubic, with antialiasing when reducing.
    """
    left, top, side = crop_box(image.size, crop)
    box = (left, top, left + side, top + side)
    pixels = np.array(image.convert("RGB").resize((resolution, resolution), Image.Resampling.BICUBIC, box=box))
    return from_uint8(pixels[None])


def to_picture(image: Tensor) -> Image.Image:
    """Convert the first sample of [B, 3 or 1, H, W] in [−1, 1], clamped, to an RGB picture."""
    return Image.fromarray(to_uint8(image[:1].expand(-1, 3, -1, -1))[0])


def from_uint8(pixels: np.ndarray) -> Tensor:
    """Convert uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [−1, 1]; `ilo.state.to_uint8` is the exact inverse."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def _guarded(name: str, read: Callable[[], Any]) -> Any:
    """Call `read` and return its result; every failure of a decoder becomes a `PictureError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures (the limits here are lower) and odd data
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
    except Exception as error:  # decoders raise all kinds of errors on broken files
        reason = " ".join(str(error).split())[:120]
        raise PictureError(f"{name} is broken or cut off ({reason}); save or copy it again.") from error


def _name(source: Source) -> str:
    return Path(source).name or str(source) if isinstance(source, (str, Path)) else "The picture"


def _open(source: Source, smallest: int, largest: int) -> Image.Image:
    """The decoded picture, rotated upright, in its original mode."""
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
    except Exception:  # a picture with unreadable EXIF data is still usable
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
    """Convert any supported array to uint8."""
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
    if image.mode.startswith("I"):  # 16-bit values, which some formats store in 32-bit words
        return Image.fromarray(_eight_bits(np.asarray(image).clip(0, 65535).astype(np.uint16))).convert("RGB")
    if image.mode == "F":  # floats from 0 to 1 or from 0 to 255
        values = np.asarray(image)
        scale = 255.0 if values.max() > 1 else 1.0
        return Image.fromarray(_eight_bits(values / scale)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
