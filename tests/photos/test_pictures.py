"""Reading all supported kinds of pictures, and refusing broken ones."""

import contextlib
import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ilo.photos.pictures import (
    Crop,
    PictureError,
    crop_box,
    mask_picture,
    read_mask,
    read_picture,
    to_picture,
    to_tensor,
)
from ilo.settings import SettingsError


def gradient(width=24, height=16):
    """Gradient uint8 [H, W, 3]: red increases to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return np.stack([red, green, np.full_like(red, 40)], 2).astype(np.uint8)


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG with a valid header of this size, but almost no data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "AVIF"])
def test_formats(format, tmp_path):
    pixels = gradient()
    data = encoded(Image.fromarray(pixels), format, **({"lossless": True} if format == "WEBP" else {}))
    path = tmp_path / "photo"
    path.write_bytes(data)
    for source in (data, path, str(path), Image.open(path)):
        image = read_picture(source)
        assert (image.mode, image.size) == ("RGB", (24, 16))
        tolerance = {"JPEG": 40, "AVIF": 40, "GIF": 30}.get(format, 0)
        assert np.abs(np.asarray(image).astype(int) - pixels).max() <= tolerance


def test_arrays():
    pixels = gradient()
    grey = pixels[:, :, 0]
    for array in (pixels, pixels.astype(np.uint16) * 257, pixels / 255, (pixels / 255).astype(np.float32)):
        assert np.array_equal(np.asarray(read_picture(array)), pixels)
    assert np.array_equal(np.asarray(read_picture(grey))[:, :, 2], grey)
    assert np.array_equal(np.asarray(read_picture(grey[:, :, None]))[:, :, 2], grey)
    assert np.asarray(read_picture(grey > 99)).max() == 255
    for bad in (np.zeros((9, 9, 2)), np.zeros(9), np.full((9, 9), np.nan), np.zeros((9, 9), np.int64)):
        with pytest.raises(PictureError):
            read_picture(bad)


def test_exif_rotation():
    pixels = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise for display
    upright = read_picture(encoded(Image.fromarray(pixels), "PNG", exif=exif))
    assert upright.size == (16, 24)
    assert np.array_equal(np.asarray(upright), np.rot90(pixels, -1))


def test_broken_exif_does_no_harm():
    data = encoded(Image.fromarray(gradient()), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_picture(data).size == (24, 16)


def test_grey_and_sixteen_bits():
    grey = gradient()[:, :, 0]
    for data in (
        encoded(Image.fromarray(grey), "PNG"),
        encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"),
        encoded(Image.fromarray(grey.astype(np.int32) * 257), "TIFF"),
        encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        encoded(Image.fromarray((grey / 255).astype(np.float32)), "TIFF"),
        b"P5 24 16 65535\n" + (grey.astype(">u2") * 257).tobytes(),
    ):
        image = read_picture(data)
        assert image.mode == "RGB"
        assert all(np.abs(np.asarray(image)[:, :, c].astype(int) - grey).max() <= 1 for c in range(3))


def test_transparency_is_put_on_white():
    pixels = np.dstack([gradient(), np.zeros((16, 24), np.uint8)])
    pixels[:8, :, 3] = 255
    image = np.asarray(read_picture(encoded(Image.fromarray(pixels), "PNG")))
    assert np.array_equal(image[:8], pixels[:8, :, :3])
    assert (image[8:] == 255).all()
    palette = Image.fromarray(pixels[:, :, 0]).quantize(16)
    palette.info["transparency"] = int(np.asarray(palette)[0, 0])
    assert np.asarray(read_picture(encoded(palette, "PNG")))[0, 0].tolist() == [255, 255, 255]
    grey_alpha = Image.merge("LA", [Image.new("L", (9, 9), 50), Image.new("L", (9, 9), 0)])
    assert np.asarray(read_picture(grey_alpha)).min() == 255


def test_palette_cmyk_bitmap_and_animation():
    image = Image.fromarray(gradient())
    assert read_picture(encoded(image.quantize(64), "PNG")).mode == "RGB"
    cmyk = np.asarray(read_picture(encoded(image.convert("CMYK"), "JPEG", quality=98))).astype(int)
    assert np.abs(cmyk - gradient()).mean() < 6
    assert read_picture(encoded(image.convert("1"), "PNG")).mode == "RGB"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
        red, _, blue = np.asarray(read_picture(data))[8, 8]
        assert red > 200
        assert blue < 60


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"", "not a picture"),
        (b"hello, I am a text", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not a picture"),
        (png_header(12_000, 12_000), "12000×12000"),
        (png_header(10_001, 16), "10001×16"),
        (png_header(100_000, 100_000), "pixels"),
        (png_header(8_000, 6_000), "40 megapixels"),
        (encoded(Image.new("RGB", (1, 1)), "PNG"), "1×1"),
        (encoded(Image.new("RGB", (7, 99)), "PNG"), "at least 8×8"),
        (encoded(Image.fromarray(gradient()), "PNG")[:-30], "broken or cut off"),
        (encoded(Image.fromarray(gradient(200, 200)), "JPEG")[:1500], "broken or cut off"),
        (png_header(64, 64), "broken or cut off"),
        (np.zeros((12_000, 12_000), np.uint8), "12000×12000"),
        ("/nowhere/photo.jpg", "no file photo.jpg"),
        ("/tmp", "cannot be read"),
    ],
)
def test_what_is_refused(source, sentence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's warnings would only confuse users
        with pytest.raises(PictureError, match=re.escape(sentence)) as error:
            read_picture(source)
    assert "\n" not in str(error.value)
    with pytest.raises(PictureError):
        read_mask(b"no mask")


def test_noise_never_lets_a_decoders_error_through():
    rng = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = encoded(Image.fromarray(gradient(40, 40)), format)
        for _ in range(30):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), 8):
                data[at] = rng.integers(256)
            with contextlib.suppress(PictureError):
                read_picture(bytes(data))


def test_crop():
    assert crop_box((300, 200), Crop()) == (50, 0, 200)
    assert crop_box((300, 200), Crop(0, 1, 2)) == (0, 100, 100)
    assert crop_box((300, 200), Crop(1, 0.5, 4)) == (250, 75, 50)
    for bad in (Crop, lambda **k: Crop(**k)):
        for values in ({"x": -0.1}, {"y": 1.1}, {"zoom": 0.5}, {"zoom": 9}, {"x": float("nan")}):
            with pytest.raises(SettingsError):
                bad(**values)
    assert to_tensor(Image.fromarray(gradient(8, 8)), 64, Crop(1, 1, 8)).shape == (1, 3, 64, 64)


def test_pixels_survive_the_way_to_tensors_and_back():
    pixels = gradient(64, 64)
    x = to_tensor(Image.fromarray(pixels), 64)
    assert x.shape == (1, 3, 64, 64)
    assert -1 <= x.min() < x.max() <= 1
    assert np.array_equal(np.asarray(to_picture(x)), pixels)
    part = to_tensor(Image.fromarray(gradient(128, 128)), 64, Crop(0, 0, 2))
    assert np.array_equal(np.asarray(to_picture(part)), gradient(128, 128)[:64, :64])
    assert torch.equal(to_tensor(Image.fromarray(pixels), 64), x)
    assert np.asarray(to_picture(x[:, :1])).shape == (64, 64, 3)


def test_reduction_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert to_tensor(Image.fromarray(stripes), 64)[..., 2:-2].abs().max() < 0.02  # uneven only at the border


def test_masks(tmp_path):
    hidden = np.zeros((20, 30), bool)
    hidden[5:10, 3:9] = True
    white = Image.fromarray(hidden.astype(np.uint8) * 255)
    painted = Image.fromarray(np.dstack([np.zeros((20, 30, 3), np.uint8), hidden * np.uint8(7)]))
    soft = Image.fromarray(np.where(hidden, 128, 127).astype(np.uint8))
    opaque = white.convert("RGBA")
    for image in (white, white.convert("RGB"), white.convert("1"), painted, soft, opaque):
        mask = read_mask(encoded(image, "PNG"))
        assert mask.dtype == torch.float32
        assert torch.equal(mask, 1 - torch.from_numpy(hidden).float()[None, None])
    assert torch.equal(read_mask(mask_picture(mask)), mask)
    assert torch.equal(read_mask(hidden), mask)
    assert read_mask(np.zeros((6, 6, 4), np.uint8)).min() == 1  # nothing is painted
