"""Make the example inputs in assets/examples: faces drawn by the embedded generator, and masks.

    python -m training.make_examples

No photograph is involved, so the pictures have the project's own licence. In the masks, white marks pixels to fill in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import ilo
from ilo.state import to_uint8

FACES = (6, 12, 53, 36, 2, 39)  # seeds, chosen by eye
TRUNCATION = 0.7  # truncation psi: w = w_avg + psi·(w − w_avg)
MASK_SIDE = 256


@torch.no_grad()
def face(model: ilo.Model, seed: int) -> Image.Image:
    """A face from one latent for all layers, with truncation and random noise maps."""
    generator, config = model.generator, model.generator.config
    average = generator.mapping.w_avg
    w = generator.mapping(torch.randn(1, config.z_dim, generator=torch.Generator().manual_seed(seed)))
    w = average + TRUNCATION * (w - average)
    rng = torch.Generator().manual_seed(seed)
    noise = [torch.randn(1, 1, size, size, generator=rng) for size in config.noise_sizes]
    image = generator.suffix(None, w[:, None].expand(-1, config.num_ws, -1), noise, 0)
    return Image.fromarray(to_uint8(image)[0])


def scratches() -> Image.Image:
    """Mask with crooked lines, like scratches on an old photograph."""
    rng = np.random.default_rng(3)
    image = Image.new("L", (MASK_SIDE, MASK_SIDE), 0)
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        begin, end = rng.uniform(0, MASK_SIDE, 2).tolist()
        line = zip(np.linspace(begin, end, 6), np.linspace(0, MASK_SIDE, 6), strict=True)
        points = [(float(a), float(b)) for a, b in line]
        points = [(a + float(rng.normal(0, 9)), b) for a, b in points]
        draw.line(points, fill=255, width=int(rng.integers(5, 10)), joint="curve")
    return image


def sunglasses() -> Image.Image:
    """Mask in the shape of sunglasses, at the eyes of an aligned face."""
    image = Image.new("L", (MASK_SIDE, MASK_SIDE), 0)
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((34, 50, 118, 112), radius=26, fill=255)
    draw.rounded_rectangle((132, 50, 216, 112), radius=26, fill=255)
    draw.rectangle((110, 60, 140, 72), fill=255)
    return image


def border() -> Image.Image:
    """Mask of everything but the middle, for extending the picture outwards."""
    image = Image.new("L", (MASK_SIDE, MASK_SIDE), 255)
    edge = MASK_SIDE // 5
    ImageDraw.Draw(image).rectangle((edge, edge, MASK_SIDE - edge - 1, MASK_SIDE - edge - 1), fill=0)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    model = ilo.load("faces64")
    for number, seed in enumerate(FACES, 1):
        face(model, seed).save(out / f"face-{number}.png", optimize=True)
    for name, mask in (("scratches", scratches()), ("sunglasses", sunglasses()), ("border", border())):
        mask.convert("1").save(out / f"mask-{name}.png", optimize=True)
    print(f"{len(FACES)} faces and 3 masks in {out}")


if __name__ == "__main__":
    main()
