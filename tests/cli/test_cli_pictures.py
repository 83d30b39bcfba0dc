"""Photographs on the command line: detecting and pasting faces, published networks."""

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from ilo.cli import main as cli
from tests import published
from tests.cli.test_cli import solve


@pytest.fixture
def portrait(tmp_path, monkeypatch):
    """A photograph with a face and space around it; faces are detected by the embedded network."""
    monkeypatch.delenv("ILO_YUNET", raising=False)
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "portrait.png"
    Image.fromarray(astronaut()).save(path)
    return path


def test_a_face_is_found_and_put_back(portrait, tmp_path, capsys):
    out = tmp_path / "run"
    assert solve(portrait, out, "--task", "super-resolve", "--factor", "4", "--face", "1", "--steps", "2,1") == 0
    photo, pasted = (np.asarray(Image.open(path)).astype(int) for path in (portrait, out / "photo.png"))
    changed = np.abs(photo - pasted).max(2) > 8
    assert changed[90:150, 200:250].mean() > 0.3
    assert not changed[300:].any()
    assert not changed[:, 350:].any()
    assert Image.open(out / "input.png").size == (64, 64)
    assert cli.main(["replay", str(out)]) == 0
    assert solve(portrait, out, "--task", "identity", "--face", "1", "--steps", "1") == 0  # in the same folder


def test_a_morph_of_a_face_in_a_photograph(portrait, tmp_path):
    out = tmp_path / "run"
    command = ["solve", str(portrait), "--task", "morph", "--class", "tabby", "--face", "1", "--method", "pixels"]
    assert cli.main([*command, "--out", str(out)]) == 0
    assert Image.open(out / "photo.png").size == (512, 512)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--face", "99"), "--face is 99, but"),
        (("--face", "0"), "--face must be a whole number from 1"),
        (("--face", "1", "--crop", "0.5,0.5,1"), "--face and --crop cannot be used together"),
        (("--face", "1", "--damaged"), "--face and --damaged cannot be used together"),
    ],
)
def test_faces_that_cannot_be(portrait, tmp_path, capsys, options, words):
    assert solve(portrait, tmp_path / "run", "--task", "identity", *options) == 2
    assert words in capsys.readouterr().err


def test_a_photo_without_a_face(portrait, tmp_path, capsys):
    Image.new("RGB", (300, 200), (90, 120, 160)).save(portrait)
    assert solve(portrait, tmp_path / "run", "--task", "identity", "--face", "1") == 2
    assert "No face was found" in capsys.readouterr().err


def test_a_published_network_solves_and_replays(portrait, tmp_path):
    network = str(published.official(tmp_path / "net.pkl", published.generator(32)))
    out = tmp_path / "run"
    assert solve(portrait, out, "--task", "identity", "--steps", "2,1", "--model", network) == 0
    assert Image.open(out / "result.png").size == (32, 32)
    assert cli.main(["replay", str(out), "--model", network]) == 0


def test_a_mask_painted_on_the_photograph_is_cut_out_with_the_face(portrait, tmp_path, capsys):
    hidden = np.zeros((512, 512), np.uint8)
    hidden[:, :220] = 255  # left of the middle of the face
    Image.fromarray(hidden).save(tmp_path / "mask.png")
    options = ("--task", "inpaint", "--face", "1", "--mask", str(tmp_path / "mask.png"), "--steps", "1")
    assert solve(portrait, tmp_path / "run", *options) == 0
    assert "cut out like the face" in capsys.readouterr().out
    mask = np.asarray(Image.open(tmp_path / "run" / "mask.png").convert("L"))
    columns = (mask > 127).mean(0)  # white is hidden
    assert columns[0] == 1
    assert columns[-1] == 0
    assert (np.diff(columns) <= 0).all()  # the face is turned by a little
