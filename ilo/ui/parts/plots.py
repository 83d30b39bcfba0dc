"""Small drawings as HTML and SVG: they take a fraction of a millisecond, and their colours follow the theme."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

CHART_WIDTH, CHART_HEIGHT = 320, 128
MOST_POINTS = 160
LARGEST_PREVIEW = 512  # pixels
LOSSLESS_UP_TO = 128  # pixels; below, PNG is small and JPEG's blocks would show


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] as the source of an <img>: PNG if small, otherwise JPEG of at most 512 px."""
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    if max(image.size) <= LOSSLESS_UP_TO:
        image.save(file, "PNG", compress_level=1)
    else:
        image.thumbnail((LARGEST_PREVIEW, LARGEST_PREVIEW), Image.Resampling.BICUBIC)
        return jpeg(image)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def jpeg(image: Image.Image) -> str:
    """A photograph as the source of an <img>."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(pixels: np.ndarray, alt: str) -> str:
    return f'<img src="{data_uri(pixels)}" alt="{html.escape(alt)}" decoding="sync" draggable="false">'


def stage(pixels: np.ndarray | None, badge: str, alt: str, tiles: Sequence[str] = ()) -> str:
    """The large picture in the middle; `tiles` are labels for its four quarters, row by row."""
    inside = picture(pixels, alt) if pixels is not None else ""
    inside += "".join(f'<span class="tile tile-{i}">{html.escape(label)}</span>' for i, label in enumerate(tiles))
    return f'<figure class="stage">{inside}<figcaption>{html.escape(badge)}</figcaption></figure>'


def compare(before: np.ndarray, after: np.ndarray, left: str, right: str, cut: int = 50) -> str:
    """Two pictures of equal size, with a divider (at `cut` percent) that the mouse, a finger or the arrow keys move."""
    return (
        f'<figure class="stage compare" style="--cut: {cut}%">'
        f"{picture(after, right)}"
        f'<div class="compare-before">{picture(before, left)}</div>'
        '<div class="compare-line" aria-hidden="true"></div>'
        f'<figcaption class="compare-left">{html.escape(left)}</figcaption>'
        f'<figcaption class="compare-right">{html.escape(right)}</figcaption>'
        f'<input type="range" class="compare-cut" min="0" max="100" step="1" value="{cut}" '
        f'aria-label="Show more of the {html.escape(left)} or of the {html.escape(right)}">'
        "</figure>"
    )


def switched(views: Sequence[tuple[str, str]]) -> str:
    """Several figures in one place, each (label, figure); the first is shown until another label is pressed."""
    buttons = "".join(
        f'<button type="button" data-view="{i}" aria-pressed="{"false" if i else "true"}">{html.escape(label)}</button>'
        for i, (label, _) in enumerate(views)
    )
    figures = "".join(
        f'<div class="view"{" hidden" if i else ""}>{figure}</div>' for i, (_, figure) in enumerate(views)
    )
    return f'<div class="views">{figures}<div class="view-buttons" role="group">{buttons}</div></div>'


def strip(pictures: Iterable[tuple[str, np.ndarray, str]]) -> str:
    """A row of small pictures: (label, uint8 [H, W, 3], explanation)."""
    cells = "".join(
        f'<figure title="{html.escape(help_)}">{picture(pixels, label)}<figcaption>{html.escape(label)}</figcaption>'
        "</figure>"
        for label, pixels, help_ in pictures
    )
    return f'<div class="strip">{cells}</div>' if cells else ""


def progress(share: float, left: str, state: str = "") -> str:
    """A progress bar with the share of the steps done and the remaining time."""
    percent = round(100 * min(1.0, max(0.0, share)))
    return (
        f'<div class="progress {state}"><div class="bar" role="progressbar" aria-label="Progress of the run" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<div style="width: {percent}%"></div></div>'
        f"<span>{percent} %</span><span>{html.escape(left)}</span></div>"
    )


def loss_chart(
    steps: np.ndarray, values: np.ndarray, total: int, boundaries: Sequence[int] = (), name: str = "Fit to the input"
) -> str:
    """An error over the steps on a logarithmic scale, as SVG.

    Args:
        steps: [n], the steps so far.
        values: [n], the error at each step; values that are not finite are skipped.
        total: number of steps of the whole run.
        boundaries: the steps at which the rounds start.
        name: of the error, for screen readers.
    """
    left, right, top, bottom = 44, 4, 6, 16
    width, height = CHART_WIDTH - left - right, CHART_HEIGHT - top - bottom
    kept = np.isfinite(values) & (values > 0)
    steps, values = steps[kept], values[kept]
    if len(values) == 0:
        lo, hi = -3.0, 0.0
    else:
        lo, hi = math.log10(float(values.min())), math.log10(float(values.max()))
        margin = max(0.05, (0.5 - (hi - lo)) / 2)
        lo, hi = lo - margin, hi + margin

    def x(step: float) -> float:
        return left + width * step / max(1, total)

    def y(exponent: float) -> float:
        return top + height * (hi - exponent) / (hi - lo)

    parts = [
        f'<line class="round" x1="{x(b):.1f}" x2="{x(b):.1f}" y1="{top}" y2="{top + height}"/>' for b in boundaries if b
    ]
    for exponent, label in _ticks(lo, hi):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y(exponent):.1f}" y2="{y(exponent):.1f}"/>'
        )
        parts.append(f'<text x="{left - 6}" y="{y(exponent) + 3.5:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<text x="{left}" y="{CHART_HEIGHT - 3}">step 0</text>')
    parts.append(f'<text x="{left + width}" y="{CHART_HEIGHT - 3}" text-anchor="end">{total}</text>')
    if len(values):
        thin = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(int))
        points = " ".join(f"{x(steps[i]):.1f},{y(math.log10(values[i])):.1f}" for i in thin)
        parts.append(f'<polyline points="{points}"/>')
        parts.append(f'<circle cx="{x(steps[-1]):.1f}" cy="{y(math.log10(values[-1])):.1f}" r="3"/>')
    return (
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" '
        f'aria-label="{html.escape(name)} over the steps, logarithmic">{"".join(parts)}</svg>'
    )


def _ticks(lo: float, hi: float) -> list[tuple[float, str]]:
    """Round values 1, 2, 5 × 10^n between two exponents, at most four."""
    ticks = []
    for n in range(math.floor(lo), math.ceil(hi) + 1):
        for digit in (1, 2, 5):
            exponent = math.log10(digit) + n
            if lo <= exponent <= hi:
                ticks.append((exponent, f"{digit * 10.0**n:.4g}" if n >= -4 else f"{digit}e{n}"))
    return ticks[:: max(1, math.ceil(len(ticks) / 4))]


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of numbers with a name in front of each row."""
    head = "".join(f"<th scope='col'>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th>{''.join(f'<td>{html.escape(v)}</td>' for v in values)}</tr>"
        for name, values in rows
    )
    return f"<table class='numbers'><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def notice(message: str, kind: str = "error") -> str:
    """A highlighted message; an empty message gives an empty string."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="notice {kind}" role="{role}">{html.escape(message)}</div>' if message else ""
