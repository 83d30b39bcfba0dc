"""Uploaded photographs without a browser: detecting, choosing and placing faces, and pasting results back."""

import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from ilo.methods import morph_preset, preset
from ilo.photos import portraits
from ilo.photos.detection import detect
from ilo.photos.pictures import Crop, PictureError, read_picture
from ilo.state import to_uint8
from ilo.ui import examples, text
from ilo.ui.morph.handlers import NOBODY, Morph, radius_of
from ilo.ui.parts import controls, painter, photographs
from ilo.ui.parts.controls import radius_position
from ilo.ui.studio.handlers import Studio
from tests.machines import plain_runs

SKIP = gr.skip()


@pytest.fixture(scope="module")
def runs(model):
    made = plain_runs(model)
    yield made
    made.close()


@pytest.fixture(scope="module")
def studio(model, runs, tmp_path_factory):
    return Studio(model, examples.load(), runs, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def values(model):
    """Values of the page's controls for a run of a few steps."""
    first = examples.load()[0]
    fields = controls.fields_of(preset(), model.layers)
    return {
        "source": None, "painter": painter.first_value(model, first.name, first.crop), "truth": "here",
        "task": "inpaint", "method": "ilo", "preset": "Quick", "seed": 0, **fields, "rounds": 1, "0.steps": 3,
    }  # fmt: skip


@pytest.fixture
def chosen(studio, values, group):
    """The page's answer to uploading the group photograph."""
    return taken(values, studio.upload(values, "s", str(group)))


def taken(values, answer):
    source, canvas, photo, *_ = answer
    return {**values, "source": source, "painter": canvas.value, "photo": photo.props["photo"]}


@pytest.mark.usefixtures("yunet")
def test_the_largest_face_is_cut_out_as_the_command_line_does_it(model, studio, chosen, group):
    source, shown = chosen["source"], chosen["photo"]
    assert source.photo.size == (900, 600)  # upright
    assert shown["note"] == "2 faces were found; this is the largest."
    assert [tile["choice"] for tile in shown["tiles"]] == ["face:0", "face:1", "whole"]
    assert shown["chosen"] == "face:0"
    photo = np.asarray(read_picture(group))
    pixels, square = portraits.cut(photo, detect(photo)[0], model)
    order, notes = studio.order(chosen)
    assert np.array_equal(to_uint8(order.input_image)[0], pixels)
    assert np.array_equal(order.placed.alignment.matrix, square.matrix)
    assert notes == []
    np.testing.assert_allclose(np.array(shown["square"]), square.to_photo(portraits.CORNERS))


@pytest.mark.usefixtures("yunet")
def test_the_second_face_is_solved_and_put_back(studio, chosen):
    chosen = taken(chosen, studio.rechoose(chosen, "s", {"choice": "face:1"}))
    assert chosen["photo"]["note"] == "Face 2 of 2, counted from the largest."
    *_, last = studio.run(chosen, "s")
    assert text.PHOTO_VIEW in last[0]
    assert text.PHOTO_SAVED in last[3]
    button, _ = studio.save("s")
    path = Path(button.value["path"]) if isinstance(button.value, dict) else Path(button.value)
    with zipfile.ZipFile(path) as archive, archive.open("photo.png") as file:
        after = np.asarray(Image.open(file)).astype(int)
    changed = np.abs(after - chosen["source"].photo.pixels()).max(2) > 8
    assert changed[200:300, 660:770].mean() > 0.3
    assert not changed[:, :600].any()


@pytest.mark.usefixtures("yunet")
def test_the_whole_picture_and_the_examples_are_one_click_away(studio, chosen):
    whole = taken(chosen, studio.rechoose(chosen, "s", {"choice": "whole"}))
    assert whole["photo"]["chosen"] == "whole"
    assert whole["source"].image.size == (900, 600)
    order, _ = studio.order(whole)
    np.testing.assert_allclose(order.placed.alignment.matrix, [[600, 0, 150], [0, 600, 0]])
    back = taken(whole, studio.rechoose(whole, "s", {"choice": "back"}))
    assert back["photo"] is None
    order, _ = studio.order(back)
    assert order.placed is None


@pytest.mark.usefixtures("yunet")
def test_a_smaller_part_of_the_crop_goes_back_where_it_was(studio, chosen):
    square = chosen["source"].square
    drawn = {**chosen["painter"], "crop": {"x": 0.5, "y": 0.4, "zoom": 4}}
    order, notes = studio.order({**chosen, "painter": drawn})
    assert "was enlarged" in notes[0]
    wanted = square.to_photo(np.array([0.5, 0.4]) + (portraits.CORNERS - 0.5) / 4)
    np.testing.assert_allclose(order.placed.alignment.to_photo(portraits.CORNERS), wanted)
    assert order.placed.before.shape == (64, 64, 3)


@pytest.mark.usefixtures("yunet")
def test_a_damaged_picture_is_not_turned_unless_it_is_asked_for(studio, values, group):
    chosen = taken(values, studio.upload({**values, "truth": "given"}, "s", str(group)))
    assert chosen["photo"]["chosen"] == "whole"
    assert "already damaged" in chosen["photo"]["note"]
    assert len(chosen["photo"]["tiles"]) == 3


@pytest.mark.usefixtures("yunet")
def test_a_small_square_is_taken_as_it_is(studio, values, tmp_path):
    Image.fromarray(astronaut()[40:200, 140:300]).resize((64, 64)).save(tmp_path / "small.png")
    chosen = taken(values, studio.upload(values, "s", str(tmp_path / "small.png")))
    assert chosen["photo"] is None
    order, _ = studio.order(chosen)
    assert order.placed is None


@pytest.mark.usefixtures("yunet")
def test_a_tiny_face_is_enlarged_and_it_is_said(studio, values, tmp_path):
    Image.fromarray(astronaut()).resize((200, 200)).save(tmp_path / "small.png")
    chosen = taken(values, studio.upload(values, "s", str(tmp_path / "small.png")))
    assert "1 face was found" in chosen["photo"]["note"]
    assert "px wide and was enlarged to 64 px" in chosen["photo"]["note"]


@pytest.mark.usefixtures("no_yunet")
def test_without_yunet_the_embedded_network_finds_both(studio, values, group):
    chosen = taken(values, studio.upload(values, "s", str(group)))
    assert chosen["source"].face.landmarks is not None
    assert chosen["photo"]["note"].startswith("2 faces were found; this is the largest.")


# Eyes placed by hand.


@pytest.fixture
def faceless(studio, values, photo, no_yunet):
    chosen = taken(values, studio.upload(values, "s", str(photo)))
    assert chosen["photo"]["note"] == text.PHOTO_NO_FACE
    assert chosen["photo"]["tiles"] == []
    return chosen


def test_eyes_placed_by_hand(model, studio, faceless):
    eyes = [[30.5, 20], [50, 24]]
    chosen = taken(faceless, studio.rechoose(faceless, "s", {"choice": "eyes", "eyes": eyes}))
    assert chosen["photo"]["eyes"] == eyes
    assert chosen["photo"]["chosen"] == "eyes"
    order, _ = studio.order(chosen)
    places = [model.alignment["eye_left"], model.alignment["eye_right"]]
    np.testing.assert_allclose(order.placed.alignment.to_photo(places), eyes, atol=1e-9)
    places = np.array(chosen["photo"]["places"])
    np.testing.assert_allclose(order.placed.alignment.to_photo(places), eyes, atol=1e-9)


@pytest.mark.parametrize(
    ("eyes", "words"),
    [
        ([[30, 20], [30, 20]], "Both eyes are at 30, 20"),
        ([[30, 20], [81, 20]], "right eye is at 81, 20, outside the photograph; allowed is 0 to 80 across"),
        ([[30, -1], [50, 20]], "left eye is at 30, -1, outside"),
        ([[50, 20], [30, 20]], "swap them"),
        ([[None, 20], [30, 20]], "position of the left eye is empty"),
        ([[30, 20]], "could not be read"),
        ("nonsense", "could not be read"),
    ],
)
def test_places_where_no_eyes_can_be(studio, faceless, eyes, words):
    source, canvas, photo, *others = studio.rechoose(faceless, "s", {"choice": "eyes", "eyes": eyes})
    assert words in photo.props["photo"]["problem"]
    assert [source, canvas, *others] == [SKIP] * 6


@pytest.mark.parametrize("data", [None, {}, {"choice": "face:7"}, {"choice": 3}])
def test_what_the_page_never_asks_for(studio, faceless, data):
    *others, notice = studio.rechoose(faceless, "s", data)
    assert text.GONE in notice
    assert others == [SKIP] * 6


# Leaving, and the parts.


@pytest.mark.usefixtures("yunet")
def test_a_closed_tab_leaves_nothing(studio, chosen):
    source = chosen["source"]
    order, _ = studio.order(chosen)
    studio.leave("s")
    assert source.photo is None
    assert source.pixels is None
    with pytest.raises(PictureError):
        studio.order(chosen)
    assert order.placed.photo().shape == (600, 900, 3)  # a run that waits has its own


def test_a_square_within_a_square():
    a = portraits.square_of((300, 200), Crop(0.5, 0.5, 2))
    np.testing.assert_allclose(a.matrix, [[100, 0, 100], [0, 100, 50]])
    b = portraits.within(a, portraits.square_of((1, 1), Crop(1, 1, 4)))
    np.testing.assert_allclose(b.matrix, [[25, 0, 175], [0, 25, 125]])


@pytest.mark.usefixtures("yunet")
def test_a_photograph_in_a_morph(model, guide, runs, group, tmp_path, monkeypatch):
    monkeypatch.setattr("ilo.methods.MORPH_PRESETS", {"Quick": (3, 2, 2, 2), "Paper": (4, 2, 2, 2)})
    monkeypatch.setattr("ilo.methods.PRESETS", {"Quick": (2, 1, 1, 1), "Paper": (1, 1, 1, 1)})
    tab = Morph(model, {"robust64": guide}, examples.load()[0], runs, tmp_path)
    base = morph_preset(layers=5)
    radii = {f"{k}.radius": radius_position(radius_of(base, k)) for k in range(4)}
    radii["pixels.radius"] = radius_position(radius_of(morph_preset(method="pixels", layers=5), 0))
    values = {
        "source": None, "start": "face", "seed": 0, "painter": None, "class": "goldfish", "second": NOBODY,
        "share": 50, "guide": "robust64", "method": "ilo", "preset": "Quick", **radii,
    }  # fmt: skip
    chosen = {**taken(values, tab.upload(values, "s", str(group))), "start": "photo"}
    chosen = taken(chosen, tab.rechoose(chosen, "s", {"choice": "face:1"}))
    *_, last = tab.run(chosen, "s")
    assert text.PHOTO_VIEW in last[0]
    assert text.PHOTO_SAVED in last[3]
    *_, notice = tab.rechoose({**chosen, "source": None}, "s", {"choice": "whole"})
    assert text.GONE in notice


def test_nothing_is_shown_of_an_example(model):
    assert photographs.shown(None, model) is None
