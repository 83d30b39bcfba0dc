"""The Models tab in a real Chromium: using a model file in a published format."""

from playwright.sync_api import expect

from tests import published
from tests.browser.serving import open_page, served
from tests.browser.test_studio import browser  # noqa: F401 (fixture)

TABS = "#tabs button[role=tab]"


def test_the_owner_chooses_a_model_from_a_file(browser, tmp_path):  # noqa: F811
    path = tmp_path / "network.pkl"
    published.official(path, published.generator(32, channels=16))
    outside = []
    kept = tmp_path / "temporary"
    environment = {"ILO_OWNER_KEY": "k3y", "ILO_CACHE": str(tmp_path / "cache"), "ILO_OFFLINE": "1"}
    with served(GRADIO_TEMP_DIR=str(kept), **environment) as server:
        visitor = open_page(browser, server.url, outside)
        page = open_page(browser, server.url, outside, "?owner=k3y")
        page.click(f"{TABS}:has-text('Models')")
        page.wait_for_selector("table.models")
        assert "Models" not in visitor.inner_text("#tabs .tab-wrapper")

        page.click("#models-fetch")
        expect(page.locator("#models-notice")).to_contain_text("ILO_OFFLINE forbids downloads. By hand: save https")

        field = page.locator("#models-wanted :is(input, textarea)")
        field.fill("nothing.pkl")
        page.click("#models-use")
        expect(page.locator("#models-notice")).to_contain_text("there is no such weights file")

        field.fill(str(path))
        page.click("#models-use")
        expect(page.locator("#models-notice")).to_contain_text("The page restarts")
        expect(page.locator("#header .facts")).to_contain_text("network (32×32 px)", timeout=60_000)
        page.click(f"{TABS}:has-text('Models')")
        expect(page.locator("#models-table")).to_contain_text("This page uses network")
        page.click(f"{TABS}:has-text('Studio')")
        page.wait_for_selector("#stage img")
        page.click("#run")
        page.wait_for_selector("#stage .compare", timeout=60_000)
        assert len(list(kept.glob("ilo-studio-*"))) == 1  # the folder of the page before is gone
    assert list(kept.glob("ilo-studio-*")) == []  # and so is this page's, after SIGTERM
    assert outside == []


def test_a_visitor_chooses_among_the_models(browser, tmp_path):  # noqa: F811
    path = tmp_path / "small faces.pkl"
    published.official(path, published.generator(32, channels=16))
    outside = []
    arguments = ("--model", "faces64", "--model", str(path))
    with served(*arguments, ILO_CACHE=str(tmp_path / "cache"), ILO_OFFLINE="1") as server:
        page = open_page(browser, server.url, outside)
        assert not page.is_visible(".nav-holder")  # Gradio's own list of pages
        page.select_option("#model", label="small faces (32×32 px)")
        page.wait_for_url("**/model-small-faces")
        page.wait_for_selector("#stage img")
        page.click("#run")
        page.wait_for_selector("#stage .compare", timeout=60_000)
        link = page.get_attribute("#panel a", "href")
        assert "model=small+faces" in link

        page.goto(f"{server.url}{link}")
        page.wait_for_url("**/model-small-faces?*")
        expect(page.locator("#panel")).to_contain_text("The link has set the task", timeout=60_000)
        page.select_option("#model", label="faces64 (64×64 px)")
        page.wait_for_url(server.url)
        expect(page.locator("#model")).to_have_value("faces64", timeout=60_000)
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert outside == []
