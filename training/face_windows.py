"""Windows of 64 pixels with and without a face, composed at random for training the face network.

A face is placed by its landmarks: `side` is the side of its square (`facenet.FACE`) as a fraction of the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ilo.photos.facenet import FACE, WINDOW
from ilo.photos.faces import MIRRORED, similarity

# What counts as a face in the middle: side, distance from the middle along x and y (fractions of the window), degrees.
SIDES, SHIFT, TURN = (0.4, 0.95), 0.13, 50.0
UPRIGHT_SIDES, UPRIGHT_SHIFT, UPRIGHT_TURN = (0.6, 0.8), 0.04, 12.0  # as after aligning


@dataclass(frozen=True)
class Pictures:
    """The material of the windows."""

    faces: np.ndarray  # uint8 [N, S, S, 3]
    landmarks: np.ndarray  # [N, 5, 2], pixels of those
    others: np.ndarray  # pictures without a face, uint8 [M, 64, 64, 3]


def compose(pictures: Pictures, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compose windows, the first half with a face in the middle.

    Returns:
        windows uint8 [count, 64, 64, 3]; whether they show a face, bool [count]; landmarks float32 [count, 5, 2] as
        fractions of the window, zeros without a face.
    """
    windows = np.empty((count, WINDOW, WINDOW, 3), np.uint8)
    labels = np.arange(count) < count // 2
    cv2.setRNGSeed(int(rng.integers(2**31)))  # of the noise
    landmarks = np.zeros((count, 5, 2), np.float32)
    for i in range(count):
        window = background(pictures, rng)
        if rng.random() < 0.15:
            window, _ = put(pictures, window, *_beside(rng), rng)
        if labels[i]:
            window, landmarks[i] = put(pictures, window, *_middle(rng), rng)
        else:
            window = _without(pictures, window, rng)
        windows[i] = relight(degrade(window, rng), rng)
    return windows, labels, landmarks


def background(pictures: Pictures, rng: np.random.Generator) -> np.ndarray:
    """A piece of a picture without a face, enlarged up to 4 times, or a plain or cloth-like surface."""
    kind = rng.random()
    if kind < 0.12:
        return np.full((WINDOW, WINDOW, 3), rng.integers(0, 256, 3 if kind < 0.06 else 1), np.uint8)
    if kind < 0.22:
        return cloth(rng)
    other = pictures.others[rng.integers(len(pictures.others))]
    if rng.random() < 0.5:
        other = other[:, ::-1]
    scale = np.exp(rng.uniform(np.log(0.7), np.log(4)))
    shift = WINDOW / 2 - scale * rng.uniform(0.3, 0.7, 2) * other.shape[0]
    turn = rng.normal(0, 0.2)
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[a, -b, shift[0]], [b, a, shift[1]]])
    return cv2.warpAffine(other, matrix, (WINDOW, WINDOW), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def cloth(rng: np.random.Generator) -> np.ndarray:
    """Smooth folds, often with stripes or checks; dark ones are frequent."""
    folds = rng.normal(0, 1, (rng.integers(2, 12), rng.integers(2, 12))).astype(np.float32)
    light = cv2.resize(folds, (WINDOW, WINDOW), interpolation=cv2.INTER_CUBIC) * rng.uniform(5, 50)
    if rng.random() < 0.4:
        rows, columns = np.mgrid[0:WINDOW, 0:WINDOW]
        for _ in range(rng.integers(1, 3)):
            angle, period = rng.uniform(0, np.pi), rng.uniform(3, 30)
            wave = np.sin((np.cos(angle) * columns + np.sin(angle) * rows + light * 0.1) * 2 * np.pi / period)
            light = light + rng.uniform(5, 40) * (wave if rng.random() < 0.5 else np.sign(wave))
    colour = rng.uniform(0, 255, 3) * rng.uniform(0.1, 1)
    tint = colour / max(colour.max(), 1) * 0.7 + 0.3
    return np.clip(colour + light[:, :, None] * tint, 0, 255).astype(np.uint8)


def put(
    pictures: Pictures, window: np.ndarray, side: float, middle: np.ndarray, turn: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a random face into a window. Returns the window and the landmarks [5, 2] as fractions of it.

    Args:
        side: side of the face's square as a fraction of the window.
        middle: middle of the square as fractions of the window.
        turn: rotation in radians.
    """
    number = rng.integers(len(pictures.faces))
    face, points = pictures.faces[number], pictures.landmarks[number]
    if rng.random() < 0.5:
        face, points = face[:, ::-1], (np.array([face.shape[1], 0]) + np.array([-1, 1]) * points)[MIRRORED]
    if rng.random() < 0.15:
        face = damaged(face, rng)
    a, b = side * np.cos(turn), side * np.sin(turn)
    wanted = (FACE - 0.5) @ np.array([[a, -b], [b, a]]).T + middle
    matrix = similarity(points, wanted * WINDOW).matrix
    return paste(window, face, matrix, rng), points @ matrix[:, :2].T / WINDOW + matrix[:, 2] / WINDOW


def paste(window: np.ndarray, picture: np.ndarray, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paste a picture, mapped by `matrix` [2, 3], with a hard or soft edge, square or oval, or continued beyond it."""
    full = picture.shape[0]
    scale = np.hypot(*matrix[:, 0])
    size = min(full, max(16, round(full * scale * 1.2)))
    if size < full:  # shrink first, against aliasing
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    matrix = np.column_stack([matrix[:, :2] * full / size, matrix[:, 2]])
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    kind = rng.random()
    border = cv2.BORDER_REPLICATE if kind < 0.1 else cv2.BORDER_REFLECT_101
    warped = cv2.warpAffine(picture, matrix, (WINDOW, WINDOW), flags=cv2.INTER_LINEAR, borderMode=border)
    if kind < 0.15:
        return warped
    mask = np.zeros((size, size), np.float32)
    if kind < 0.6:
        edge = max(1, round(size * rng.uniform(0, 0.12)))
        mask[edge : size - edge, edge : size - edge] = 1
    else:
        axes = (round(size * rng.uniform(0.36, 0.55)), round(size * rng.uniform(0.45, 0.6)))
        cv2.ellipse(mask, (size // 2, size // 2), axes, 0, 0, 360, 1.0, -1)
    if kind > 0.35:
        soft = size * rng.uniform(0.01, 0.08)
        mask = cv2.GaussianBlur(mask, (0, 0), soft, borderType=cv2.BORDER_CONSTANT)
    alpha = cv2.warpAffine(mask, matrix, (WINDOW, WINDOW), flags=cv2.INTER_LINEAR)[:, :, None]
    return (window + alpha * (warped.astype(np.float32) - window)).astype(np.uint8)


def damaged(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face with a hole, scratches or a bar, because the studio repairs such photographs."""
    face, size = face.copy(), face.shape[0]
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    for _ in range(rng.integers(1, 4)):
        x, y, u, v = (int(n) for n in rng.integers(0, size, 4))
        if rng.random() < 0.5:
            cv2.line(face, (x, y), (u, v), colour, int(rng.integers(1, size // 12)), cv2.LINE_AA)
        else:
            width, height = (int(n) for n in rng.integers(size // 12, size // 3, 2))
            cv2.rectangle(face, (x, y), (x + width, y + height), colour, -1)
    return face


def _middle(rng: np.random.Generator) -> tuple[float, np.ndarray, float]:
    """Side, middle and rotation of a face that counts."""
    upright = rng.random() < 0.4
    low, high = UPRIGHT_SIDES if upright else SIDES
    shift, turn = (UPRIGHT_SHIFT, UPRIGHT_TURN) if upright else (SHIFT, TURN)
    side = np.exp(rng.uniform(np.log(low), np.log(high)))
    return side, 0.5 + rng.uniform(-shift, shift, 2), np.deg2rad(rng.uniform(-turn, turn))


def _beside(rng: np.random.Generator) -> tuple[float, np.ndarray, float]:
    """Side, middle and rotation of a face that is too far from the middle to count."""
    side, angle = rng.uniform(0.3, 1.2), rng.uniform(0, 2 * np.pi)
    away = rng.uniform(0.3 + 0.3 * side, 0.9)
    return side, 0.5 + away * np.array([np.cos(angle), np.sin(angle)]), np.deg2rad(rng.uniform(-60, 60))


def _without(pictures: Pictures, window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window without a face in its middle, made from one without any."""
    kind, turn = rng.random(), np.deg2rad(rng.uniform(-60, 60))
    if kind < 0.4:
        return window
    if kind < 0.55:  # beside the middle
        return put(pictures, window, *_beside(rng), rng)[0]
    if kind < 0.65:  # far too small or too large
        small = rng.random() < 0.4
        side, far = (rng.uniform(0.08, 0.24), 0.3) if small else (rng.uniform(1.7, 4), 0.5)
        return put(pictures, window, side, 0.5 + rng.uniform(-far, far, 2), turn, rng)[0]
    if kind < 0.72:  # upside down or lying
        turn = np.pi + np.deg2rad(rng.uniform(-95, 95))
        side, middle, _ = _middle(rng)
        return put(pictures, window, side, middle, turn, rng)[0]
    side, middle, turn = _middle(rng)
    if kind < 0.85:  # something else, pasted like a face
        other = pictures.others[rng.integers(len(pictures.others))]
    else:
        other = shuffled(pictures.faces[rng.integers(len(pictures.faces))], rng)
    a, b = np.array([np.cos(turn), np.sin(turn)]) * side * WINDOW / other.shape[0]
    half = (np.array([[a, -b], [b, a]]) @ np.full(2, other.shape[0] / 2))[:, None]
    return paste(window, other, np.column_stack([[[a, -b], [b, a]], middle[:, None] * WINDOW - half]), rng)


def shuffled(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face whose parts are in the wrong places."""
    parts = int(rng.integers(2, 4))
    step = face.shape[0] // parts
    order = rng.permutation(parts * parts)
    if (order == np.arange(parts * parts)).sum() > 1:
        order = np.roll(order, 1)
    result = face.copy()
    for to, source in enumerate(order):
        (r, c), (i, j) = np.array(divmod(to, parts)) * step, np.array(divmod(source, parts)) * step
        result[r : r + step, c : c + step] = face[i : i + step, j : j + step]
    return result


def degrade(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur a window, lower its resolution, or compress it, each in some cases."""
    if rng.random() < 0.25:
        size = int(rng.integers(16, WINDOW))
        small = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
        window = cv2.resize(small, (WINDOW, WINDOW), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.15:
        window = cv2.GaussianBlur(window, (0, 0), rng.uniform(0.5, 2.0))
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))]
        window = np.asarray(cv2.imdecode(cv2.imencode(".jpg", window, quality)[1], cv2.IMREAD_COLOR))
    return window


def relight(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, gamma and colour of a window, and add noise, each in some cases."""
    if rng.random() < 0.2:
        window = cv2.cvtColor(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    levels = np.repeat(np.linspace(0, 1, 256)[:, None], 3, 1)
    if rng.random() < 0.5:
        levels = levels ** np.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.7:
        middle = levels[int(window.mean())]
        levels = middle + (levels - middle) * rng.uniform(0.4, 1.3) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.4:
        levels = levels * rng.uniform(0.8, 1.2, 3)
    window = cv2.LUT(window, (levels.clip(0, 1) * 255).astype(np.uint8)[None])
    if rng.random() < 0.25:  # light from the side
        light = 1 + rng.uniform(-0.4, 0.4) * np.linspace(-1, 1, WINDOW, dtype=np.float32)
        window = cv2.convertScaleAbs(window * light[None, :, None])
    if rng.random() < 0.3:
        noise = np.empty(window.shape, np.int16)
        cv2.randn(noise, (0, 0, 0), np.full(3, rng.uniform(0, 25)))  # type: ignore[call-overload]
        window = cv2.add(window, noise, dtype=cv2.CV_8U)
    return window
