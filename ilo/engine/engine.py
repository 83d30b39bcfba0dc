"""How one optimisation step runs: number format and memory layout of the network, threads, what the recipe records."""

from __future__ import annotations

import copy
import platform
from dataclasses import replace
from importlib import metadata

import torch

from ilo.engine import memory
from ilo.priors.stylegan2.network import Config, Generator
from ilo.settings import VERSION, SettingsError, SolverSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare(generator: Generator, settings: SolverSettings, batch: int = 1) -> Generator:
    """The generator as a run uses it; latents, styles and the picture stay float32 whatever it convolves in.

    In float32 it is the generator itself; another format is a copy. Where the run would not fit into the memory that is
    free, the states between the blocks alone are kept, which changes no number.

    Raises:
        SettingsError: it would not fit even so.
    """
    config, free = generator.config, memory.available(generator.device)
    if memory.needed(config, settings, batch) > free:
        least = memory.needed(config, settings, batch, checkpointed=True)
        if least > free:
            raise SettingsError(_too_large(config, settings, batch, least, free))
        generator = generator.checkpointed()
    if settings.dtype == "float32":
        return generator
    return copy.deepcopy(generator).freeze(DTYPES[settings.dtype])


def _too_large(config: Config, settings: SolverSettings, batch: int, least: int, free: int) -> str:
    """What to do about a run that does not fit."""
    half = memory.needed(config, replace(settings, dtype="bfloat16"), batch, checkpointed=True)
    cures = ["close other programs"]
    if batch > 1:
        cures.insert(0, "run fewer samples at once")
    if settings.dtype == "float32" and half < free:
        cures.insert(0, f"choose bfloat16, which needs {memory.gigabytes(half)}")
    return (
        f"This run needs about {memory.gigabytes(least)} of memory, and {memory.gigabytes(free)} are free; "
        f"{', or '.join(cures)}."
    )


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
