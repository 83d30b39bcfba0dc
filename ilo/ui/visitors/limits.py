"""The limits of the page, so that no single visitor can block it. docs/limits.md lists them in a table."""

from __future__ import annotations

from dataclasses import dataclass

from ilo.settings import SettingsError

KB, MB = 1024, 1024**2


@dataclass(frozen=True)
class Limits:
    """The limits of a page; they do not apply to the command line and to Python.

    Raises:
        SettingsError: `steps` is below 0.
    """

    # A run
    steps: int = 5_000  # optimisation steps per run, with projections and a photo's inversion; 0: no limit
    unheard_seconds: float = 10.0  # a run stops after this time without its visitor
    turn_seconds: float = 600.0  # maximum time of a run while others wait; it keeps its best result
    waiting: int = 8  # length of the queue; each waiting run occupies a server thread

    # Requests and uploads
    request_bytes: int = 128 * KB  # size of a request, which may take 20 × as much memory; the page sends 1 to 4 KB
    upload_bytes: int = 20 * MB  # size of an uploaded picture
    upload_seconds: float = 180.0  # duration of an upload: 20 MB at 1 Mbit/s
    uploads_at_once: int = 16  # bounds the uploads that are not yet stored
    queued: int = 64  # waiting requests; beyond that Gradio answers 503

    # Memory
    sessions: int = 200  # visits; the longest absent one is dropped first
    session_seconds: float = 600.0  # how long a visit is kept without contact; an open page stays in contact
    pictures_bytes: int = 256 * MB  # chosen pictures per tab of the page; the oldest choice is dropped first
    results: int = 16  # finished runs without a request for the download; a browser asks at once
    messages: int = 100  # unread messages per visit; a browser reads at once

    # Disk
    uploads_bytes: int = 400 * MB  # all uploads; the oldest are deleted first
    uploads_files: int = 400
    downloads_bytes: int = 1_000 * MB  # all downloads; the oldest are deleted first
    downloads_files: int = 400
    read_seconds: float = 60.0  # how long an uploaded file is kept after it was read
    left_seconds: float = 600.0  # how long a download is kept after its tab was closed
    kept_seconds: float = 7_200.0  # how long any file is kept

    # How often the limits are enforced
    sweep_seconds: float = 1.0  # between two checks of the memory
    tidy_seconds: float = 10.0  # between two checks of the disk

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise SettingsError(f"--max-steps must be 1 or more, or 0 for no limit, not {self.steps}.")
