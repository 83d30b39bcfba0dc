"""Estimating the memory that a run with StyleGAN2 needs in addition to the loaded model."""

from __future__ import annotations

from itertools import pairwise

from ilo.priors.stylegan2.network import Config
from ilo.settings import SolverSettings

BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}
# Temporary copies of the largest activation during the backward pass.
PASSING = 4
SCRATCH = 150e6  # bytes allocated by the libraries themselves
# Copies of a searched variable: value, start, gradient, Adam's two averages, best value, and the projection's buffers.
COPIES = 9
PERCEPTUAL = 300e6  # bytes for VGG-16 at 256 px, batch 1, forward and backward; the embedded network needs a tenth


def needed(config: Config, settings: SolverSettings, batch: int = 1, checkpointed: bool = False) -> int:
    """Peak memory of a run in bytes, in its most demanding round.

    Args:
        config: configuration of the generator.
        settings: settings of the run; rounds, first layer, number format and perceptual weight matter.
        batch: number of samples.
        checkpointed: whether only the states between blocks are kept and blocks are recomputed in the backward pass.
    """
    layers = range(settings.first_layer, settings.first_layer + len(settings.rounds))
    if settings.first_layer == config.num_layers:  # the picture itself is searched
        return round(batch * COPIES * 3 * config.img_resolution**2 * 4)
    most = max(_round(config, layer, BYTES[settings.dtype], checkpointed) for layer in layers)
    perceptual = PERCEPTUAL * (min(config.img_resolution, 256) / 256) ** 2 if settings.weights.perceptual else 0
    copy = 0 if BYTES[settings.dtype] == 4 else (4 + 2 * BYTES[settings.dtype]) * _parameters(config)
    return round(SCRATCH + copy + batch * (most + perceptual))


def _parameters(config: Config) -> int:
    """Number of parameters of the convolutions, which are nearly all of the network."""
    widths = [config.channels[4 * 2**k] for k in range(config.num_layers)]
    return 9 * (widths[0] ** 2 + sum(b * (a + b) for a, b in pairwise(widths)))


def _round(config: Config, first: int, itemsize: int, checkpointed: bool) -> float:
    sizes = [4 * 2**k for k in range(config.num_layers)]
    blocks = []  # elements kept per block: the convolution result and the output of its two layers
    for k in range(first, config.num_layers):
        area = sizes[k] ** 2
        blocks.append((2 if k else 1) * 2 * config.channels[sizes[k]] * area)
    states = [config.channels[size] * size**2 for size in sizes[max(0, first - 1) : -1]]
    passing = PASSING * max(config.channels[size] * size**2 for size in sizes[first:])
    kept = (max(blocks) + sum(states)) if checkpointed else sum(blocks)
    picture = 40 * 3 * config.img_resolution**2 * 4  # RGB pictures between the blocks and in the losses
    searched = COPIES * 4 * (config.channels[sizes[first - 1]] * sizes[first - 1] ** 2 if first else 0)
    noise = COPIES * 4 * sum(2 * size**2 for size in sizes[: first + 3])
    return (kept + passing) * itemsize + picture + searched + noise
