"""The page's drawings and texts, and that it loads nothing from other hosts."""

import math

import numpy as np

from ilo.ui import page, text
from ilo.ui.parts import plots, views
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


def test_balls_that_are_off_have_no_bar():
    bars = plots.ball_bars({"layer 8×8": {"features": 0.5, "latents": math.nan, "noise": 1.2}})
    assert "50 %" in bars
    assert "100 %" in bars
    assert "–" in bars


def test_words():
    assert text.headline(1, 4) == "Round 2 of 4 · layer 8×8"
    assert text.film_label("round 1, search 2") == "8×8 (2)"
    assert text.film_label("start") == "start"
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
