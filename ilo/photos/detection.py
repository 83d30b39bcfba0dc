"""Finding the faces in a photograph."""

from __future__ import annotations

import numpy as np

from ilo.photos import facesearch, yunet
from ilo.photos.faces import Face


def detect(photo: np.ndarray) -> list[Face]:
    """Detect all faces in a photograph, uint8 [H, W, 3] RGB, largest first, each with landmarks.

    Uses YuNet if its file is here, otherwise the embedded network.

    Raises:
        SettingsError: ILO_YUNET names a file that is not YuNet, or the embedded network's file is missing or damaged.
    """
    path = yunet.path()
    found = yunet.find(photo, path) if path else facesearch.find(photo)
    return sorted(found, key=lambda face: -face.box[2] * face.box[3])
