"""The line under the stage: what the solver sees, the best picture after each round, and the truth.

Every tile is a button that shows its picture large; `timeline.js` does this in the browser, without the server.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = (Path(__file__).parent / "timeline.js").read_text(encoding="utf-8")
ONE_ROW = 11  # tiles that fit beside each other on a computer's screen


@dataclass(frozen=True)
class Tile:
    """One picture of the line."""

    label: str
    src: str | None  # source of its <img>; None: still to come
    help: str  # one sentence
    score: str = ""  # under the label
    now: bool = False  # the round being searched; its picture follows the stage
    left: bool = False  # on the left of the comparison at first
    right: bool = False  # on its right at first
    frame: int | None = None  # of a recorded run, the frame that it shows


def timeline(tiles: Sequence[Tile], run: str, name: str = "From the input to the truth") -> str:
    """The line as HTML.

    Args:
        tiles: from left to right.
        run: changes when the line is about something else; the stage then lets go of the tile it shows.
        name: of the group, for screen readers.
    """
    cells = "".join(_button(i, tile) for i, tile in enumerate(tiles))
    many = " many" * (len(tiles) > ONE_ROW)
    return (
        f'<div class="timeline{many}" data-run="{html.escape(run)}" role="group" '
        f'aria-label="{html.escape(name)}">{cells}</div>'
    )


def _button(index: int, tile: Tile) -> str:
    picture = "" if tile.src is None else f'<img src="{tile.src}" alt="" decoding="sync" draggable="false">'
    facts = {"left": tile.left, "right": tile.right, "now": tile.now, "frame": tile.frame}
    data = "".join(
        f' data-{key}="{html.escape(str(value))}"'
        for key, value in facts.items()
        if value is not False and value is not None
    )
    state = "" if tile.src is not None or tile.now else " disabled"
    if tile.now:
        state += ' aria-current="step"'
    return (
        f'<button type="button" class="moment" data-moment="{index}"{data}{state} aria-pressed="false" '
        f'title="{html.escape(tile.help)}"><span class="moment-picture">{picture}</span>'
        f'<span class="moment-label">{html.escape(tile.label)}</span>'
        f'<span class="moment-score">{html.escape(tile.score)}</span></button>'
    )
