"""Training the face network: its windows, and that a training can stop and go on."""

import numpy as np
import pytest
import torch

from ilo.photos import facenet
from ilo.photos.facenet import FACE, WINDOW, FaceNet
from training import face_windows, train_facenet
from training.face_windows import Pictures, compose, put
from training.train_facenet import Training

POINTS = 96 * FACE  # of faces of 96 pixels


class Blind:
    """A detector that never sees a face."""

    def setInputSize(self, size):  # noqa: N802
        pass

    def detect(self, picture):
        return 0, None


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    faces = np.full((3, 96, 96, 3), 90, np.uint8)
    for x, y in POINTS.round().astype(int):
        faces[:, y - 3 : y + 3, x - 3 : x + 3] = 255  # a bright spot at each landmark
    others = rng.integers(0, 256, (5, 64, 64, 3), np.uint8)
    return Pictures(faces, np.repeat(POINTS[None], 3, 0), others)


@pytest.fixture
def begin(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(train_facenet, "detector", lambda file: Blind())
    for name, value in (("BATCH", 8), ("MINED_FROM", 2), ("MINED_EVERY", 2), ("SEARCHED", 1)):
        monkeypatch.setattr(train_facenet, name, value)
    return lambda: Training(pictures, tmp_path, tmp_path, seed=3, steps=6, brief=False)


@pytest.mark.parametrize(("side", "turn"), [(0.9, 0.0), (0.6, 0.6), (0.5, -0.8)])
def test_landmarks_follow_the_face(pictures, side, turn):
    window = np.zeros((WINDOW, WINDOW, 3), np.uint8)
    window, points = put(pictures, window, side, np.array([0.5, 0.45]), turn, np.random.default_rng(1))
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    assert np.hypot(*(points[1] - points[0])) == pytest.approx(side * (FACE[1] - FACE[0])[0])
    np.testing.assert_allclose((mouth - eyes) / np.hypot(*(mouth - eyes)), (-np.sin(turn), np.cos(turn)), atol=1e-9)
    for x, y in points * WINDOW:
        assert window[int(y), int(x), 0] > 110


def test_windows_are_of_both_kinds_and_repeatable(pictures):
    windows, labels, landmarks = compose(pictures, 16, np.random.default_rng(5))
    assert windows.shape == (16, 64, 64, 3)
    assert labels.sum() == 8
    middles = landmarks[labels].mean(1)
    assert np.abs(middles - 0.5).max() < face_windows.SHIFT + 0.1
    assert not landmarks[~labels].any()
    again = compose(pictures, 16, np.random.default_rng(5))
    assert np.array_equal(windows, again[0])


def test_a_training_stops_and_goes_on(begin):
    whole, first = begin(), begin()
    for _ in range(5):
        whole.update()
    for _ in range(3):
        first.update()
    first.save()
    second = begin()
    assert second.step == 3
    for _ in range(2):
        second.update()
    for own, theirs in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)


def test_mistakes_are_windows_that_look_like_faces(begin):
    training = begin()
    with torch.no_grad():
        training.average.layers[-1].bias[0] = 5.0  # sees faces everywhere
    mined = training.mistakes(np.random.default_rng(0))
    assert mined.shape[1:] == (WINDOW, WINDOW, 3)
    assert len(mined) >= train_facenet.PER_PICTURE
    training.average = FaceNet(norm=True)
    with torch.no_grad():
        training.average.layers[-1].bias[0] = -50.0
    assert len(training.mistakes(np.random.default_rng(0))) == 0


def test_the_weights_are_written(begin, tmp_path):
    path = tmp_path / "net.safetensors"
    train_facenet.export(begin(), path)
    assert isinstance(facenet.read(path), FaceNet)


def test_a_face_is_painted_over():
    picture = np.full((64, 64, 3), 50, np.uint8)
    picture[20:30, 20:30] = 255
    painted = train_facenet._painted(picture, np.array([[19.0, 19.0, 12.0, 12.0], [-5.0, 60.0, 30.0, 30.0]]))
    assert (painted == 50).all()
    assert picture.max() == 255
