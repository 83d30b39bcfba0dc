"""Reading published generators from official network pickles and rosinality's checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ilo.priors.stylegan2 import official, rosinality
from ilo.priors.stylegan2.checkpoint import Checkpoint, CheckpointError, GeneratorDescription
from ilo.priors.stylegan2.network import Config, MappingNetwork
from ilo.weights.budget import Budget
from ilo.weights.find import reading
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.torchfile import read_torch

AVERAGE_OVER = 10_000  # number of latents averaged for a file without the mean w


def read(path: Path) -> Checkpoint:
    """Read the generator in an official `.pkl` (its `G_ema`) or a rosinality `.pt` (its `g_ema`).

    Raises:
        CheckpointError: the file is missing or damaged, refers to anything but a network's parts, or holds no
            generator that this project's network can reproduce.
    """
    with reading(path, CheckpointError):
        found = describe(Extent.of_file(path), path.suffix).read()
    if "mapping.w_avg" not in found.tensors:
        found.tensors["mapping.w_avg"] = _average(found.config, found.tensors)
    return found


def describe(data: Extent, suffix: str) -> GeneratorDescription:
    """Describe a published file.

    Args:
        data: the file.
        suffix: suffix of the file name: `.pkl` for an official network pickle, anything else for a `torch.save` file.

    Raises:
        ReadError: the file is damaged, refers to anything but a network's parts, or holds no generator.
    """
    if suffix == ".pkl":
        return official.describe(data)
    content = read_torch(data, Budget.of(data))
    if not isinstance(content, dict) or "g_ema" not in content:
        raise ReadError("it has no generator g_ema")
    return rosinality.describe(content, len(data))


@torch.no_grad()
def _average(config: Config, tensors: dict[str, Tensor]) -> Tensor:
    """Mean w [w_dim] of the mapping network over latents of a fixed seed."""
    network = MappingNetwork(config)
    own = {key.removeprefix("mapping."): value for key, value in tensors.items() if key.startswith("mapping.")}
    network.load_state_dict(own, strict=False)
    z = torch.randn(AVERAGE_OVER, config.z_dim, generator=torch.Generator().manual_seed(0))
    return network(z).mean(0)
