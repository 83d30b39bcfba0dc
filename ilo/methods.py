"""Every method: its title, one sentence, and its settings for a preset and a task.

One more entry here is one more method: the page, the command line and the benchmarks list what they find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ilo.settings import LossWeights, RoundSettings, SolverSettings, check_choice

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

# Found by benchmarks/tune.py, as is the geodesic term's default weight. The features' balls get smaller as the layers
# get larger.
FIRST_LR = 0.2  # learning rate of round 0
CSGM_LR = 0.55
LATER_ROUNDS = tuple(
    RoundSettings(lr=0.06, radius_features=radius, radius_latents=0.5, radius_noise=0.2) for radius in (0.2, 0.25, 0.17)
)
# What follows the measurement closely follows its noise, too: with noise, every ball is smaller.
NOISY_ROUNDS = tuple(
    RoundSettings(lr=0.06, radius_features=radius, radius_latents=0.16, radius_noise=0.012)
    for radius in (0.16, 0.2, 0.14)
)

# Nothing is measured inside a hole: only latents that agree keep it a face, with two matching eyes, and every later
# round bends it a little. So latents are held together, the code is searched for longer, and later rounds change less.
HOLE_SHARES = (0.6, 0.2, 0.1, 0.1)  # of all steps
HOLE_FIRST_LR = 0.4
HOLE_ROUND = RoundSettings(lr=0.08, radius_features=0.07, radius_latents=0.1, radius_noise=0.01)
HOLE_WEIGHTS = LossWeights(geodesic=0.03)

PULSE_LR = 0.4
# PULSE measures 100·L2 on pictures in [0, 1]; ours are in [-1, 1], where squared errors are four times as large.
PULSE_WEIGHTS = LossWeights(mse=25.0, perceptual=0.0, geodesic=0.05)


def _ilo(steps: Steps, holes: bool, noisy: bool) -> SolverSettings:
    if holes:
        first, *later = (round(share * sum(steps)) for share in HOLE_SHARES)
        plans = (RoundSettings(first, HOLE_FIRST_LR), *(replace(HOLE_ROUND, steps=n) for n in later))
        return SolverSettings(plans, weights=HOLE_WEIGHTS, schedule="one-cycle")
    rounds = NOISY_ROUNDS if noisy else LATER_ROUNDS
    later_rounds = (replace(plan, steps=n) for plan, n in zip(rounds, steps[1:], strict=True))
    return SolverSettings((RoundSettings(steps[0], FIRST_LR), *later_rounds))


def _csgm(steps: Steps, holes: bool, noisy: bool) -> SolverSettings:
    return SolverSettings((RoundSettings(sum(steps), CSGM_LR),))


def _pulse(steps: Steps, holes: bool, noisy: bool) -> SolverSettings:
    plan = RoundSettings(sum(steps), PULSE_LR)
    return SolverSettings((plan,), weights=PULSE_WEIGHTS, schedule="one-cycle", sna=False)


# For a measurement: settings(steps of each round, whether whole regions are hidden, whether there is noise).
METHODS = {
    "ilo": Method("ILO", "Latent code first, then layer by layer.", _ilo),
    "csgm": Method("CSGM", "Latent code only.", _csgm),
    "pulse": Method("PULSE", "Latent code only, with the settings of its paper.", _pulse),
}


def preset(name: str = "Quick", method: str = "ilo", *, seed: int = 0, task: str | None = None) -> SolverSettings:
    """The settings of a preset for a method that solves measurements.

    Args:
        name: "Quick" (50, 50, 25 and 25 steps) or "Paper" (300 in each of four rounds).
        method: "ilo"; "csgm", which is round 0 alone; "pulse", which is CSGM with the published settings of PULSE.
        seed: random seed for the starting point, 0 … 2³¹ − 1.
        task: name of the operator; ILO has settings of its own where whole regions are hidden, and where
            there is noise.

    Raises:
        SettingsError: the preset or the method is unknown, or the seed is out of range.
    """
    from ilo.operators import OPERATORS  # here, so that listing the methods needs no torch

    check_choice("preset", name, tuple(PRESETS))
    check_choice("method", method, tuple(METHODS))
    kind = OPERATORS.get(task or "")
    holes, noisy = (False, False) if kind is None else (kind.holes, kind.noisy)
    return replace(METHODS[method].settings(PRESETS[name], holes, noisy), method=method, seed=seed)


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
