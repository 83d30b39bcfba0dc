"""Faces in photographs: crop one in the generator's alignment, and paste the result back.

A crop is a rotated and scaled square in the photograph (a similarity transform). Landmarks are the eyes, the nose and
the mouth corners, image-left first, in pixels of the photograph; the centre of its first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

LANDMARKS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")
MIRRORED = [1, 0, 2, 4, 3]  # their order in the mirror image
FFHQ = "ffhq"  # name of FFHQ's face alignment
OVERLAP = 0.3  # intersection over union from which two boxes count as the same face
GREY = (128, 128, 128)  # beyond a photograph's border, when looking for faces
FEATHER = 0.12  # width of the blended edge of a pasted crop, as a fraction of its side
# Eye positions in the box around a face whose eyes are marked by hand, as fractions of its side.
BOX_EYES = ((0.31, 0.38), (0.69, 0.38))
# Frontal faces: allowed nose position between the eyes (0 … 1); minimum ratio of eye distance to eye–mouth distance.
SIDE_NOSE, SIDE_EYES = (0.15, 0.85), 0.6


@dataclass(frozen=True)
class Face:
    """A face in a photograph, in pixels."""

    box: tuple[float, float, float, float]  # left, top, width, height
    score: float  # 0 … 1
    landmarks: np.ndarray | None  # float64 [5, 2], (x, y) in the order of LANDMARKS; None if only the eyes are known

    @property
    def from_the_side(self) -> bool:
        """Whether the landmarks show the face in profile."""
        if self.landmarks is None:
            return False
        left, across = self.landmarks[0], self.landmarks[1] - self.landmarks[0]
        length = max(1e-9, float(across @ across))
        nose = float((self.landmarks[2] - left) @ across) / length
        down = self.landmarks[3:].mean(0) - self.landmarks[:2].mean(0)
        return not SIDE_NOSE[0] <= nose <= SIDE_NOSE[1] or length < SIDE_EYES**2 * float(down @ down)

    @property
    def eyes(self) -> np.ndarray:
        """Eye positions [2, 2]."""
        assert self.landmarks is not None
        return self.landmarks[:2]


@dataclass(frozen=True)
class Alignment:
    """A rotated and scaled square in a photograph: affine matrix, float64 [2, 3], from the unit square to pixels."""

    matrix: np.ndarray

    @property
    def side(self) -> float:
        """Side of the square in pixels of the photograph."""
        return float(np.hypot(*self.matrix[:, 0]))

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Map fractions of the crop [n, 2] to pixels of the photograph [n, 2]."""
        return np.asarray(points) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Map pixels of the photograph [n, 2] to fractions of the crop [n, 2]."""
        return (np.asarray(points) - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


@dataclass(frozen=True)
class Placed:
    """A crop and its place in a photograph."""

    photo: Callable[[], np.ndarray]  # returns the photograph, uint8 [H, W, 3], which is decoded on demand
    before: np.ndarray  # original crop, uint8 [R, R, 3]
    alignment: Alignment

    def with_result(self, after: np.ndarray) -> np.ndarray:
        """The photograph with the result, uint8 [R, R, 3], pasted in place of the crop."""
        return paste_back(self.photo(), self.before, after, self.alignment)


def align(face: Face, template: Mapping[str, Any] | str) -> Alignment:
    """The square that crops a face in the generator's alignment.

    Args:
        face: the face, with landmarks or only with eyes.
        template: landmark name → its position as fractions of the crop; or "ffhq".
    """
    if template == FFHQ:
        return _ffhq(face)
    assert not isinstance(template, str)
    names = LANDMARKS if face.landmarks is not None else LANDMARKS[:2]
    points = face.landmarks if face.landmarks is not None else face.eyes
    return similarity(np.array([template[name] for name in names]), points)


def eye_places(template: Mapping[str, Any] | str) -> np.ndarray:
    """Eye positions of a template, as fractions of the crop [2, 2], for aligning a face by its eyes only."""
    face = from_eyes((0.0, 0.0), (1.0, 0.0))
    return align(face, template).to_crop(face.eyes)


def from_eyes(left: tuple[float, float], right: tuple[float, float]) -> Face:
    """A face defined by manually given eye positions, in pixels."""
    distance = float(np.hypot(right[0] - left[0], right[1] - left[1]))
    side = distance / (BOX_EYES[1][0] - BOX_EYES[0][0])
    box = ((left[0] + right[0] - side) / 2, (left[1] + right[1]) / 2 - BOX_EYES[0][1] * side, side, side)
    return _Pointed(box, 1.0, None, np.array([left, right], float))


@dataclass(frozen=True)
class _Pointed(Face):
    pointed: np.ndarray

    @property
    def eyes(self) -> np.ndarray:
        return self.pointed


def similarity(source: np.ndarray, target: np.ndarray) -> Alignment:
    """Least-squares similarity transform from points [n, 2] to others (Umeyama 1991)."""
    a, b = (np.asarray(points, float) @ (1, 1j) for points in (source, target))
    centred = a - a.mean()
    turn = np.vdot(centred, b - b.mean()) / np.vdot(centred, centred).real
    shift = b.mean() - turn * a.mean()
    return Alignment(np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]))


def _ffhq(face: Face) -> Alignment:
    """The crop of FFHQ (Karras et al. 2019, appendix A), computed from eyes and mouth."""
    left, right = (point @ (1, 1j) for point in face.eyes)
    across = right - left
    middle = (left + right) / 2
    # Without landmarks, assume a mouth at the usual distance below the eyes.
    down = 1.1j * across if face.landmarks is None else face.landmarks[3:].mean(0) @ (1, 1j) - middle
    axis = across - 1j * down  # between the eye line and the perpendicular to the eye–mouth line
    axis *= max(2.0 * abs(across), 1.8 * abs(down)) / abs(axis)
    centre = middle + 0.1 * down
    corner, turn = centre - axis - 1j * axis, 2 * axis
    return Alignment(np.array([[turn.real, -turn.imag, corner.real], [turn.imag, turn.real, corner.imag]]))


def crop(photo: np.ndarray, alignment: Alignment, size: int, beyond: tuple[int, int, int] | None = None) -> np.ndarray:
    """Crop the square of an alignment: uint8 [size, size, 3].

    `beyond`: colour outside the photograph; None repeats its border pixels.
    """
    dense = max(1, min(8, round(alignment.side / size)))
    shrink = max(1.0, alignment.side / (size * dense))
    if shrink > 1.5:
        height, width = (max(1, round(n / shrink)) for n in photo.shape[:2])
        scale = np.array([width / photo.shape[1], height / photo.shape[0]])
        photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        alignment = Alignment(alignment.matrix * scale[:, None])
    fine = cv2.warpAffine(
        photo,
        pixel_matrix(alignment, size * dense),
        (size * dense, size * dense),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if beyond is None else cv2.BORDER_CONSTANT,
        borderValue=beyond or (),
    )
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA) if dense > 1 else fine


def paste_back(photo: np.ndarray, before: np.ndarray, after: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Apply the changes of a crop to the photograph; unchanged parts keep their full detail.

    Args:
        photo: photograph, uint8 [H, W, 3].
        before: original crop, uint8 [R, R, 3].
        after: changed crop, uint8 [R, R, 3].
        alignment: alignment of the crop.
    """
    size = before.shape[0]
    change = after.astype(np.float32) - before
    edge = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / (FEATHER * size)
    fade = np.clip(edge, 0, 1)
    fade = (fade * fade * (3 - 2 * fade)).astype(np.float32)
    change *= (fade[:, None] * fade)[:, :, None]
    # Work only on the part of the photograph around the square.
    corners = alignment.to_photo(np.array([(0, 0), (1, 0), (0, 1), (1, 1)]))
    margin = 2 * alignment.side / size + 1
    limits = np.array(photo.shape[1::-1])
    low = np.clip(np.floor(corners.min(0) - margin), 0, limits).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin), 0, limits).astype(int)
    result = photo.copy()
    if (high <= low).any():
        return result
    matrix = pixel_matrix(alignment, size)
    matrix[:, 2] -= low
    width, height = (int(n) for n in high - low)
    large = cv2.warpAffine(
        change, cv2.invertAffineTransform(matrix), (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    part = result[low[1] : high[1], low[0] : high[0]]
    part[...] = np.clip(np.rint(part + large), 0, 255)
    return result


def pixel_matrix(alignment: Alignment, size: int) -> np.ndarray:
    """Affine matrix from crop pixels to photograph pixels, in OpenCV's convention (integer pixel centres)."""
    matrix = alignment.matrix.copy()
    matrix[:, :2] /= size
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return matrix


def distinct(faces: list[Face]) -> list[Face]:
    """Remove faces that overlap one with a higher score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face.box, other.box) < OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)
