"""Measure the page's responsiveness in Chromium on this machine: python -m benchmarks.page

The browser shares the machine's cores with the server, so remote visitors see slightly shorter delays. The numbers are
compared with the page's design goals, printed, and written to benchmarks/results/page.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from ilo.weights import registry
from tests.browser.serving import launch, open_page, served

RESULTS = Path(__file__).parent / "results" / "page.json"
# Observes the picture inside the page, so that the test driver's own delays are not measured.
WATCH = """(tab) => {
  const part = (name) => document.querySelector(`#${tab}${name}`);
  const seen = window.seen = {start: 0, first: 0, last: 0, previews: 0, end: 0, stop: 0, pressed: 0};
  let before = part('stage').querySelector('img').src;
  new MutationObserver(() => {
    const image = part('stage').querySelector('img'), now = performance.now();
    if (part('stage').querySelector('.compare')) {
      if (seen.first) seen.end = seen.end || now;
      return;
    }
    if (!image || image.src === before) return;
    before = image.src;
    if (seen.start) { seen.first = seen.first || now; seen.last = now; seen.previews++; }
  }).observe(part('stage'), {subtree: true, childList: true, attributes: true});
  part('run').addEventListener('click', () => { seen.start = performance.now(); }, true);
  part('stop').addEventListener('click', () => { seen.pressed = performance.now(); }, true);
}"""


def run_once(page: Page, tab: str, stop_after: float | None = None) -> tuple[float, float, float]:
    """Press Run in a tab ("" or "morph-"), and Stop `stop_after` seconds after the first preview if given.

    Returns:
        Seconds until the first preview, previews per second, and seconds until the end, counted from Stop if pressed.
    """
    page.evaluate(WATCH, tab)
    page.click(f"#{tab}run")
    if stop_after is not None:
        page.wait_for_function("window.seen.first > 0", polling=20)
        time.sleep(stop_after)
        page.click(f"#{tab}stop")
    page.wait_for_function("window.seen.end > 0", timeout=120_000, polling=20)
    seen = page.evaluate("window.seen")
    expect(page.locator(f"#{tab}download")).to_be_enabled()
    page.wait_for_selector(f"#{tab}run:not([disabled])")
    time.sleep(0.5)
    previews = 1000 * (seen["previews"] - 1) / max(1.0, seen["last"] - seen["first"])
    begin = seen["start"] if stop_after is None else seen["pressed"]
    return (seen["first"] - seen["start"]) / 1000, previews, (seen["end"] - begin) / 1000


def run_all(page: Page) -> dict[str, float]:
    """Measure all figures of one visit."""
    page.click("#task label:has-text('Inpaint')")
    page.wait_for_timeout(1000)  # until the page has taken the task's settings over
    first, previews, seconds = run_once(page, "")
    *_, stopped = run_once(page, "", stop_after=1.0)
    page.click("#tabs button[role=tab]:has-text('Morph')")
    page.wait_for_selector("#morph-stage img")
    _, morph_previews, morph_seconds = run_once(page, "morph-")
    return {
        "first preview after Run, s": first,
        "previews a second": previews,
        "Quick inpainting, s": seconds,
        "Stop answered after, s": stopped,
        "previews a second, morph": morph_previews,
        "Quick morph, s": morph_seconds,
    }


def measure(repeats: int, model: str) -> dict[str, list[float]]:
    """Measure all figures repeatedly, with a page for one model: name → measurements."""
    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright, served("--model", model) as server:
        found["page served after, s"] = [server.seconds]
        browser = launch(playwright)
        for _ in range(repeats):
            page = open_page(browser, server.url, [])
            for name, value in run_all(page).items():
                found.setdefault(name, []).append(value)
            page.context.close()
        now, most = server.memory()
        found["resident memory at most, MB"] = [most]
        found["resident memory at the end, MB"] = [now]
        browser.close()
    return found


GOALS = {
    "page served after, s": ("≤", 15.0),
    "first preview after Run, s": ("≤", 1.0),
    "previews a second": ("≥", 6.0),
    "Quick inpainting, s": ("≤", 5.0),
    "Stop answered after, s": ("≤", 0.5),
    "previews a second, morph": ("≥", 4.0),
    "Quick morph, s": ("≤", 10.0),
    "resident memory at most, MB": ("≤", 1500.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default=registry.DEFAULT, help="name or file of a generator")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = measure(options.repeats, options.model)
    table = []
    for name, values in found.items():
        sign, goal = GOALS.get(name, ("", None))
        median = statistics.median(values)
        worst = min(values) if sign == "≥" else max(values)
        met = None if goal is None else (median >= goal if sign == "≥" else median <= goal)
        table.append(
            {"figure": name, "median": median, "worst": worst, "goal": goal and f"{sign} {goal:g}", "met": met}
        )
        print(f"{name:32} median {median:8.2f}   worst {worst:8.2f}   goal {sign} {goal if goal is not None else '–'}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "model": Path(options.model).stem,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "repeats": options.repeats,
    }
    options.out.write_text(
        json.dumps({"about": about, "table": table, "values": found}, indent=2, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
