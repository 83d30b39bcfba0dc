"""Finding faces with the embedded network, when YuNet is not here.

The network first looks at every window of several resized copies of the photograph. Where it sees a face, it looks
again at an upright view of the right size, cut out by the landmarks it found, and at last at a few such views. Only
what it still takes for a face there is one; cloth that looks like a face from one side seldom does from the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ilo.photos import facenet
from ilo.photos.facenet import FACE, STRIDE, WINDOW, FaceNet, to_input
from ilo.photos.faces import GREY, MIRRORED, Face, crop, distinct, similarity

LARGEST, ENLARGED = 1000, 2.0  # longer side of the largest copy in pixels; the most that a photograph is enlarged
SMALLEST = 40  # shorter side of the smallest copy in pixels
STEP = 2**0.5  # from the size of a copy to the next
FRAME = 32  # grey frame around each copy in pixels, for faces at the border
PROPOSED, SEEN, SURE = 0.0, 1.0, 4.0  # least logit in the first, second and last look
LEAST = 20  # side of the smallest face's square in pixels of the photograph
MOST = 200  # faces proposed at most
SIDE = 0.7  # side of the face's square in the second look, as a fraction of the window
SIDES = (0.62, 0.7, 0.78)  # in the last look


@dataclass(frozen=True)
class Seen:
    """Windows in which the network sees a face: logits [n] and landmarks [n, 5, 2] in pixels of the photograph."""

    logits: np.ndarray
    landmarks: np.ndarray

    def only(self, chosen: np.ndarray) -> Seen:
        """The chosen ones, by index or by truth value."""
        return Seen(self.logits[chosen], self.landmarks[chosen])


def find(photo: np.ndarray, network: FaceNet | None = None) -> list[Face]:
    """Detect faces in a photograph, uint8 [H, W, 3] RGB, that are turned by up to about 45°.

    Args:
        photo: the photograph.
        network: another network than the embedded one.
    """
    network = network or facenet.load()
    seen = _separate(_proposed(photo, network))
    again = _looked(photo, seen.landmarks, network, (SIDE,))
    again = _separate(again.only(again.logits > SEEN))
    sure = _looked(photo, again.landmarks, network, SIDES)
    sure = sure.only(sure.logits > SURE)
    found = [_face(*one) for one in zip(sure.logits, sure.landmarks, strict=True)]
    return distinct([face for face in found if face.box[2] >= LEAST])


def _proposed(photo: np.ndarray, network: FaceNet) -> Seen:
    """What the network sees in the windows of resized copies."""
    height, width = photo.shape[:2]
    scale = min(LARGEST / max(height, width), ENLARGED)
    logits, landmarks = [], []
    while True:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        small = cv2.copyMakeBorder(small, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_CONSTANT, value=GREY)
        with torch.inference_mode():
            heat, points = (y[0].double().numpy() for y in network(to_input(small[None])))
        rows, columns = np.nonzero(heat > PROPOSED)
        corners = np.stack([columns, rows], 1) * STRIDE - FRAME
        places = points[rows, columns] * WINDOW + corners[:, None]
        logits.append(heat[rows, columns])
        landmarks.append(places * np.array([width / size[0], height / size[1]]))
        if min(size) / STEP < SMALLEST:
            return Seen(np.concatenate(logits), np.concatenate(landmarks))
        scale /= STEP


def _separate(seen: Seen) -> Seen:
    """Of windows that show the same face, the one with the highest logit; at most `MOST` faces."""
    kept: list[int] = []
    squares = [similarity(FACE, points) for points in seen.landmarks]
    middles = np.array([square.to_photo(np.array([[0.5, 0.5]]))[0] for square in squares]).reshape(-1, 2)
    sides = np.array([square.side for square in squares])
    for i in np.argsort(-seen.logits):
        away = np.hypot(*(middles[kept] - middles[i]).T) if kept else np.array([])
        if (away > 0.4 * np.maximum(sides[kept], sides[i])).all():
            kept.append(i)
        if len(kept) == MOST:
            break
    return seen.only(np.array(kept, int))


def _looked(photo: np.ndarray, landmarks: np.ndarray, network: FaceNet, sides: tuple[float, ...]) -> Seen:
    """Look at upright views of faces, and at their mirror images; logits and landmarks are the means over them.

    Args:
        photo: the photograph, uint8 [H, W, 3].
        landmarks: of n faces, [n, 5, 2].
        network: the network.
        sides: of the faces' squares in the views, as fractions of the window.
    """
    if not len(landmarks):
        return Seen(np.zeros(0), landmarks)
    squares = [similarity(0.5 + side * (FACE - 0.5), points) for points in landmarks for side in sides]
    views = np.stack([crop(photo, square, WINDOW, GREY) for square in squares])
    with torch.inference_mode():
        both = to_input(np.concatenate([views, views[:, :, ::-1]]))
        logits, points = (y[:, 0, 0].double().numpy() for y in network(both))
    plain, mirrored = points[: len(views)], points[len(views) :]
    points = (plain + (np.array([1, 0]) + np.array([-1, 1]) * mirrored)[:, MIRRORED]) / 2
    places = np.stack([square.to_photo(own) for square, own in zip(squares, points, strict=True)])
    shape = len(landmarks), len(sides)
    return Seen(logits.reshape(2, *shape).mean((0, 2)), places.reshape(*shape, 5, 2).mean(1))


def _face(logit: float, landmarks: np.ndarray) -> Face:
    square = similarity(FACE, landmarks)
    x, y = square.to_photo(np.array([[0.5, 0.5]]))[0].tolist()
    box = (x - square.side / 2, y - square.side / 2, square.side, square.side)
    return Face(box, float(1 / (1 + np.exp(-logit))), landmarks)
