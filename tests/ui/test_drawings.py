"""The page's drawings and texts, and that it loads nothing from other hosts."""

import html
import json
import math
import re
from dataclasses import replace

import numpy as np

from ilo.ui import page, text
from ilo.ui.parts import player, plots, views
from ilo.ui.parts.network import Node, network
from ilo.ui.parts.timeline import Tile, timeline
from ilo.ui.visitors.visitors import Visitors


def test_chart_keeps_what_is_finite():
    svg = plots.loss_chart(np.arange(5), np.array([1.0, np.nan, 0.1, np.inf, 0.01]), 10, [0, 5])
    assert svg.count("<polyline") == 1
    assert "nan" not in svg
    assert "inf" not in svg
    assert "<polyline" not in plots.loss_chart(np.zeros(0), np.zeros(0), 10)
    assert plots.loss_chart(np.arange(2), np.array([0.1, 0.1]), 2)


def test_drawings_escape_names():
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert "<b>" not in plots.strip([("<b>", pixels, "<b>")])
    assert "<b>" not in plots.notice("<b>")
    assert plots.notice("") == ""


def test_large_previews_are_reduced_jpeg():
    uri = plots.data_uri(np.zeros((1024, 1024, 3), np.uint8))
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 40_000
    assert plots.data_uri(np.zeros((64, 64, 3), np.uint8)).startswith("data:image/png")


def test_rings_say_what_they_show():
    code = Node("code", "Latent code", {"features": math.nan, "latents": math.nan, "noise": math.nan})
    layer = Node("8", "Layer 8×8", {"features": 0.5, "latents": math.nan, "noise": 1.2}, now=True)
    drawn = network([code, layer, Node("16", "Layer 16×16"), Node("32", "Layer 32×32", searched=False)])
    assert "Latent code: no limit; Layer 8×8 (now): features 50 %, noise maps 100 %; " in drawn
    assert "Layer 16×16: still to come; Layer 32×32: not searched." in drawn
    assert drawn.count('class="used"') == 1  # no ring where there is no ball
    assert ">50 %<" in drawn
    assert drawn.count('class="node now"') == 1


def test_a_line_of_tiles():
    tiles = [Tile("<b>", "data:,", "<b>", "<b>", left=True), Tile("8×8", None, "", now=True), Tile("16×16", None, "")]
    drawn = timeline(tiles, "run")
    assert "<b>" not in drawn
    assert drawn.count("<button") == 3
    assert drawn.count(" disabled ") == 1  # the searched round shows the picture on the stage
    assert drawn.count('aria-current="step"') == 1
    assert drawn.count("<img") == 1
    assert "many" not in drawn
    assert "many" in timeline([Tile("8×8", None, "")] * 12, "run")


def test_a_recorded_run_on_the_page(model):
    recording = player.first()
    own = replace(model, sha256=recording.recipe.model_sha256)
    assert f"A recorded run: {recording.recipe.settings.total_steps} steps, shown in 6 s" in player.stage(
        recording, own
    )
    other = replace(model, sha256="0" * 64)
    assert f"A recorded run of {recording.recipe.model}: " in player.stage(recording, other)
    frames = json.loads(html.unescape(re.search('data-frames="([^"]*)"', player.stage(recording, own))[1]))
    assert len(frames) == len(recording.frames)
    assert frames[-1]["words"].endswith(f"{recording.marks[-1].psnr:.1f} dB")
    line = player.line(recording)
    assert line.count("<button") == len(recording.marks) + 2  # the input and the truth
    assert [int(at) for at in re.findall('data-frame="([0-9]+)"', line)] == [mark.frame for mark in recording.marks]


def test_words():
    assert text.headline(1, 4) == "Round 2 of 4 · layer 8×8"
    assert text.film_label("round 1, search 2") == "8×8 (2)"
    assert text.film_label("start") == "start"
    assert text.film_label("round 0") == "code"
    assert text.remaining(200) == "3 min left"
    assert "4×4 features that enter this layer, by at most 17.5 % in total." in text.sentence(1, 0.175)
    assert "without a limit" in text.sentence(1, None)
    assert "1 other" not in text.waiting(1)
    assert text.PERCEPTUAL[None][:20] in views.idle(None)
    assert text.PERCEPTUAL.keys() == text.PERCEPTUAL_USED.keys()


def test_the_page_keeps_to_itself(model):
    options = page.launch_options(Visitors())
    assert options["show_error"] is False
    assert options["enable_monitoring"] is False
    assert options["max_file_size"] == 20 * 1024**2
    css = (page.theme()._get_theme_css() + options["head"]).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in css
    assert "@import" not in css
    built = page.build([model])
    assert built.analytics_enabled is False
    unload = [function for function in built.fns.values() if any(event == "unload" for _, event in function.targets)]
    public = [each.api_name for each in built.fns.values() if each.api_visibility != "private" and each not in unload]
    assert sorted(public) == ["models", "morph", "solve", "tasks"]
