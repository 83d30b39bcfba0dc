"""The Studio tab in a real Chromium."""

import io
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from ilo.photos.pictures import read_mask
from ilo.records.bundle import FILES, read_bundle
from ilo.records.strip import ROUND_NAME
from tests.browser.serving import launch, open_page, served

RUNNING = "#stage figcaption:has-text('Round')"
COMPARE = "#stage .compare"


@pytest.fixture(scope="module")
def server():
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def tab(server, browser):
    """Opens tabs; at the end, checks that none contacted another host or had a script error."""
    outside, errors, pages = [], [], []

    def opened(**context):
        page = open_page(browser, server.url, outside, **context)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(30_000)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert outside == []
    assert errors == []


@pytest.fixture
def page(tab):
    return tab()


def source(page):
    return page.get_attribute("#stage img", "src")


def changed(page, before):
    page.wait_for_function("before => document.querySelector('#stage img')?.getAttribute('src') !== before", arg=before)


def choose(page, group, label):
    page.click(f"#{group} label:has-text('{label}')")


def short(page, steps=20):
    """Set one round of a few steps."""
    if page.locator("#rounds").count() == 0 or not page.locator("#rounds").is_visible():
        page.click("#advanced > button")
    page.locator("#advanced input[aria-label*='Rounds']").first.fill("1")
    field = page.get_by_label("Steps").first
    field.fill(str(steps))
    field.blur()


def run(page):
    page.click("#run")
    page.wait_for_selector(RUNNING)


def finish(page):
    page.wait_for_selector(COMPARE, timeout=60_000)
    expect(page.locator("#run")).to_be_enabled()


def upload(page, button, path):
    with page.expect_file_chooser() as chooser:
        page.click(button)
    chooser.value.set_files(path)


def stroke(page, start, end):
    frame = page.locator(".painter-view").bounding_box()
    points = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=8)
    page.mouse.up()


def download(page, folder):
    expect(page.locator("#download")).to_be_enabled()
    with page.expect_download() as event:
        page.click("#download")
    path = folder / event.value.suggested_filename
    event.value.save_as(path)
    return path


def test_everything_a_beginner_needs_is_on_one_screen(page):
    for selector in ("#examples", ".painter-view", "#task", "#method", "#preset", "#run", "#stage", "#download"):
        frame = page.locator(selector).bounding_box()
        assert frame is not None, selector
        assert frame["y"] >= 0, selector
        assert frame["y"] + frame["height"] <= 800, selector
    assert page.evaluate("document.scrollingElement.scrollHeight") <= 800
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 1280
    assert "not an identification" in page.inner_text("#disclaimer")
    assert "Perceptual loss" in page.inner_text("#panel")


def test_a_phone_sees_run_and_nothing_is_cut_off(tab):
    page = tab(viewport={"width": 360, "height": 740})
    frame = page.locator("#run").bounding_box()
    assert frame["y"] + frame["height"] <= 740
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


def test_paint_run_watch_stop_download(page, tmp_path):
    choose(page, "task", "Inpaint")
    before = source(page)
    page.click(".painter-tools [data-do=clear]")
    stroke(page, (0.3, 0.8), (0.7, 0.8))
    changed(page, before)
    choose(page, "preset", "Paper")
    run(page)
    seen = set()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        seen.add(source(page))
        time.sleep(0.02)
    assert len(seen) >= 5
    assert "Round 1 of 4" in page.inner_text("#panel")
    assert page.locator("#panel svg polyline").count() == 1
    page.click("#stop")
    page.wait_for_selector(COMPARE, timeout=3_000)
    assert "Stopped" in page.inner_text("#panel")
    assert "true error in the hole" in page.inner_text("#panel")

    path = download(page, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert {name for name in archive.namelist() if not ROUND_NAME.fullmatch(name)} == set(FILES)
        result = Image.open(io.BytesIO(archive.read("result.png")))
        hidden = read_mask(archive.read("mask.png"))[0, 0] == 0
    assert result.size == (64, 64)
    assert hidden[51, 32]  # where the stroke went
    assert not hidden[:40].any()  # the preset mask was cleared
    recipe, problem, _ = read_bundle(path)
    assert recipe.stopped_at is not None
    assert problem.truth is not None


def test_a_whole_run_then_another(page):
    run(page)
    expect(page.locator("#run")).to_be_disabled(timeout=500)
    finish(page)
    assert "150 steps" in page.inner_text("#panel")
    labels = page.locator("#strips .moment-label").all_inner_texts()
    assert labels == ["input", "start", "code", "8×8", "16×16", "32×32", "truth", "residual"]
    cut = page.locator(".compare-cut")
    cut.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.querySelector('.compare')).getPropertyValue('--cut')") == "51%"
    short(page)
    page.dblclick("#run")  # the second click must not start a second run
    page.wait_for_function("document.querySelector('#panel').innerText.includes('20 steps')")
    time.sleep(0.5)
    assert page.locator("#run").is_enabled()
    assert page.locator("#notice .error").count() == 0


def test_two_tabs_take_turns(tab):
    first, second, third = tab(), tab(), tab()
    for page in (first, second, third):
        choose(page, "preset", "Paper")
    short(second)
    run(first)
    second.click("#run")
    second.wait_for_selector("#panel:has-text('ahead of yours')")
    third.click("#run")
    third.wait_for_selector("#panel:has-text('2 other runs')")
    third.click("#stop")  # before its first step
    third.wait_for_selector("#notice:has-text('before the first step')")
    first.context.close()  # a tab that closes makes room
    finish(second)


def test_already_damaged_shows_no_truth(page, tmp_path):
    small = tmp_path / "small.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(small)
    choose(page, "task", "Enlarge")
    choose(page, "truth", "Already damaged")
    upload(page, "#upload", small)
    short(page)
    page.wait_for_selector("#stage figcaption:has-text('Input: this is all the solver sees')")
    run(page)
    finish(page)
    assert "true error" not in page.inner_text("#panel .numbers")
    assert "truth" not in page.locator("#strips .moment-label").all_inner_texts()
    choose(page, "task", "Random measurements")
    expect(page.locator("#notice .error")).to_contain_text("already damaged")


def test_bad_input_gets_a_sentence_and_the_page_goes_on(page, tmp_path):
    notice = page.locator("#notice .error")
    (tmp_path / "words.png").write_text("these are words")
    upload(page, "#upload", tmp_path / "words.png")
    expect(notice).to_contain_text("not a picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    upload(page, "#upload", tmp_path / "dot.png")
    expect(notice).to_contain_text("1×1 px")

    choose(page, "task", "Inpaint")
    page.click(".painter-tools [data-do=clear]")
    expect(notice).to_contain_text("hides no pixel")
    page.click("#run")
    expect(notice).to_contain_text("hides no pixel")
    Image.new("L", (100, 50), 255).save(tmp_path / "all.png")
    upload(page, "#upload-mask", tmp_path / "all.png")
    expect(notice).to_contain_text("hides every pixel")

    choose(page, "task", "Denoise")
    page.get_by_label("σ assumed by the solver").fill("nan")
    page.get_by_label("σ assumed by the solver").blur()
    expect(notice).to_contain_text("σ assumed by the solver")
    page.get_by_label("σ assumed by the solver").fill("")
    page.get_by_label("σ assumed by the solver").blur()
    expect(notice).to_have_count(0)
    short(page, steps=0)
    page.click("#run")
    expect(notice).to_contain_text("Latent code: Adam steps must be")
    short(page)
    run(page)
    finish(page)


def test_an_upload_is_turned_upright_and_can_be_moved(page, tmp_path):
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[:, :120, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: the red half comes to the top
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    before = source(page)
    choose(page, "task", "Reproduce")
    changed(page, before)
    before = source(page)
    upload(page, "#upload", tmp_path / "turned.jpg")
    changed(page, before)
    photo = page.locator(".painter-photo")
    expect(page.locator(".painter-view")).to_be_visible()
    expect(page.locator(".painter-presets")).to_be_hidden()
    assert photo.evaluate("photo => [photo.naturalWidth, photo.naturalHeight]") == [120, 240]
    before = source(page)
    page.click(".painter-tools [data-mode=move]")
    page.locator("[data-crop=zoom]").focus()
    page.keyboard.press("End")
    changed(page, before)
    before = source(page)
    stroke(page, (0.5, 0.4), (0.5, 0.05))
    changed(page, before)


def test_a_link_fills_in_the_task_and_its_settings(page, server):
    page.goto(f"{server.url}?task=denoise&operator=%7B%22sigma%22%3A40.0%7D&method=csgm&preset=Paper&seed=4")
    page.wait_for_selector("#panel:has-text('The link has set')")
    assert page.locator("#task input:checked").get_attribute("value") == "denoise"
    assert page.locator("#method input:checked").get_attribute("value") == "csgm"
    assert page.locator("#preset input:checked").get_attribute("value") == "Paper"
    assert page.get_by_label("number input for Noise").input_value() == "40"


def test_a_task_and_its_settings_choose_the_radii(page):
    page.click("#advanced button")
    rounds = page.locator("#rounds")
    rounds.get_by_role("tab", name="8×8").click()
    inside = page.get_by_label("number input for Inside holes")
    choose(page, "task", "Inpaint")
    expect(inside).to_have_value("10")
    choose(page, "task", "Denoise")
    expect(inside).to_have_value("100")
    expect(rounds).to_contain_text("noise 8 %")
    page.get_by_label("number input for Noise").fill("100")
    page.get_by_label("number input for Noise").blur()
    expect(rounds).to_contain_text("noise 0.8 %")


def test_a_tab_in_the_background_keeps_its_run(page, tab):
    short(page, steps=5000)
    page.click("#run")
    page.wait_for_selector(RUNNING)
    other = page.context.new_page()  # in front of it
    other.goto("about:blank")
    other.bring_to_front()
    time.sleep(13)  # longer than a run continues without a listener
    page.bring_to_front()
    other.close()
    before = source(page)
    page.wait_for_function("(before) => document.querySelector('#stage img').src !== before", arg=before)
    page.click("#stop")
    page.wait_for_selector(COMPARE)
    assert "of 5,000 steps" in page.inner_text("#panel").replace("5000", "5,000")


def test_more_steps_than_the_page_allows(page):
    page.click("#advanced button")
    field = page.locator("#advanced").get_by_label("Steps").first
    field.fill("100000")
    field.blur()
    page.wait_for_timeout(1000)  # until the page has taken the number over
    page.click("#run")
    expect(page.locator("#notice")).to_contain_text("this page allows 5,000", timeout=30_000)
    expect(page.locator("#room")).to_contain_text("5,000 steps")
