"""The first screen in a real Chromium: the recorded run, and the line under the stage."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_studio import (  # noqa: F401
    COMPARE,
    browser,
    changed,
    choose,
    finish,
    page,
    run,
    server,
    short,
    source,
    tab,
)

TILE = "#strips .moment"
PICTURE = "#stage .stage > img"


def tile(page, label):  # noqa: F811
    return page.locator(TILE, has=page.locator(f".moment-label:text-is('{label}')"))


def clipped(page):  # noqa: F811
    """Labels of tiles and captions that are wider than their place."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.moment-label, .moment-score, .stage figcaption, .player-words')]
          .filter((e) => e.offsetParent)
          .filter((e) => {
            const {left, right} = e.getBoundingClientRect();
            return left < 0 || right > innerWidth || (e.clientWidth && e.scrollWidth > e.clientWidth + 1);
          })
          .map((e) => e.textContent)"""
    )


def test_a_recorded_run_plays_once_and_can_be_scrubbed_without_the_server(tab):  # noqa: F811
    page = tab(reduced_motion="no-preference")  # noqa: F811
    expect(page.locator("#stage figcaption")).to_contain_text("A recorded run: ")
    page.wait_for_function("Number(document.querySelector('.player').dataset.at) > 0")
    last = int(page.get_attribute(".player-at", "max"))
    page.wait_for_function(f"document.querySelector('.player').dataset.at === '{last}'")
    page.wait_for_timeout(500)
    assert page.locator(".player[data-playing]").count() == 0  # it plays once
    page.context.set_offline(True)
    slider = page.locator(".player-at")
    slider.focus()
    end = source(page)
    page.keyboard.press("Home")
    assert page.get_attribute(".player", "data-at") == "0"
    assert "Start" in slider.get_attribute("aria-valuetext")
    assert source(page) != end
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(".player", "data-at") == "1"
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert abs(int(page.get_attribute(".player", "data-at")) - last / 2) < 4
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Pause").press("Enter")
    tile(page, "8×8").press("Enter")
    assert page.get_attribute(".player", "data-at") == tile(page, "8×8").get_attribute("data-frame")
    assert page.locator(f"{TILE}[data-lit] .moment-label").all_inner_texts() == ["8×8"]


def test_less_motion_shows_the_end(page):  # noqa: F811
    assert page.get_attribute(".player", "data-at") == page.get_attribute(".player-at", "max")
    assert page.locator(".player[data-playing]").count() == 0


def test_ones_own_picture_task_and_run_replace_the_recorded_one(page):  # noqa: F811
    tile(page, "truth").click()
    assert page.locator("#stage [data-pinned], #stage[data-pinned]").count() == 1
    page.locator("#examples button").nth(2).click()
    expect(page.locator(".player")).to_have_count(0)
    assert page.locator("#stage [data-pinned], #stage[data-pinned]").count() == 0
    expect(page.locator("#stage figcaption")).to_contain_text("Input: this is all the solver sees")
    labels = page.locator(f"{TILE} .moment-label").all_inner_texts()
    assert (labels[0], labels[1], labels[-1]) == ("input", "start", "truth")
    assert page.locator(f"{TILE}:disabled").count() == len(labels) - 2
    page.reload()
    page.wait_for_selector(".player")
    choose(page, "task", "Denoise")
    expect(page.locator(".player")).to_have_count(0)


def test_tiles_during_and_after_a_run_by_keyboard(page):  # noqa: F811
    short(page, steps=400)
    page.locator("#run").press("Enter")
    page.wait_for_selector(f"{TILE}[data-now] img")
    expect(page.locator("#stop")).to_be_focused()
    start = tile(page, "start")
    start.focus()
    page.keyboard.press("Enter")
    pinned = "document.querySelector('[data-pinned]')?.style.getPropertyValue('--pinned') ?? ''"
    assert start.locator("img").get_attribute("src") in page.evaluate(pinned)
    live = source(page)
    changed(page, live)  # the run goes on below it
    assert start.locator("img").get_attribute("src") in page.evaluate(pinned)
    expect(start).to_be_focused()
    assert start.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate(pinned) == ""
    page.locator("#stop").press("Enter")
    page.wait_for_selector(COMPARE)
    expect(page.locator("#run")).to_be_focused()
    expect(page.locator("#stage select")).to_have_count(2)

    assert page.locator(f"{TILE}[data-side=left] .moment-label").inner_text() == "input"
    assert page.locator(f"{TILE}[data-side=right] .moment-label").inner_text() == "stopped"
    start.press("Enter")
    assert page.get_attribute(PICTURE, "src") == start.locator("img").get_attribute("src")
    assert start.get_attribute("data-side") == "right"
    left = page.get_by_label("Picture on the left of the divider")
    left.select_option(label="truth")
    assert page.get_attribute("#stage .compare-before img", "src") == tile(page, "truth").locator("img").get_attribute(
        "src"
    )
    assert tile(page, "truth").get_attribute("data-side") == "left"
    assert "truth or of start" in page.get_attribute(".compare-cut", "aria-label")


@pytest.mark.parametrize("size", [(1280, 800), (360, 740)])
def test_nothing_is_clipped(tab, size):  # noqa: F811
    page = tab(viewport={"width": size[0], "height": size[1]})  # noqa: F811
    assert clipped(page) == []
    short(page)
    run(page)
    finish(page)
    assert clipped(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0]
    # As many tiles as the longest run of a generator of 128 px has.
    page.evaluate(
        """() => {
          const line = document.querySelector('.timeline');
          while (line.children.length < 10) line.append(line.children[1].cloneNode(true));
          for (const [i, label] of [[8, '128×128'], [9, 'residual']]) {
            line.children[i].querySelector('.moment-label').textContent = label;
            line.children[i].querySelector('.moment-score').textContent = '24.1 dB';
          }
        }"""
    )
    assert clipped(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0]
    if size[0] == 1280:
        rows = {round(cell.bounding_box()["y"]) for cell in page.locator(TILE).all()}
        assert len(rows) == 1
        assert max(rows) + page.locator(TILE).first.bounding_box()["height"] <= 800
