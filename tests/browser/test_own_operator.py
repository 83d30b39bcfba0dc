"""A user-defined operator in a real Chromium: one file adds a task to the page."""

from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.browser.serving import launch, open_page, served

FILE = Path(__file__).parents[1] / "operators" / "channel_mix.py"


def test_its_controls_appear_and_it_is_solved():
    outside = []
    with served("--operator-module", str(FILE)) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        page = open_page(browser, server.url, outside)
        mixed = page.get_by_label("Mixed, %").first
        expect(page.locator("#task input[value=channel-mix]")).to_have_count(1)
        expect(mixed).not_to_be_visible()
        page.locator("#task input[value=channel-mix]").check(force=True)
        expect(mixed).to_be_visible()
        expect(page.get_by_text("Every colour is mixed with the next one.")).to_be_visible()
        expect(page.locator(".painter-presets").first).not_to_be_visible()
        page.locator("#run").click()
        page.wait_for_selector("#stage .compare", timeout=120_000)
        browser.close()
    assert outside == []
