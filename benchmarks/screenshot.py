"""Take the pictures of the page for README.md and docs/: python -m benchmarks.screenshot

With --all, take screenshots in every size and colour scheme, to check changes of the layout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright
from skimage.data import astronaut

from tests.browser.serving import launch, open_page, served

DOCS = Path(__file__).parents[1] / "docs"
SIZES = ((1280, 800), (1920, 1080), (360, 740))


GROUP = (900, 600)  # width and height of a photograph with two faces


def group(path: Path) -> Path:
    """Write a photograph with the astronaut twice, once small. Returns its path."""
    whole, large = Image.new("RGB", GROUP, (150, 170, 190)), Image.fromarray(astronaut())
    whole.paste(large, (0, 88))
    whole.paste(large.crop((110, 20, 330, 240)).resize((150, 150), Image.Resampling.LANCZOS), (640, 180))
    whole.save(path, quality=90)
    return path


def take_photograph(browser: Browser, url: str, out: Path, size: tuple[int, int], scheme: str, photo: Path) -> None:
    """Take screenshots with a photograph: detected faces, eye positions, and the result pasted back."""
    page = open_page(browser, url, [], viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    narrow = size[0] < 1100

    def shoot(state: str) -> None:
        page.wait_for_timeout(500)  # for colour transitions
        page.screenshot(path=out / f"{scheme}-{size[0]}x{size[1]}-{state}.png", full_page=narrow)

    with page.expect_file_chooser() as chooser:
        page.click("#upload")
    chooser.value.set_files(photo)
    page.wait_for_selector("#photograph .photo-note:has-text('found')")
    shoot("faces")
    page.click("#photograph [data-photo=eyes]")
    shoot("eyes")
    page.click("#photograph [data-photo=eyes]")
    page.click("#run")
    page.click(".view-buttons [data-view='1']", timeout=120_000)
    shoot("photograph")
    page.context.close()


def take(browser: Browser, url: str, out: Path, size: tuple[int, int], scheme: str, moment: str = "done") -> None:
    """Take one screenshot: during a run ("running"), afterwards ("done"), or of the Morph tab ("morph")."""
    page = open_page(browser, url, [], viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    tab = "morph-" if moment == "morph" else ""
    if tab:
        page.click("#tabs button[role=tab]:has-text('Morph')")
    page.click(f"#{tab}run")
    if moment == "running":
        page.wait_for_selector("#stage figcaption:has-text('Round 3')", timeout=60_000)
    else:
        page.wait_for_selector(f"#{tab}stage .compare", timeout=120_000)
        expect(page.locator(f"#{tab}download")).to_be_enabled()
        page.wait_for_timeout(500)  # for colour transitions
    page.screenshot(path=out, full_page=size[0] < 1100)
    page.context.close()
    print(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=DOCS)
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="write every size and colour scheme to this folder instead"
    )
    options = parser.parse_args()
    with sync_playwright() as playwright, served() as server:
        browser = launch(playwright)
        if options.all is None:
            options.out.mkdir(parents=True, exist_ok=True)
            take(browser, server.url, options.out / "studio.png", SIZES[0], "light")
            take(browser, server.url, options.out / "morph.png", SIZES[0], "light", "morph")
        else:
            options.all.mkdir(parents=True, exist_ok=True)
            for size in SIZES:
                for scheme in ("light", "dark"):
                    take_photograph(browser, server.url, options.all, size, scheme, group(options.all / "group.jpg"))
                    for moment in ("running", "done", "morph"):
                        name = f"{scheme}-{size[0]}x{size[1]}-{moment}.png"
                        take(browser, server.url, options.all / name, size, scheme, moment)
        browser.close()


if __name__ == "__main__":
    main()
