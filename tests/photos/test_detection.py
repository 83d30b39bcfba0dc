"""Finding faces: with YuNet, with the embedded network, and with files that are not YuNet."""

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.data import astronaut

from ilo.photos import facesearch, yunet
from ilo.photos.detection import detect
from ilo.settings import SettingsError
from ilo.weights import registry

EYES = np.array([[203.0, 101.5], [247.0, 103.0]])  # of the astronaut
HEAD = (slice(20, 240), slice(110, 330))  # rows and columns around the astronaut's head
GREY = (150, 170, 190)


def turned(photo, angle, scale=1.0):
    """A photograph of the astronaut, turned by an angle in degrees around the head; and where the eyes are then."""
    matrix = cv2.getRotationMatrix2D((220, 130), angle, scale)
    size = (round(512 * scale), round(512 * scale))
    matrix[:, 2] += (256 * scale - 220, 180 * scale - 130)
    wanted = EYES @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpAffine(photo, matrix, size, borderMode=cv2.BORDER_REPLICATE), wanted


@pytest.mark.usefixtures("yunet")
@pytest.mark.parametrize("angle", [-25, 0, 25])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0])
def test_yunet_finds_the_astronaut(angle, scale):
    photo, wanted = turned(astronaut(), angle, scale)
    face = detect(photo)[0]
    assert face.landmarks is not None
    assert np.hypot(*(face.eyes - wanted).T).max() < max(3, 5 * scale)


@pytest.mark.usefixtures("yunet")
def test_several_faces_the_largest_one_first_and_none():
    photo = astronaut()
    small = cv2.resize(photo[30:230, 120:320], (120, 120), interpolation=cv2.INTER_AREA)
    both = np.full((512, 800, 3), 200, np.uint8)
    both[:, :512] = photo
    both[300:420, 600:720] = small
    found = detect(both)
    assert len(found) == 2
    assert found[0].box[2] > found[1].box[2]
    assert found[0].eyes[0, 0] < 512 < found[1].eyes[0, 0]
    assert detect(np.full((200, 300, 3), 128, np.uint8)) == []


@pytest.mark.usefixtures("no_yunet")
def test_without_yunet_the_network_finds_the_astronaut_and_no_cloth():
    (face,) = detect(astronaut())
    assert face.landmarks is not None
    assert face.score > 0.5
    assert np.hypot(*(face.eyes - EYES).T).max() < 4


@pytest.mark.parametrize("angle", [-45, -35, 35, 45])
def test_the_network_finds_a_tilted_head_and_not_its_collar(angle):
    photo, wanted = turned(astronaut(), angle)
    (face,) = facesearch.find(photo)
    assert np.hypot(*(face.eyes - wanted).T).max() < 5


def test_the_network_finds_a_group_of_three(root):
    other = np.asarray(Image.open(root / "assets" / "examples" / "face-1.png").convert("RGB"))
    whole = np.full((600, 900, 3), GREY, np.uint8)
    whole[88:, :512] = astronaut()
    whole[180:330, 560:710] = cv2.resize(astronaut()[HEAD][:, ::-1], (150, 150), interpolation=cv2.INTER_AREA)
    whole[350:470, 750:870] = cv2.resize(other, (120, 120), interpolation=cv2.INTER_CUBIC)
    middles = sorted(face.eyes.mean(0)[0] for face in facesearch.find(whole))
    np.testing.assert_allclose(middles, (225, 634, 808), atol=15)


@pytest.mark.parametrize("place", [(0, 0), (244, 611), (488, 688)])
def test_the_network_finds_a_face_of_a_fourteenth_of_the_width(place):
    """The astronaut's face is 115 pixels wide, in 312 pixels 70."""
    small = cv2.resize(astronaut(), (312, 312), interpolation=cv2.INTER_AREA)
    whole = np.full((800, 1000, 3), GREY, np.uint8)
    top, left = place
    whole[top : top + 312, left : left + 312] = small
    (face,) = facesearch.find(whole)
    assert 60 < face.box[2] < 80
    assert np.hypot(*(face.eyes - EYES * 312 / 512 - (left, top)).T).max() < 4


@pytest.mark.parametrize(
    "name", ["coffee", "rocket", "chelsea", "brick", "grass", "gravel", "page", "hubble_deep_field"]
)
def test_the_network_finds_nothing_without_a_face(name):
    photo = getattr(data, name)()
    assert facesearch.find(photo if photo.ndim == 3 else np.repeat(photo[:, :, None], 3, 2)) == []


@pytest.mark.parametrize("size", [(24, 24), (24, 400), (900, 30)])
def test_the_network_takes_pictures_of_every_shape(size):
    assert facesearch.find(np.full((*size, 3), 128, np.uint8)) == []


def test_a_broken_detector_is_said_or_passed_over(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    broken = tmp_path / registry.YUNET_FILE
    broken.write_bytes(b"no network")
    monkeypatch.delenv("ILO_YUNET", raising=False)
    assert yunet.path() is None  # its hash is another one
    assert "is not the expected file" in caplog.text
    monkeypatch.setenv("ILO_YUNET", str(broken))
    with pytest.raises(SettingsError, match="does not contain YuNet"):
        detect(np.zeros((64, 64, 3), np.uint8))
