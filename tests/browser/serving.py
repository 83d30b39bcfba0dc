"""Serve the page with app.py in a separate process, and open it in Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SERVED_WITHIN = 60.0  # seconds


@dataclass
class Served:
    """A running app.py."""

    url: str
    process: subprocess.Popen[bytes]
    seconds: float  # time until it answered

    def memory(self) -> tuple[float, float]:
        """Resident memory in MB: now, and the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith("Vm")}
        return kilobytes["VmRSS"] / 1024, kilobytes["VmHWM"] / 1024


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[Served]:
    """Run app.py on a free port; it is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        while not _answers(url):
            if process.poll() is not None:
                raise RuntimeError(f"app.py ended with code {process.returncode}")
            if time.monotonic() - start > SERVED_WITHIN:
                raise RuntimeError(f"app.py did not answer within {SERVED_WITHIN:.0f} s")
            time.sleep(0.1)
        yield Served(url, process, time.monotonic() - start)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def launch(playwright: Playwright) -> Browser:
    """Launch the system's Chromium, or Playwright's own if there is none."""
    path = str(CHROMIUM) if CHROMIUM.exists() else None
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])


def open_page(browser: Browser, url: str, outside: list[str], query: str = "", **context: Any) -> Page:
    """Open the page in a new tab; the addresses of requests to other hosts are appended to `outside`."""
    # The recorded run stands still, so that a test sees its own changes of the stage only.
    usual = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
    page = browser.new_context(**{**usual, **context}).new_page()

    def check(route: Any) -> None:
        address = route.request.url
        if address.startswith((url, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(address)
            route.abort()

    page.route("**/*", check)
    page.goto(url + query)
    page.wait_for_selector("#stage img")
    return page
