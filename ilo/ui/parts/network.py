"""The drawing of the network: where the solver searches, and how much of each allowed change it has used."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ilo.state import BALLS

WIDTH, HEIGHT, RADIUS = 320, 62, 19
AROUND = 2 * math.pi * RADIUS
NAMES = {"features": "features", "latents": "latent codes", "noise": "noise maps"}


@dataclass(frozen=True)
class Node:
    """The latent code, or one layer of the generator.

    Args:
        label: inside the circle.
        name: for screen readers and in the line below.
        usage: ball → share of its radius in use, NaN where there is no ball; empty before its round.
        searched: whether a round of the run searches here.
        now: whether this round is the current one.
    """

    label: str
    name: str
    usage: Mapping[str, float] = field(default_factory=dict)
    searched: bool = True
    now: bool = False

    @property
    def words(self) -> str:
        """What the ring means, in words."""
        if not self.searched:
            return "not searched"
        if not self.usage:
            return "still to come"
        used = [f"{NAMES[ball]} {_percent(self.usage[ball])}" for ball in BALLS if _limited(self.usage, ball)]
        return ", ".join(used) if used else "no limit"

    @property
    def ring(self) -> float | None:
        """The share that the ring shows: of the features, or else of the latents; None without a ball."""
        return next((self.usage[ball] for ball in ("features", "latents") if _limited(self.usage, ball)), None)


def network(nodes: Sequence[Node]) -> str:
    """The nodes from the code to the finest layer as SVG, and a line about the current or the last one."""
    spacing = WIDTH / len(nodes)
    centres = [spacing * (i + 0.5) for i in range(len(nodes))]
    arrows = "".join(
        f'<path class="wire" d="M{a + RADIUS + 3:.1f} 22H{b - RADIUS - 3:.1f}"/>'
        for a, b in itertools.pairwise(centres)
    )
    drawn = "".join(_circle(x, node) for x, node in zip(centres, nodes, strict=True))
    spoken = "; ".join(f"{node.name}{' (now)' * node.now}: {node.words}" for node in nodes)
    last = next((node for node in reversed(nodes) if node.usage), None)
    said = "" if last is None else f'<p class="fine">{html.escape(_sentence(last))}</p>'
    return (
        f'<svg class="network" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(f"Share of the allowed change used. {spoken}.")}">{arrows}{drawn}</svg>{said}'
    )


def _circle(x: float, node: Node) -> str:
    kind = " now" if node.now else "" if node.searched else " unused"
    share = node.ring
    ring = ""
    if share is not None:
        part = AROUND * min(1.0, share)
        ring = (
            f'<circle class="used" cx="{x:.1f}" cy="22" r="{RADIUS}" transform="rotate(-90 {x:.1f} 22)" '
            f'stroke-dasharray="{part:.1f} {AROUND:.1f}"/>'
        )
    below = _percent(share) if share is not None else "free" if node.usage else ""
    return (
        f'<g class="node{kind}"><title>{html.escape(f"{node.name}: {node.words}")}</title>'
        f'<circle cx="{x:.1f}" cy="22" r="{RADIUS}"/>{ring}'
        f'<text x="{x:.1f}" y="26" text-anchor="middle">{html.escape(node.label)}</text>'
        f'<text class="below" x="{x:.1f}" y="{HEIGHT - 4}" text-anchor="middle">{below}</text></g>'
    )


def _sentence(node: Node) -> str:
    if node.words == "no limit":
        return f"{node.name}: searched without a limit."
    return f"{node.name}, of the allowed change: {node.words}."


def _limited(usage: Mapping[str, float], ball: str) -> bool:
    return math.isfinite(usage.get(ball, math.nan))


def _percent(share: float) -> str:
    return f"{round(100 * min(1.0, share))} %"
