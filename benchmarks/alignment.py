"""Measure how faces are found and aligned in photographs.

    python -m benchmarks.alignment [--faces 400]             # with YuNet
    python -m benchmarks.alignment --network [--faces 400]   # with the embedded face network

Each validation face is pasted into a grey picture of 1,000 × 800 pixels at a random place, enlarged 1 to 4 times and
rotated by up to 30° either way (45° with --network), then detected and aligned. Its landmarks, which YuNet sees in the
upright original, must lie within 3 % (5 %) of the crop's width of their positions after aligning the original. A face
that is not detected is a failure.

With --network, groups of 2 to 5 such faces are pasted into an enlarged picture without a face and searched for, 200
pictures without a face are searched, and the time is measured. Some of those pictures show people nevertheless: look at
what is found in them, with --show FILE. The folder of --data holds tinyimagenet64-val.tar.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks import faces as photographs
from benchmarks.step import RESULTS
from ilo.photos import faces, facesearch, yunet
from ilo.photos.detection import detect
from ilo.photos.faces import Alignment, Face
from ilo.photos.pictures import read_picture
from ilo.priors.load import load
from ilo.state import to_uint8
from training.evaluate_generator import groups as people
from training.evaluate_generator import label

WIDTH, HEIGHT = 1000, 800
LIMIT, TURN = 0.03, 30  # allowed error as a fraction of the crop's width; largest rotation in degrees
NETWORK_LIMIT, NETWORK_TURN = 0.05, 45
FACELESS, GROUPS = 200, 100  # numbers of pictures

Templates = dict[str, dict[str, Any] | str]
Detector = Callable[[np.ndarray], list[Face]]


def place(
    picture: np.ndarray, rng: np.random.Generator, turn: float, largest: float = 4.0, clear: np.ndarray | None = None
) -> Alignment | None:
    """A random place for a picture uint8 [R, R, 3] in one of 1,000 × 800 pixels.

    Args:
        picture: the picture.
        rng: source of randomness.
        turn: largest rotation in degrees.
        largest: largest enlargement.
        clear: where nothing has been pasted yet, bool [800, 1000]; None: everywhere.

    Returns:
        The covered square; None if it would cover something else.
    """
    scale, angle = rng.uniform(1, largest) * picture.shape[0], np.deg2rad(rng.uniform(-turn, turn))
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) @ np.array([[a, -b], [b, a]]).T
    low, high = corners.min(0), corners.max(0)
    x, y = (rng.uniform(-low[i], (WIDTH, HEIGHT)[i] - high[i]) for i in range(2))
    square = Alignment(np.array([[a, -b, x], [b, a, y]]))
    if clear is not None:
        covered = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        paste(np.full_like(picture, 255), covered, square)
        if not clear[covered[:, :, 0] > 0].all():
            return None
        clear[covered[:, :, 0] > 0] = False
    return square


def paste(picture: np.ndarray, whole: np.ndarray, square: Alignment) -> None:
    """Paste a picture uint8 [R, R, 3] into a larger one, in place."""
    matrix = faces.pixel_matrix(square, picture.shape[0])
    cv2.warpAffine(picture, matrix, whole.shape[1::-1], whole, cv2.INTER_CUBIC, cv2.BORDER_TRANSPARENT)


def error(original: Face, size: int, square: Alignment, found: Face, template: dict | str) -> float:
    """Largest landmark error as a fraction of the crop's width.

    Args:
        original: the face in the original picture of `size` pixels per side.
        size: pixels.
        square: where the picture was pasted.
        found: the face that was detected there.
        template: the alignment.
    """
    assert original.landmarks is not None
    wanted = faces.align(original, template).to_crop(original.landmarks)
    got = faces.align(found, template).to_crop(square.to_photo(original.landmarks / size))
    return float(np.hypot(*(got - wanted).T).max())


def single(
    pictures: list[np.ndarray], originals: list[Face | None], templates: Templates, detector: Detector, turn: float
) -> dict[str, np.ndarray]:
    """The errors for one face per picture in each alignment.

    Infinite if it is not detected, NaN if YuNet does not see the original.
    """
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {name: [] for name in templates}
    for picture, original in zip(pictures, originals, strict=True):
        whole = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        square = place(picture, rng, turn)
        assert square is not None
        paste(picture, whole, square)
        found = max(detector(whole), key=lambda face: face.box[2] * face.box[3], default=None)
        for name, template in templates.items():
            value = np.nan if original is None else np.inf
            if original is not None and found is not None:
                value = error(original, picture.shape[0], square, found, template)
            errors[name].append(value)
    return {name: np.array(values) for name, values in errors.items()}


def groups(
    pictures: list[np.ndarray], originals: list[Face | None], others: list[np.ndarray], template: dict | str
) -> dict[str, float]:
    """Search for groups of 2 to 5 faces, each at most twice enlarged, with the embedded network."""
    rng = np.random.default_rng(1)
    errors, more = [], 0
    for other in others[:: FACELESS // GROUPS]:
        whole = np.ascontiguousarray(cv2.resize(other, (WIDTH, WIDTH), interpolation=cv2.INTER_CUBIC)[:HEIGHT])
        clear, wanted = np.ones((HEIGHT, WIDTH), bool), []
        for number in rng.permutation(len(pictures))[: rng.integers(2, 6)]:
            original = originals[number]
            square = place(pictures[number], rng, NETWORK_TURN, 2.0, clear)
            if original is not None and square is not None:
                paste(pictures[number], whole, square)
                wanted.append((original, square))
        found = facesearch.find(whole)
        matched = 0
        for original, square in wanted:
            size = pictures[0].shape[0]
            nearest = min((error(original, size, square, face, template) for face in found), default=np.inf)
            matched += nearest < 0.25
            errors.append(nearest)
        more += len(found) - matched
    return {
        "faces": len(errors),
        "found": float((np.array(errors) < 0.25).mean()),
        "within": float((np.array(errors) <= NETWORK_LIMIT).mean()),
        "others found": more,
    }


def faceless(others: list[np.ndarray], show: Path | None) -> dict[str, int]:
    """Search pictures without a face, enlarged to 800 pixels; those in which one is found are shown in the file."""
    views = []
    for other in others:
        photo = cv2.resize(other, (HEIGHT, HEIGHT), interpolation=cv2.INTER_CUBIC)
        found = facesearch.find(photo)
        if found:
            shown = photo.copy()
            for face in found:
                left, top, width, height = (int(n) for n in face.box)
                cv2.rectangle(shown, (left, top), (left + width, top + height), (0, 255, 0), 6)
            views.append(cv2.resize(shown, (200, 200), interpolation=cv2.INTER_AREA))
    if views and show:
        Image.fromarray(np.concatenate(views, 1)).save(show)
    return {"pictures": FACELESS, "with a face found": len(views)}


def without_face(tar: Path) -> list[np.ndarray]:
    """200 pictures of a tar file, spread over all of its classes: uint8 [64, 64, 3] each."""
    with tarfile.open(tar) as opened:
        members = sorted((m for m in opened.getmembers() if m.isfile()), key=lambda member: member.name)
        chosen = members[:: len(members) // FACELESS][:FACELESS]
        return [np.asarray(read_picture(opened.extractfile(m).read())) for m in chosen]  # type: ignore[union-attr]


def summary(errors: np.ndarray, limit: float) -> dict[str, Any]:
    return {
        "faces": len(errors),
        "within": float((errors <= limit).mean()),
        "missed": int(np.isinf(errors).sum()),
        "missed in the original": int(np.isnan(errors).sum()),
        "median": float(np.nanmedian(errors)),
    }


def by_group(names: list[str], errors: np.ndarray) -> dict[str, dict[str, float]]:
    """For each group of people: number of faces, share within the limit, and median error of those found."""
    found: dict[str, list[float]] = {}
    for name, value in zip(names, errors, strict=True):
        for group in people(label(name)):
            found.setdefault(group, []).append(value)
    return {
        group: {
            "faces": len(values),
            "within": float(np.mean(np.array(values) <= NETWORK_LIMIT)),
            "median": float(np.nanmedian(values)),
        }
        for group, values in sorted(found.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=400)
    parser.add_argument("--network", action="store_true", help="measure the embedded network instead of YuNet")
    parser.add_argument("--data", type=Path, default=photographs.path().parent)
    parser.add_argument("--show", type=Path, help="picture to write, of what is found where no face is")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if yunet.path() is None:
        parser.error("YuNet's file is not here; give its path as ILO_YUNET")
    out = args.out or RESULTS / ("facenet.json" if args.network else "alignment.json")
    limit, turn = (NETWORK_LIMIT, NETWORK_TURN) if args.network else (LIMIT, TURN)
    detector = facesearch.find if args.network else detect
    names = photographs.names()[: args.faces]
    pictures = list(to_uint8(photographs.read(names, 128)))
    originals = [next(iter(detect(picture)), None) for picture in pictures]
    made = {}
    templates: Templates = {"faces64": load().alignment, "ffhq": faces.FFHQ}
    for name, errors in single(pictures, originals, templates, detector, turn).items():
        made[name] = summary(errors, limit)
        if args.network and name == "faces64":
            made[name]["groups"] = by_group(names, errors)
        print(name, made[name], flush=True)
    result: dict[str, object] = {"limit": limit, "turn": turn, "templates": made}
    if args.network:
        others = without_face(args.data / "tinyimagenet64-val.tar")
        result["groups"] = groups(pictures, originals, others, templates["faces64"])
        result["without a face"] = faceless(others, args.show)
        result["seconds"] = seconds(pictures)
        print(*(f"{key}: {result[key]}" for key in ("groups", "without a face", "seconds")), sep="\n")
    out.write_text(json.dumps(result, indent=1) + "\n")


def seconds(pictures: list[np.ndarray]) -> float:
    """Seconds for finding the faces in a photograph of 1,000 × 800 pixels: the median of 5."""
    whole = cv2.resize(pictures[0], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        facesearch.find(whole)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


if __name__ == "__main__":
    main()
