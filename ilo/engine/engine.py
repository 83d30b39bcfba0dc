"""Execution of a run: number format, memory use, and the machine facts that the recipe records."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata

import torch

from ilo.engine import memory
from ilo.priors.base import Prior
from ilo.settings import VERSION, SettingsError, SolverSettings


def prepare(prior: Prior, settings: SolverSettings, batch: int = 1) -> Prior:
    """The prior for a run, in the number format of the settings.

    If the run does not fit into free memory, the prior switches to its frugal variant, which gives the same numbers.

    Raises:
        SettingsError: the run does not fit into free memory even so.
    """
    if not has_room(prior, settings, batch):
        prior = prior.frugal()
    if prior.device.type == "cpu":
        memory.reuse()
    return prior.in_format(settings.dtype)


def has_room(prior: Prior, settings: SolverSettings, batch: int = 1) -> bool:
    """Whether a run fits into free memory without the prior's frugal variant.

    Raises:
        SettingsError: it does not fit even with that.
    """
    free = memory.available(prior.device)
    if prior.memory_needed(settings, batch) <= free:
        return True
    least = prior.memory_needed(settings, batch, frugal=True)
    if least > free:
        raise SettingsError(_too_large(prior, settings, batch, least, free))
    return False


def _too_large(prior: Prior, settings: SolverSettings, batch: int, least: int, free: int) -> str:
    """The message for a run that does not fit into memory, with remedies."""
    half = prior.memory_needed(replace(settings, dtype="bfloat16"), batch, frugal=True)
    cures = ["close other programs"]
    if batch > 1:
        cures.insert(0, "run fewer samples at once")
    if settings.dtype == "float32" and half < free:
        cures.insert(0, f"choose bfloat16, which needs {memory.gigabytes(half)}")
    return (
        f"This run needs about {memory.gigabytes(least)} of memory, and {memory.gigabytes(free)} are free; "
        f"{', or '.join(cures)}."
    )


def description(device: torch.device | str, engine: str = "eager") -> dict[str, str | int]:
    """Facts about software and hardware that may change a result's last bits; `engine` is that of the prior."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "ilo": VERSION,
        "engine": engine,
        "device": device.type,
        "processor": name,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy")},
    }
