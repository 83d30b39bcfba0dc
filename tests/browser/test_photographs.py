"""Uploaded photographs in a real Chromium: choosing faces, placing eyes by hand, and pasting the result back."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from ilo.weights import registry
from tests.browser.serving import served
from tests.browser.test_studio import (  # noqa: F401 (fixtures)
    browser,
    changed,
    choose,
    download,
    page,
    short,
    source,
    tab,
    upload,
)

YUNET = Path(__file__).parents[3] / "shared" / "models" / registry.YUNET_FILE
NOTE, TILES = "#photograph .photo-note", "#photograph .photo-tiles button"


@pytest.fixture(scope="module")
def server():
    path = os.environ.get("ILO_YUNET") or str(YUNET)
    if not Path(path).is_file():
        pytest.skip("YuNet is not here")
    with served(ILO_YUNET=path) as running:
        yield running


def fits(page):  # noqa: F811
    """Whether the first column needs no scrolling."""
    return page.evaluate(
        "(() => { const c = document.querySelector('#left'); return c.scrollHeight <= c.clientHeight })()"
    )


def test_pick_a_face_run_stop_and_see_it_back_in_the_photograph(page, group, tmp_path):  # noqa: F811
    expect(page.locator("#photograph")).to_be_hidden()
    upload(page, "#upload", group)
    expect(page.locator(NOTE)).to_contain_text("2 faces were found")
    assert page.locator(TILES).count() == 3
    expect(page.locator("#examples")).to_be_hidden()
    expect(page.locator("[data-looking]")).to_have_count(0)
    assert fits(page)
    before = source(page)
    page.click(f"{TILES} >> nth=1")
    changed(page, before)
    expect(page.locator(NOTE)).to_contain_text("Face 2 of 2")
    expect(page.locator(f"{TILES}[aria-pressed=true]")).to_have_attribute("data-choice", "face:1")
    choose(page, "preset", "Paper")
    page.click("#run")
    page.wait_for_selector("#stage figcaption:has-text('Round')")
    page.wait_for_timeout(500)
    page.click("#stop")
    page.wait_for_selector("#stage .compare")
    expect(page.locator(".view-buttons")).to_be_visible()
    photo = page.locator("#stage .view >> nth=1")
    expect(photo).to_be_hidden()
    page.click(".view-buttons button:has-text('Whole photo')")
    expect(photo).to_be_visible()
    assert photo.locator("img").first.evaluate("i => i.naturalWidth / i.naturalHeight") == pytest.approx(1.5, abs=0.01)
    with zipfile.ZipFile(download(page, tmp_path)) as archive, archive.open("photo.png") as file:
        assert Image.open(file).size == (900, 600)
    before = source(page)
    page.click("[data-photo=back]")
    changed(page, before)
    expect(page.locator("#examples")).to_be_visible()
    expect(page.locator("#photograph")).to_be_hidden()


def test_eyes_are_typed_and_clicked_where_no_face_is_found(page, tmp_path):  # noqa: F811
    Image.fromarray(np.tile(np.linspace(0, 255, 300).astype(np.uint8)[:, None, None], (1, 400, 3))).save(
        tmp_path / "none.png"
    )
    upload(page, "#upload", tmp_path / "none.png")
    expect(page.locator(NOTE)).to_contain_text("No face was found")
    expect(page.locator(".photo-editor").first).to_be_hidden()
    page.click("#photograph [data-photo=eyes]")
    field = page.get_by_label("Right eye, pixels across")
    field.fill("500")
    field.blur()
    problem = page.locator("#photograph .photo-problem")
    expect(problem).to_contain_text("right eye is at 500")
    expect(problem).to_contain_text("allowed is 0 to 400 across")
    before = source(page)
    field.fill("260")
    field.blur()
    expect(page.locator(NOTE)).to_contain_text("that you marked")
    changed(page, before)
    expect(problem).to_be_hidden()
    assert field.input_value() == "260"
    view = page.locator("#photograph .photo-view")
    box = view.bounding_box()
    before = source(page)
    view.click(position={"x": 0.25 * box["width"], "y": 0.8 * box["height"]})
    expect(page.locator(".photo-hint").first).to_contain_text("Now click the eye on the right")
    view.click(position={"x": 0.5 * box["width"], "y": 0.8 * box["height"]})
    changed(page, before)
    values = [float(i.input_value()) for i in page.locator("#photograph .photo-numbers input").all()]
    np.testing.assert_allclose(values, [100, 240, 200, 240], atol=2)


def test_a_photograph_in_the_morph_tab(tab, group):  # noqa: F811
    page = tab(viewport={"width": 360, "height": 740})  # noqa: F811
    page.click("#tabs button[role=tab]:has-text('Morph')")
    upload(page, "#morph-upload", group)
    expect(page.locator("#morph-photograph .photo-note")).to_contain_text("2 faces were found")
    expect(page.locator("#morph-photograph [data-photo=back]")).to_be_hidden()
    page.click("#morph-photograph [data-photo=eyes]")
    expect(page.locator("#morph-photograph .photo-view")).to_be_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
