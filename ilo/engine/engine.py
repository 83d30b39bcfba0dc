"""Execution of a run: number format, memory use, and the machine facts that the recipe records."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata

import torch

from ilo.engine import devices, formats, graph, memory
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


@contextmanager
def running(prior: Prior, settings: SolverSettings, batch: int = 1) -> Iterator[None]:
    """Surrounds a run: sets the number format, and translates a GPU's lack of memory.

    Raises:
        SettingsError: the GPU has too little memory after all.
    """
    try:
        with formats.computing_in(settings.dtype, prior.device):
            yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        cures = ["close other programs", "choose a smaller model"]
        if settings.dtype in ("float32", "tf32"):
            cures.insert(0, "choose bfloat16 or float16")
        if batch > 1:
            cures.insert(0, "run fewer samples at once")
        raise SettingsError(f"The GPU ran out of memory; {', or '.join(cures)}.") from None


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
    if settings.dtype in ("float32", "tf32") and half < free:
        cures.insert(0, f"choose bfloat16, which needs {memory.gigabytes(half)}")
    return (
        f"This run needs about {memory.gigabytes(least)} of memory, and {memory.gigabytes(free)} are free; "
        f"{', or '.join(cures)}."
    )


def description(
    device: torch.device | str, rendered: str = graph.EAGER, run_by: str | None = None
) -> dict[str, str | int]:
    """Facts about software and hardware that may change a result's last bits.

    `rendered` is the engine of the prior, and `run_by` that of the run that is repeated, if one is.
    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "ilo": VERSION,
        "engine": graph.planned(device, rendered, run_by),
        "device": device.type,
        "processor": name,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "torchvision", "numpy")},
        **(_cuda_facts() if device.type == "cuda" else {}),
    }


def _cuda_facts() -> dict[str, str | int]:
    """Facts about a CUDA GPU's libraries. Whether TF32 is used, the number format in the settings says."""
    return {
        "cuda": str(torch.version.cuda),
        "cudnn": torch.backends.cudnn.version() or 0,
        "driver": _driver(),
        "deterministic": int(torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic),
    }


def _driver() -> str:
    """Version of the NVIDIA driver, from the file that it provides on Linux."""
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", (devices.DRIVER / "version").read_text())
    except OSError:
        found = None
    return found[1] if found else "unknown"
