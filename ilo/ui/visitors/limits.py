"""The limits of the page, so that no single visitor can block it. docs/limits.md lists them in a table."""

from __future__ import annotations

from dataclasses import dataclass

from ilo.settings import SettingsError

KB, MB = 1024, 1024**2


@dataclass(frozen=True)
class Limits:
    """The limits of a page; the command line and Python have none of them.

    Raises:
        SettingsError: `steps` is below 0.
    """

    # A run
    steps: int = 5_000  # of optimisation in one run, projections and a photograph's inversion included; 0: any number
    unheard_seconds: float = 10.0  # that a run goes on while its visitor neither reads its news nor is on the page
    turn_seconds: float = 600.0  # that a run may take while others wait; then it ends with its best so far
    waiting: int = 8  # runs in line behind the one that is being solved; each of them keeps a thread of the server

    # What is sent to the page
    request_bytes: int = 128 * KB  # of a request; in memory it may take 20 × as much. The page's own have 1 to 4 KB
    upload_bytes: int = 20 * MB  # of an uploaded picture
    upload_seconds: float = 180.0  # that one upload may take: 20 MB at 1 Mbit/s
    uploads_at_once: int = 16  # so that what is not yet counted as kept stays bounded, too
    queued: int = 64  # requests that wait for a place; beyond that Gradio answers 503

    # What is kept of visitors in memory
    sessions: int = 200  # visits; the one that was away the longest is forgotten first
    session_seconds: float = 600.0  # that a visit is kept without a sign of life; an open page gives one all the time
    pictures_bytes: int = 256 * MB  # of the pictures that are chosen on one tab; the oldest choice is forgotten first
    results: int = 16  # finished runs whose download was not asked for; a browser asks at once
    messages: int = 100  # that wait to be read by one visit; a browser reads at once

    # What is kept of visitors on the disk
    uploads_bytes: int = 400 * MB  # of uploads in all; the oldest are deleted first
    uploads_files: int = 400
    downloads_bytes: int = 1_000 * MB  # of downloads in all; the oldest are deleted first
    downloads_files: int = 400
    read_seconds: float = 60.0  # that an uploaded file is kept once it was read
    left_seconds: float = 600.0  # that a download is kept once its tab was closed
    kept_seconds: float = 7_200.0  # that any file is kept

    # How often all this is looked at
    sweep_seconds: float = 1.0  # between two looks at what is kept in memory
    tidy_seconds: float = 10.0  # between two looks at the disk

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise SettingsError(f"--max-steps must be 1 or more, or 0 for no limit, not {self.steps}.")
