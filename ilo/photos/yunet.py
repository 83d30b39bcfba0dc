"""Finding faces with YuNet (Wu et al. 2023), a published detector that is downloaded on request."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ilo.photos.faces import FFHQ, GREY, MIRRORED, Alignment, Face, align, crop, distinct
from ilo.settings import SettingsError
from ilo.weights import download
from ilo.weights.download import DownloadError
from ilo.weights.registry import BY_ID

log = logging.getLogger(__name__)

SCORE = 0.6  # minimum score of a face
SIDES = (320, 640, 1280)  # longer side in pixels of the resized copies in which faces are detected
REFINEMENTS = 3
REFINED_SIZE, REFINED_WIDTHS = 256, (1.2, 1.4, 1.65)  # view size in pixels; view widths relative to FFHQ's square


def path() -> Path | None:
    """The detector's file: `ILO_YUNET`, or the registry's after a hash check; None if there is none."""
    if own := os.environ.get("ILO_YUNET"):
        return Path(own) if os.path.isfile(own) else None
    entry = BY_ID["yunet"]
    try:
        return download.checked(entry) if entry.here else None
    except DownloadError as error:
        log.warning("Faces are detected without YuNet. %s", error)
        return None


def find(photo: np.ndarray, file: Path) -> list[Face]:
    """Detect faces in a photograph, uint8 [H, W, 3] RGB, with the network in `file`.

    YuNet misses very small and very large faces, so it looks at several sizes.

    Raises:
        SettingsError: the file does not hold this network.
    """
    height, width = photo.shape[:2]
    net = load(file)
    found: list[Face] = []
    for side in SIDES:
        scale = min(side / max(height, width), 4.0)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        # Add a frame, because faces that touch the border are often missed.
        frame = side // 8
        small = cv2.copyMakeBorder(small, frame, frame, frame, frame, cv2.BORDER_CONSTANT, value=GREY)
        ratio = np.array([width / size[0], height / size[1]])
        for row in rows(small, net):
            box = (*((row[:2] - frame) * ratio), *(row[2:4] * ratio))
            found.append(Face(box, float(row[14]), (row[4:14].reshape(5, 2) - frame + 0.5) * ratio))
        if side >= max(height, width) * 2:
            break
    return [_refined(photo, face, net) for face in distinct(found)]


def load(file: Path) -> cv2.FaceDetectorYN:
    """Load YuNet; each thread needs its own.

    Raises:
        SettingsError: the file does not hold this network.
    """
    # Without this, OpenCV 5 prints a warning for each network that it reads.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        return cv2.FaceDetectorYN.create(str(file), "", (SIDES[0], SIDES[0]), score_threshold=SCORE)
    except cv2.error:
        raise SettingsError(
            f"{file.name} does not contain YuNet, so no face can be found; fetch or copy it again, or unset ILO_YUNET."
        ) from None


def rows(pixels: np.ndarray, net: cv2.FaceDetectorYN) -> np.ndarray:
    """YuNet's detections [n, 15] in a picture uint8 [H, W, 3]: box, five points (image-left first), score."""
    net.setInputSize(pixels.shape[1::-1])
    found = net.detect(np.ascontiguousarray(pixels[:, :, ::-1]))[1]
    return np.zeros((0, 15)) if found is None else found.astype(float)


def _refined(photo: np.ndarray, face: Face, net: cv2.FaceDetectorYN) -> Face:
    """Refine a face's landmarks on upright views of a fixed size.

    Averaging over several view widths and mirrored views makes them nearly independent of the face's position, rotation
    and size.
    """
    for _ in range(REFINEMENTS):
        views = [_view(photo, face, net, width, mirrored) for width in REFINED_WIDTHS for mirrored in (False, True)]
        seen = [points for points in views if points is not None]
        if not seen:
            break
        face = replace(face, landmarks=np.mean(seen, 0))
    return face


def _view(photo: np.ndarray, face: Face, net: cv2.FaceDetectorYN, width: float, mirrored: bool) -> np.ndarray | None:
    """Landmarks detected in an upright view `width` times as wide as FFHQ's crop; None if the face is not found."""
    square = align(face, FFHQ)
    grown = square.matrix[:, :2] * width
    square = Alignment(np.column_stack([grown, square.to_photo(np.array([[0.5, 0.5]]))[0] - grown.sum(1) / 2]))
    pixels = crop(photo, square, REFINED_SIZE, GREY)
    found = rows(pixels[:, ::-1] if mirrored else pixels, net)
    if not len(found):
        return None
    centres = found[:, :2] + found[:, 2:4] / 2
    row = found[np.hypot(*(centres - REFINED_SIZE / 2).T).argmin()]
    points = (row[4:14].reshape(5, 2) + 0.5) / REFINED_SIZE
    if mirrored:
        points = np.array([1, 0]) + np.array([-1, 1]) * points[MIRRORED]
    points = square.to_photo(points)
    # A larger distance means that another face was detected.
    return points if np.hypot(*(points - face.landmarks).T).max() <= square.side / 4 else None
