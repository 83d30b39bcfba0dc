"""The Morph tab without a browser: settings from its controls, and the answers of its handlers."""

import math
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ilo.classifiers import classifier
from ilo.methods import MORPH_METHODS, PRESETS, morph_preset
from ilo.records.bundle import read_bundle
from ilo.ui import examples, text
from ilo.ui.morph import tab as morph
from ilo.ui.morph.handlers import NOBODY, Morph, radius_of
from ilo.ui.parts import painter
from ilo.ui.parts.controls import RADII, radius_position
from ilo.ui.studio.handlers import Source
from ilo.weights import registry
from tests.machines import plain_runs

SKIP = gr.skip()
LAYERS = 5


@pytest.fixture(scope="module")
def tab(model, guide, tmp_path_factory):
    made = Morph(model, {"robust64": guide}, examples.load()[0], plain_runs(model), tmp_path_factory.mktemp("cache"))
    yield made
    made.runs.close()


@pytest.fixture
def values(model):
    base = morph_preset(layers=LAYERS)
    radii = {f"{k}.radius": radius_position(radius_of(base, k)) for k in range(4)}
    radii["pixels.radius"] = radius_position(radius_of(morph_preset(method="pixels", layers=LAYERS), 0))
    return {
        "source": None, "start": "face", "seed": 0, "painter": None, "class": "goldfish", "second": NOBODY,
        "share": 50, "guide": "robust64", "method": "ilo", "preset": "Quick", **radii,
    }  # fmt: skip


@pytest.fixture
def short(monkeypatch):
    """Shortens the presets to a few steps."""
    monkeypatch.setattr("ilo.methods.MORPH_PRESETS", {"Quick": (3, 2, 2, 2), "Paper": (4, 4, 4, 4)})


@pytest.fixture
def photo(model):
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    source = Source("mine", Image.fromarray(pixels))
    return {"source": source, "painter": painter.first_value(model, "mine"), "start": "photo"}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", MORPH_METHODS)
def test_untouched_controls_stand_for_the_preset_itself(tab, values, name, method):
    values = {**values, "preset": name, "method": method, "seed": 3}
    assert tab.settings(values) == morph_preset(name, method, layers=LAYERS, seed=3)


def test_sliders_move_the_radii(tab, values):
    moved = tab.settings({**values, "0.radius": 0, "2.radius": len(RADII) - 1})
    assert moved.rounds[0].radius_latents == 0
    assert moved.rounds[2].radius_features == math.inf
    assert moved.rounds[1] == morph_preset(layers=LAYERS).rounds[1]
    assert morph.radii_note([0, 1, len(RADII) - 1]) == "ρ = 0 % · 0.1 % · no ball"


def test_a_slider_moves_the_pixels_radius(tab, values):
    position = RADII.index(0.1)
    moved = tab.settings({**values, "method": "pixels", "pixels.radius": position})
    assert moved.rounds[0].radius_features == 0.1
    assert morph.radii_note([position], "pixels") == "ρ = 0.1: 13 of 255 levels per value on average"
    assert morph.radii_note([len(RADII) - 1], "pixels") == "ρ = no ball"


def test_two_classes_share(tab, values):
    order, _ = tab.order({**values, "second": "bullfrog", "share": 25})
    assert order.problem.classes == {"goldfish": 0.75, "bullfrog": 0.25}
    order, _ = tab.order({**values, "second": "goldfish"})
    assert order.problem.classes == {"goldfish": 1.0}


def test_a_run_streams_ends_and_is_saved(tab, values, short):
    steps = list(tab.run(values, "run"))
    assert any("Round 2 of 4" in str(step[3]) for step in steps)
    stage, strips, _, panel, *_ = steps[-1]
    assert "compare-cut" in stage
    assert strips.count('class="moment"') == 5  # the start and four rounds
    assert strips.count("data-left") == strips.count("data-right") == 1
    assert "% goldfish" in panel
    assert panel.count('class="seen') == 5  # the list and four classes
    download, notice = tab.save("run")
    assert notice == SKIP
    path = download.value["path"] if isinstance(download.value, dict) else download.value
    recipe, _, image = read_bundle(Path(path), str(tab.guides["robust64"].path))
    assert recipe.task == "morph"
    assert image is None


def test_the_pixels_are_a_method(tab, values, short):
    panel = list(tab.run({**values, "method": "pixels"}, "pixels"))[-1][3]
    assert "allowed change" not in panel
    assert "‖x′ − x‖₂ = " in panel
    assert "Classifier" in panel


def test_five_radii_side_by_side(tab, values, short):
    steps = list(tab.sweep(values, "sweep"))
    stage, strips, _, panel, *_ = steps[-1]
    assert strips.count("<figure") == 5
    assert all(label in strips and label in panel for label in text.SWEEP_SCALES.values())
    assert text.MOSAIC in stage
    assert [stage.count(f">{label}<") for label in text.SWEEP_SCALES.values()] == [0, 1, 1, 1, 1]
    assert tab.save("sweep") == (SKIP, SKIP)


def test_a_photograph_is_inverted_first(tab, values, photo, short, monkeypatch):
    monkeypatch.setattr("ilo.methods.PRESETS", {"Quick": (2, 1, 1, 1), "Paper": (1, 1, 1, 1)})
    steps = list(tab.run({**values, **photo}, "photo"))
    assert "inverted" in steps[-1][1]
    assert steps[-1][1].count('class="moment"') == 6  # the start, the inversion and four rounds
    assert any(text.INVERTING in str(step[0]) for step in steps)


def test_five_radii_from_a_photograph(tab, values, photo, short, monkeypatch):
    monkeypatch.setattr("ilo.methods.PRESETS", {"Quick": (2, 1, 1, 1), "Paper": (1, 1, 1, 1)})
    last = list(tab.sweep({**values, **photo}, "photos"))[-1]
    assert text.MOSAIC in last[0]
    assert "error" not in last[4]


def test_what_fails_while_it_is_shown_gives_run_back(tab, values, short, monkeypatch, caplog):
    def broken(self):
        raise RuntimeError("inside out")

    monkeypatch.setattr("ilo.ui.morph.handlers.MorphProgress.stage", broken)
    last = list(tab.run(values, "shown"))[-1]
    assert text.FAILED in last[4]
    assert last[5]["interactive"] is True if isinstance(last[5], dict) else last[5].interactive
    assert "inside out" in caplog.text


def test_the_start_is_shown(tab, values, photo):
    faces = {tab.preview({**values, "seed": seed}, "look")[0] for seed in (0, 1)}
    assert len(faces) == 2
    assert tab.preview({**values, **photo}, "look")[0] not in faces
    answer = tab.upload(values, "look", None)
    assert text.GONE in answer[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": None}, "Choose a target class"),
        ({"class": "frogs"}, "the nearest are"),
        ({"second": "bullfrog", "share": math.nan}, "Share of the second class is empty"),
        ({"second": "bullfrog", "share": 0}, "must be 1 to 99 %, not 0"),
        ({"guide": "another"}, "allowed are robust64"),
        ({"seed": None}, "Seed is empty"),
        ({"0.radius": 99}, "position from 0 to"),
        ({"method": "pixels", "pixels.radius": -1}, "position from 0 to"),
        ({"start": "photo"}, "crop could not be read"),
        ({"method": "csgm"}, "allowed are ilo, pixels"),
    ],
)
def test_what_is_not_allowed_gets_a_sentence_and_starts_nothing(tab, values, change, words):
    (answer,) = tab.run({**values, **change}, "bad")
    assert words in answer[4]
    assert tab.runs.of("bad") is None


def test_a_missing_classifier_leaves_the_rest_working(model, monkeypatch, tmp_path, caplog):
    from ilo.ui import page

    for name in classifier.EMBEDDED:
        monkeypatch.setitem(registry.BY_ID, name, replace(registry.BY_ID[name], file="missing.safetensors"))
    built = page.build([model])
    ids = {getattr(block, "elem_id", None) for block in built.blocks.values()}
    assert "studio" in ids
    assert "morph" not in ids
    assert "missing from the studio's folder assets" in caplog.text
