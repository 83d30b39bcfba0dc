"""How one optimisation step runs: number format and memory layout of the network, threads, what the recipe records."""

from __future__ import annotations

import copy
import platform
from importlib import metadata

import torch

from ilo.settings import VERSION
from ilo.stylegan2.network import Generator

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare(generator: Generator, dtype: str) -> Generator:
    """The generator with its convolutions in `dtype`; latents, styles and the picture stay float32.

    float32 is the generator itself; another format is a copy.
    """
    if dtype == "float32":
        return generator
    return copy.deepcopy(generator).freeze(DTYPES[dtype])


def description(device: torch.device | str) -> dict[str, str | int]:
    """Everything outside the settings that may change a result's last bits."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "ilo": VERSION,
        "engine": "eager",
        "device": device.type,
        "processor": name,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy")},
    }
