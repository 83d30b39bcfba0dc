"""Measure the accuracy of face alignment in photographs: python -m benchmarks.alignment [--faces 400]

Each validation face is pasted into a grey picture of 1,000 × 800 pixels at a random place, enlarged 1 to 4 times and
rotated by up to 30° either way, then detected and aligned. Its landmarks, known from the upright original, must lie
within 3 % of the crop's width of their positions after aligning the original. A face that is not detected is a failure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from benchmarks import faces as photographs
from benchmarks.step import RESULTS
from ilo.photos import faces
from ilo.priors.load import load
from ilo.state import to_uint8

WIDTH, HEIGHT = 1000, 800
LIMIT = 0.03


def place(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, faces.Alignment]:
    """Paste a picture uint8 [R, R, 3] into a larger one at random. Returns the larger one and the covered square."""
    size = picture.shape[0]
    scale, turn = rng.uniform(1, 4) * size, np.deg2rad(rng.uniform(-30, 30))
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) @ np.array([[a, -b], [b, a]]).T
    low, high = corners.min(0), corners.max(0)
    x, y = (rng.uniform(-low[i], (WIDTH, HEIGHT)[i] - high[i]) for i in range(2))
    square = faces.Alignment(np.array([[a, -b, x], [b, a, y]]))
    whole = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    matrix = faces.pixel_matrix(square, size)
    cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), whole, cv2.INTER_CUBIC, cv2.BORDER_TRANSPARENT)
    return whole, square


def error(picture: np.ndarray, template: dict | str, rng: np.random.Generator) -> tuple[float, str]:
    """Largest landmark error as a fraction of the crop's width (infinite if no face is detected), and the reason."""
    original = faces.detect(picture)
    whole, square = place(picture, rng)
    if not original or original[0].landmarks is None:
        return np.inf, "missed in the original"
    landmarks = original[0].landmarks
    wanted = faces.align(original[0], template).to_crop(landmarks)
    found = faces.detect(whole)
    if not found:
        return np.inf, "missed"
    got = faces.align(found[0], template).to_crop(square.to_photo(landmarks / picture.shape[0]))
    return float(np.hypot(*(got - wanted).T).max()), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS / "alignment.json")
    args = parser.parse_args()
    if faces.yunet_path() is None:
        parser.error("YuNet's file is not here; give its path as ILO_YUNET")
    pictures = to_uint8(photographs.read(photographs.names()[: args.faces], 128))
    made = {}
    for name, template in (("faces64", load().alignment), ("ffhq", faces.FFHQ)):
        rng = np.random.default_rng(0)
        results = [error(picture, template, rng) for picture in pictures]
        errors = np.array([e for e, _ in results])
        made[name] = {
            "faces": len(errors),
            "within": float((errors <= LIMIT).mean()),
            "missed": int(np.isinf(errors).sum()),
            "missed in the original": sum(reason == "missed in the original" for _, reason in results),
            "median": float(np.median(errors)),
        }
        print(name, made[name], flush=True)
    args.out.write_text(json.dumps({"limit": LIMIT, "templates": made}, indent=1) + "\n")


if __name__ == "__main__":
    main()
