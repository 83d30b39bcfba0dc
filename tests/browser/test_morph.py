"""The Morph tab in a real Chromium."""

import zipfile

from playwright.sync_api import expect

from tests.browser.test_studio import browser, changed, choose, server, tab  # noqa: F401 (fixtures)


def opened(page):
    page.click("#tabs button[role=tab]:has-text('Morph')")
    page.wait_for_selector("#morph-stage img")
    return page


def source(page):
    return page.get_attribute("#morph-stage img", "src")


def test_everything_is_on_one_screen(tab):  # noqa: F811
    page = opened(tab())
    for name in ("start", "class", "morph-method", "morph-run", "morph-stage", "morph-download"):
        frame = page.locator(f"#{name}").bounding_box()
        assert frame is not None, name
        assert frame["y"] + frame["height"] <= 800, name
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 1280


def test_search_a_class_run_stop_download(tab, tmp_path):  # noqa: F811
    page = opened(tab())
    before = source(page)
    page.click("#another")
    page.wait_for_function(
        "before => document.querySelector('#morph-stage img').getAttribute('src') !== before", arg=before
    )
    field = page.locator("#class input")
    field.fill("bullf")
    page.click("#class li:has-text('bullfrog'), ul[role=listbox] li:has-text('bullfrog')")
    choose(page, "morph-preset", "Paper")
    page.click("#morph-run")
    page.wait_for_selector("#morph-panel .seen.wanted:has-text('bullfrog')")
    page.wait_for_selector("#morph-stage figcaption:has-text('Round')")
    page.click("#morph-stop")
    page.wait_for_selector("#morph-stage .compare", timeout=5_000)
    assert "bullfrog" in page.inner_text("#morph-panel .sentence")
    expect(page.locator("#morph-download")).to_be_enabled()
    with page.expect_download() as event:
        page.click("#morph-download")
    path = tmp_path / "run.zip"
    event.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert "result.png" in archive.namelist()
        assert "bullfrog" in archive.read("recipe.json").decode()


def test_the_classifier_can_be_changed(tab, tmp_path):  # noqa: F811
    page = opened(tab())
    assert page.locator(".guide-robust64").is_visible()
    choose(page, "guide", "Standard")
    expect(page.locator(".guide-standard64")).to_be_visible()
    expect(page.locator(".guide-robust64")).to_be_hidden()
    choose(page, "morph-method", "Pixels")
    page.click("#morph-run")
    page.wait_for_selector("#morph-stage .compare", timeout=60_000)
    with page.expect_download() as event:
        page.click("#morph-download")
    path = tmp_path / "run.zip"
    event.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert "standard64" in archive.read("recipe.json").decode()


def test_five_radii(tab):  # noqa: F811
    page = opened(tab())
    page.click("#morph-sweep")
    page.wait_for_selector("#morph-panel:has-text('Five runs')", timeout=120_000)
    assert page.locator("#morph-strips figcaption").all_inner_texts() == ["×0", "×½", "×1", "×2", "×4"]
