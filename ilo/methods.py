"""Every method: its title, one sentence, and its settings for a preset and a task.

One more entry here is one more method: the page, the command line and the benchmarks list what they find.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ilo.settings import LossWeights, RoundSettings, SolverSettings, check_choice

if TYPE_CHECKING:  # listing the methods needs no torch
    from ilo.operators import Noise, Operator
    from ilo.priors.base import Prior

Steps = tuple[int, ...]  # of each round


@dataclass(frozen=True)
class Method:
    """One way to solve a problem."""

    title: str
    sentence: str  # what it does, for a learner
    settings: Callable[..., SolverSettings]  # see METHODS and MORPH_METHODS for its arguments


# All methods make the same total number of steps; ILO divides them among its rounds.
PRESETS: dict[str, Steps] = {
    "Quick": (50, 50, 25, 25),
    "Paper": (300, 300, 300, 300),
}

# The presets' numbers were found on photos that nothing is measured on (docs/quality.md, "Tuning").
FIRST_LR = 0.2  # learning rate of round 0
CSGM_LR = 0.55
LATER_LR = 0.06
# One rule for the radii of every task: features can move in as many directions as they have values, and a measured
# value fixes one of them, so balls are smaller where the measured values are fewer. Noise makes all balls smaller.
RADIUS_FEATURES, RADIUS_LATENTS, RADIUS_NOISE = 0.4, 0.5, 0.2  # with enough measured values without noise
SHARE_POWER, RELIABILITY_POWER = 0.25, 0.5  # of the features' radius
RELIABLE_SIGMA = 20.0  # noise of this σ halves the reliability
SERIES = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # radii are rounded to one of these × a power of ten

# Nothing is measured inside a hole: only latents that agree keep it a face, with two matching eyes, and every later
# round bends it a little. So latents are held together, the code is searched for longer, and inside a hole features
# may change only by a tenth of what they may outside.
HOLE_SHARES = (0.5, 0.14, 0.16, 0.2)  # of all steps
HOLE_FIRST_LR = 0.4
HOLE_ROUND = RoundSettings(lr=0.08, radius_features=0.15, radius_latents=0.1, radius_noise=0.2)
HOLE_RADIUS = 0.1
HOLE_WEIGHTS = LossWeights(geodesic=0.03)

PULSE_LR = 0.4
# PULSE measures 100·L2 on pictures in [0, 1]; ours are in [-1, 1], where squared errors are four times as large.
PULSE_WEIGHTS = LossWeights(mse=25.0, perceptual=0.0, geodesic=0.05)


@dataclass(frozen=True)
class Evidence:
    """What presets take from a measurement."""

    holes: bool = False  # whether whole regions are hidden
    reliability: float = 1.0  # 1 without noise, towards 0 with much of it
    shares: tuple[float, ...] = (
        1.0,
    )  # measured values per value of the features entering layer 1, 2, …, and later ones

    def share(self, layer: int) -> float:
        """Measured values per value of the features that enter a layer, at most 1."""
        return min(1.0, self.shares[min(layer, len(self.shares)) - 1])


def evidence(operator: Operator | None, noise: Noise | None, prior: Prior | None) -> Evidence:
    """What presets take from a measurement; see `preset` for the arguments."""
    if operator is None:
        return Evidence()
    reliability = 1 / (1 + (operator.noise_level(noise) / RELIABLE_SIGMA) ** 2)
    counts = [operator.size] if prior is None else [prior.feature_count(k) for k in range(1, prior.layers + 1)]
    shares = tuple(operator.observed / count for count in counts)
    return Evidence(operator.holes, reliability, shares)


def rounded(radius: float) -> float:
    """The nearest radius of the series that a slider offers."""
    power = 10.0 ** math.floor(math.log10(radius))
    return float(f"{min(SERIES, key=lambda value: abs(math.log(value * power / radius))) * power:.2g}")


def _ilo(steps: Steps, seen: Evidence) -> SolverSettings:
    if seen.holes:
        first, *later = (round(share * sum(steps)) for share in HOLE_SHARES)
        plans = (RoundSettings(first, HOLE_FIRST_LR), *(replace(HOLE_ROUND, steps=n) for n in later))
        return SolverSettings(plans, weights=HOLE_WEIGHTS, schedule="one-cycle", radius_hidden=HOLE_RADIUS)
    later_rounds = (
        RoundSettings(
            n,
            LATER_LR,
            radius_features=rounded(
                RADIUS_FEATURES * seen.share(k) ** SHARE_POWER * seen.reliability**RELIABILITY_POWER
            ),
            radius_latents=rounded(RADIUS_LATENTS * seen.reliability),
            radius_noise=rounded(RADIUS_NOISE * seen.reliability),
        )
        for k, n in enumerate(steps[1:], 1)
    )
    return SolverSettings((RoundSettings(steps[0], FIRST_LR), *later_rounds))


def _csgm(steps: Steps, seen: Evidence) -> SolverSettings:
    return SolverSettings((RoundSettings(sum(steps), CSGM_LR),))


def _pulse(steps: Steps, seen: Evidence) -> SolverSettings:
    plan = RoundSettings(sum(steps), PULSE_LR)
    return SolverSettings((plan,), weights=PULSE_WEIGHTS, schedule="one-cycle", sna=False)


# For a measurement: settings(steps of each round, what is measured).
METHODS = {
    "ilo": Method("ILO", "Latent code first, then layer by layer.", _ilo),
    "csgm": Method("CSGM", "Latent code only.", _csgm),
    "pulse": Method("PULSE", "Latent code only, with the settings of its paper.", _pulse),
}


def preset(
    name: str = "Quick",
    method: str = "ilo",
    *,
    seed: int = 0,
    operator: Operator | None = None,
    noise: Noise | None = None,
    prior: Prior | None = None,
) -> SolverSettings:
    """The settings of a preset for a method that solves measurements.

    ILO's radii follow what is measured: they are smaller where few values are measured, or noisy ones, and it has
    settings of its own where whole regions are hidden.

    Args:
        name: "Quick" (50, 50, 25 and 25 steps) or "Paper" (300 in each of four rounds).
        method: "ilo"; "csgm", which is round 0 alone; "pulse", which is CSGM with the published settings of PULSE.
        seed: random seed for the starting point, 0 … 2³¹ − 1.
        operator: what is measured; None: every value of the picture, without noise.
        noise: noise model of the measurement; None: the operator's own.
        prior: the generator, for the number of values at its layers; None: as many as in a picture.

    Raises:
        SettingsError: the preset or the method is unknown, or the seed is out of range.
    """
    check_choice("preset", name, tuple(PRESETS))
    check_choice("method", method, tuple(METHODS))
    settings = METHODS[method].settings(PRESETS[name], evidence(operator, noise, prior))
    return replace(settings, method=method, seed=seed)


def preset_of(
    settings: SolverSettings, *, operator: Operator | None, noise: Noise | None = None, prior: Prior | None = None
) -> str | None:
    """Name of the preset that gives these settings for what is measured, or None; see `preset` for the arguments."""
    method, seed = settings.method, settings.seed
    if method not in METHODS:
        return None
    made = {name: preset(name, method, seed=seed, operator=operator, noise=noise, prior=prior) for name in PRESETS}
    return next((name for name, each in made.items() if each == settings), None)


# Morphs: a classifier guides, nothing is measured. At these radii the results are still faces, also to a face detector
# (benchmarks/guidance.py).
MORPH_PRESETS: dict[str, Steps] = {"Quick": (40, 40, 35, 35), "Paper": (300, 300, 300, 300)}
MORPH_FIRST_LR, MORPH_LR = 0.05, 0.5  # of round 0, of later rounds
MORPH_RADII = (0.025, 0.125, 0.1, 0.1)  # latents' radius in round 0, then the features' radius in each later round
MORPH_RADIUS_LATENTS, MORPH_RADIUS_NOISE = 0.025, 0.0125
MORPH_WEIGHTS = LossWeights(perceptual=0.0, geodesic=0.0)
# A normally trained classifier is convinced by changes this small, which are hard to see; a robust one asks for visible
# ones.
PIXELS_LR, PIXELS_RADIUS = 0.003, 0.03


def _morph_ilo(steps: Steps, layers: int, reach: float) -> SolverSettings:
    latents, noise = MORPH_RADIUS_LATENTS * reach, MORPH_RADIUS_NOISE * reach
    first = RoundSettings(steps[0], MORPH_FIRST_LR, radius_latents=MORPH_RADII[0] * reach, radius_noise=noise)
    later = (
        RoundSettings(n, MORPH_LR, radius * reach, latents, noise)
        for n, radius in zip(steps[1:], MORPH_RADII[1:], strict=True)
    )
    return SolverSettings((first, *later), weights=MORPH_WEIGHTS, sna=False)


def _morph_pixels(steps: Steps, layers: int, reach: float) -> SolverSettings:
    plan = RoundSettings(sum(steps), PIXELS_LR, PIXELS_RADIUS * reach, 0.0, 0.0)
    return SolverSettings((plan,), weights=MORPH_WEIGHTS, first_layer=layers, sna=False)


# For a morph: settings(steps of each round, the generator's layers, factor on every radius).
MORPH_METHODS = {
    "ilo": Method(
        "ILO",
        "Latent code first, then layer by layer, each within its limit. Quick 150 steps, Paper 1,200.",
        _morph_ilo,
    ),
    "pixels": Method("Pixels", "No generator: the pixels are changed directly (Santurkar et al. 2019).", _morph_pixels),
}


def morph_preset(
    name: str = "Quick", method: str = "ilo", *, layers: int, seed: int = 0, reach: float = 1.0
) -> SolverSettings:
    """The settings of a preset for a method that morphs a face.

    Args:
        name: "Quick" (150 steps in all) or "Paper" (1,200).
        method: "ilo", or "pixels" for the baseline.
        layers: number of layers of the generator.
        seed: random seed for the face and everything else that is random.
        reach: factor on every l1 radius: how far from the start the picture may go.

    Raises:
        SettingsError: the preset or the method is unknown, or a value is out of range.
    """
    check_choice("preset", name, tuple(MORPH_PRESETS))
    check_choice("method", method, tuple(MORPH_METHODS))
    settings = MORPH_METHODS[method].settings(MORPH_PRESETS[name], layers, reach)
    return replace(settings, method=method, seed=seed)
