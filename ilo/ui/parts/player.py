"""Recorded runs on the stage: they play once by themselves, and can be scrubbed, without the server."""

from __future__ import annotations

import functools
import html
import json
import logging
from pathlib import Path

from ilo.priors.load import Model
from ilo.records.recording import Frame, Recording, RecordingError, read
from ilo.ui import text
from ilo.ui.parts.timeline import Tile, timeline
from ilo.weights.registry import ASSETS

SCRIPT = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
FIRST = ASSETS / "recordings" / "first.json"  # what the page plays before anyone presses Run
SECONDS = 6  # that a recorded run plays

log = logging.getLogger(__name__)


@functools.cache
def first() -> Recording | None:
    """The recording that the page begins with; None, and a line in the log, if it cannot be read."""
    try:
        return read(FIRST)
    except RecordingError as error:
        log.warning("The page begins without a recorded run. %s", error)
        return None


def stage(recording: Recording, model: Model) -> str:
    """The player with the first frame, as HTML; `model` is the one of the page."""
    rounds = len(recording.recipe.settings.rounds)
    frames = [{"src": _src(frame.picture), "words": _words(frame, rounds)} for frame in recording.frames]
    made_by = "" if recording.recipe.model_sha256 == model.sha256 else recording.recipe.model
    badge = text.recorded(recording.recipe.settings.total_steps, SECONDS, made_by)
    data = html.escape(json.dumps(frames, ensure_ascii=False))
    return (
        f'<figure class="stage player" data-seconds="{SECONDS}" data-at="0" data-frames="{data}">'
        f'<img src="{frames[0]["src"]}" alt="{html.escape(recording.title)}, as it was reconstructed" '
        'decoding="sync" draggable="false">'
        f"<figcaption>{html.escape(badge)}</figcaption>"
        '<div class="player-bar"><button type="button" class="player-play" aria-label="Play">'
        '<svg viewBox="0 0 24 24" aria-hidden="true"><path class="go" d="M7 4v16l13-8z"/>'
        '<path class="halt" d="M6 4h4v16H6zM14 4h4v16h-4z"/></svg></button>'
        f'<input type="range" class="player-at" min="0" max="{len(frames) - 1}" step="1" value="0" '
        f'aria-label="Moment of the recorded run" aria-valuetext="{html.escape(frames[0]["words"])}">'
        f'<span class="player-words">{html.escape(frames[0]["words"])}</span></div></figure>'
    )


def splash(recording: Recording) -> str:
    """A style sheet that shows the first frame in its place while the browser still builds the page."""
    side = "min(100vw - clamp(340px, 22vw, 420px) - clamp(328px, 24vw, 460px) - 40px, var(--stage-side))"
    middle = "calc(50vw + (clamp(340px, 22vw, 420px) - clamp(328px, 24vw, 460px)) / 2)"
    return (
        "@media (min-width: 1100px) { body:not(:has(#tabs img))::before { "
        f'content: ""; position: fixed; z-index: 1; top: 62px; left: {middle}; width: {side}; aspect-ratio: 1; '
        "transform: translateX(-50%); border-radius: 12px; "
        f"background: url({_src(recording.frames[0].picture)}) center / cover; }} }}"
    )


def line(recording: Recording) -> str:
    """The recording's tiles: its ends of rounds lead to their frames."""
    tiles = [Tile(text.MEASURED, _src(recording.measured), text.PREVIEW)]
    for mark in recording.marks:
        score = "" if mark.psnr is None else text.decibels(mark.psnr)
        label = text.film_label(mark.name)
        src = _src(recording.frames[mark.frame].picture)
        tiles.append(Tile(label, src, text.film_help(label), score, frame=mark.frame))
    if recording.truth is not None:
        tiles.append(Tile(text.TRUTH_LABEL, _src(recording.truth), text.TRUTH_HELP))
    return timeline(tiles, "recorded")


def _src(picture: str) -> str:
    return f"data:image/webp;base64,{picture}"


def _words(frame: Frame, rounds: int) -> str:
    """Round, layer and error of a frame."""
    psnr = frame.psnr
    where = text.headline(frame.round, rounds) if frame.done else "Start"
    return where if psnr is None else f"{where} · {text.decibels(psnr)}"
