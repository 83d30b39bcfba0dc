"""Recorded runs: the file, its limits, and that the page's own belongs to the present model and preset."""

import json
from dataclasses import replace

import pytest

from ilo.records import recording
from ilo.records.recording import Recording, RecordingError, read, write
from ilo.settings import RoundSettings, SolverSettings
from ilo.ui.parts import player
from training import make_recording


@pytest.fixture(scope="module")
def plan():
    return make_recording.plan()


@pytest.fixture(scope="module")
def short(plan):
    """A recording of two short rounds."""
    settings = SolverSettings((RoundSettings(4), RoundSettings(2)))
    return make_recording.make(replace(plan, settings=settings, recipe=replace(plan.recipe, settings=settings)))


def test_the_first_recording_is_of_the_present_model_preset_and_example(plan):
    """If this fails, run `python -m training.make_recording` and commit its file."""
    recipe = read(player.FIRST).recipe
    assert replace(recipe, engine=plan.recipe.engine) == plan.recipe


def test_the_first_recording_shows_every_round():
    made = read(player.FIRST)
    assert [mark.name for mark in made.marks] == [
        "start",
        *(f"round {k}" for k in range(len(made.recipe.settings.rounds))),
    ]
    assert made.marks[-1].frame == len(made.frames) - 1
    assert made.frames[-1].done == made.recipe.settings.total_steps
    assert 30 <= len(made.frames) <= recording.MOST_FRAMES
    assert made.marks[-1].psnr > made.marks[1].psnr > made.marks[0].psnr


def test_a_file_gives_the_same_recording(short, tmp_path):
    write(short, tmp_path / "run.json")
    assert read(tmp_path / "run.json") == short
    assert [(frame.round, frame.step, frame.done) for frame in short.frames] == [
        *((0, step, step) for step in range(5)),
        *((1, step, 4 + step) for step in (1, 2)),
    ]
    assert [(mark.name, mark.frame) for mark in short.marks] == [("start", 0), ("round 0", 4), ("round 1", 6)]
    assert short.frames[-1].error < short.frames[0].error
    assert short.frames[0].psnr == pytest.approx(short.marks[0].psnr, abs=0.01)


def test_a_recording_stays_small(short, monkeypatch, tmp_path, plan):
    monkeypatch.setattr(recording, "MOST_BYTES", 2_000)
    with pytest.raises(RecordingError, match="2,000"):
        write(short, tmp_path / "run.json")
    assert not (tmp_path / "run.json").exists()
    with pytest.raises(RecordingError, match="take fewer frames"):
        make_recording.make(replace(plan, settings=short.recipe.settings, recipe=short.recipe))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 1"),
        ({"frames": []}, "0 frames"),
        ({"marks": [{"name": "start", "frame": 99, "psnr": None}]}, "does not have"),
        ({"measured": "<script>"}, "damaged"),
        ({"more": 1}, "damaged"),
        ({"recipe": {}}, "lacks"),
    ],
)
def test_a_damaged_file_is_named(short, tmp_path, change, words):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(short.to_json()), **change}))
    with pytest.raises(RecordingError, match=words):
        read(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        read(tmp_path / "none.json")
    with pytest.raises(RecordingError, match="not JSON"):
        Recording.from_json("words")
