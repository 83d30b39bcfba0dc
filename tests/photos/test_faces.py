"""Faces: aligning, cropping and pasting back."""

import cv2
import numpy as np
import pytest

from ilo.photos.faces import FFHQ, Alignment, Face, align, crop, from_eyes, paste_back, similarity

TEMPLATE = {
    "eye_left": (0.294, 0.286),
    "eye_right": (0.678, 0.287),
    "nose": (0.470, 0.506),
    "mouth_left": (0.319, 0.671),
    "mouth_right": (0.644, 0.673),
}


def turned(angle, side, x, y):
    a, b = side * np.cos(angle), side * np.sin(angle)
    return Alignment(np.array([[a, -b, x], [b, a, y]]))


def smooth(height=300, width=400):
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (height // 20, width // 20, 3)).astype(np.float32)
    return np.clip(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def test_a_similarity_is_found_again():
    square = turned(0.4, 120, 30, 50)
    points = np.random.default_rng(0).uniform(0, 1, (5, 2))
    found = similarity(points, square.to_photo(points))
    np.testing.assert_allclose(found.matrix, square.matrix, atol=1e-9)
    np.testing.assert_allclose(found.to_crop(found.to_photo(points)), points, atol=1e-12)
    assert found.side == pytest.approx(120)


def test_two_points_are_met_exactly():
    face = from_eyes((100, 80), (160, 70))
    square = align(face, TEMPLATE)
    np.testing.assert_allclose(
        square.to_photo(np.array([TEMPLATE["eye_left"], TEMPLATE["eye_right"]])), [(100, 80), (160, 70)], atol=1e-9
    )


def test_ffhq_by_hand():
    """For an upright face, the square is 4 eye distances or 3.6 eye–mouth distances wide, whichever is larger."""
    points = np.array([(80, 100), (120, 100), (100, 120), (85, 140), (115, 140)], float)
    square = align(Face((0, 0, 1, 1), 1, points), FFHQ)
    assert square.side == pytest.approx(max(4 * 40, 3.6 * 40))
    np.testing.assert_allclose(square.to_photo(np.array([[0.5, 0.5]])), [(100, 104)])
    np.testing.assert_allclose(square.matrix[:, :2], np.diag([160, 160]), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
@pytest.mark.parametrize("side", [50, 100, 290])
def test_a_crop_shows_what_lies_under_its_square(angle, side):
    """In a picture whose colours encode coordinates, each pixel shows where it came from."""
    rows, columns = np.mgrid[0:300, 0:250] + 0.5
    photo = np.stack([columns, rows, np.full_like(rows, 7)], 2).astype(np.uint8)
    middle = turned(angle, side, 125, 150)
    square = Alignment(np.column_stack([middle.matrix[:, :2], [125, 150] - middle.matrix[:, :2].sum(1) / 2 * 0.5]))
    square = Alignment(np.column_stack([square.matrix[:, :2] * 0.5, square.matrix[:, 2]]))
    pixels = crop(photo, square, 64)
    places = (np.mgrid[0:64, 0:64][::-1].reshape(2, -1).T + 0.5) / 64
    np.testing.assert_allclose(pixels[:, :, :2].reshape(-1, 2) + 0.5, square.to_photo(places), atol=1.5)


def test_beyond_the_border_there_is_something():
    photo = np.full((20, 20, 3), 90, np.uint8)
    assert (crop(photo, turned(0, 60, -20, -20), 32) == 90).all()


@pytest.mark.parametrize("square", [turned(0.3, 90, 120, 60), turned(0, 64, 40, 40), turned(0, 200, -50, 120)])
def test_an_unchanged_crop_changes_nothing(square):
    photo = smooth()
    cut = crop(photo, square, 64)
    assert np.array_equal(paste_back(photo, cut, cut, square), photo)


@pytest.mark.parametrize("angle", [0.0, 0.35])
def test_a_known_change_lands_where_it_should(angle):
    photo = np.full((300, 400, 3), 100, np.uint8)
    square = turned(angle, 160, 150, 60)
    before = crop(photo, square, 64)
    after = before.copy()
    after[30:34, 20:24] += 100
    changed = paste_back(photo, before, after, square).astype(float)[:, :, 0] - 100
    weight = np.clip(changed, 0, None)
    rows, columns = np.mgrid[0:300, 0:400] + 0.5
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(centre, square.to_photo(np.array([[22 / 64, 32 / 64]]))[0], atol=1)
    assert changed.sum() == pytest.approx(100 * 16 * (160 / 64) ** 2, rel=0.05)
    assert not changed[:40].any()


def test_what_is_put_back_fades_towards_the_edge():
    photo = np.full((200, 200, 3), 100, np.uint8)
    square = turned(0, 100, 50, 50)
    before = crop(photo, square, 50)
    row = paste_back(photo, before, before + 50, square)[100, 50:150, 0].astype(int)
    assert row[0] < 103
    assert row[50] == 150
    assert (np.diff(row[:50]) >= 0).all()
    assert np.abs(np.diff(row)).max() <= 10


@pytest.mark.parametrize(
    ("points", "profile"),
    [
        ([(80, 100), (120, 100), (100, 120), (85, 140), (115, 140)], False),
        ([(80, 100), (120, 100), (118, 120), (85, 140), (115, 140)], True),  # the nose under one eye
        ([(95, 100), (115, 100), (105, 120), (97, 140), (113, 140)], True),  # the eyes close together
    ],
)
def test_faces_seen_from_the_side(points, profile):
    assert Face((0, 0, 1, 1), 1, np.array(points, float)).from_the_side == profile
    assert not from_eyes((0, 0), (1, 0)).from_the_side
