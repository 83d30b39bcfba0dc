"""The device on which the networks run."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from ilo.settings import SettingsError
from ilo.text.words import shown

AUTO = "auto"
VARIABLE = "ILO_DEVICE"  # environment variable that names the device if nothing else does
DRIVER = Path("/proc/driver/nvidia")  # is there if a driver of an NVIDIA GPU is loaded
_NAME = re.compile(r"cpu|cuda(:\d{1,3})?|mps")


@dataclass(frozen=True)
class Choice:
    """A device that works."""

    device: torch.device
    note: str = ""  # one sentence if a GPU is here but not used

    @property
    def name(self) -> str:
        """The device in words, such as "2 CPU cores" or the name of the GPU."""
        return words(self.device)


def choose(name: str | None = None) -> Choice:
    """Find a device by name and try it out.

    Args:
        name: "auto", which is the first CUDA GPU if it works, and else the CPU; "cpu"; "cuda" or "cuda:N", the GPU with
            number N; "mps", an Apple GPU. None: the value of the environment variable ILO_DEVICE, or "auto".

    Raises:
        SettingsError: the name is not allowed, or there is no such device, or it does not work.
    """
    name = name or os.environ.get(VARIABLE) or AUTO
    if name == AUTO:
        reason = failure("cuda")
        if reason is None:
            return Choice(torch.device("cuda:0"))
        note = f"A GPU is here, but it cannot be used ({reason}); using the CPU." if DRIVER.exists() else ""
        return Choice(torch.device("cpu"), note)
    if not _NAME.fullmatch(name):
        raise SettingsError(f"The device is {shown(name)}; allowed are auto, cpu, cuda, cuda:N and mps.")
    reason = failure(name)
    if reason is not None:
        raise SettingsError(f"The device {name} cannot be used ({reason}); this machine has {', '.join(_usable())}.")
    return Choice(torch.device("cuda:0" if name == "cuda" else name))


def failure(name: str) -> str | None:
    """Why a device does not work, in a few words; None if it does. Waits for the device."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a driver that is too old: the error says so, too
            x = torch.ones(1, 3, 8, 8, device=name)
            kernel = torch.ones(3, 3, 3, 3, device=name)
            found = float(torch.nn.functional.conv2d(x, kernel).sum())
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # an installation without CUDA asserts
        return str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")[:200]
    return None if found == 27 * 3 * 36 else "it computes wrong values"


def words(device: torch.device) -> str:
    """A device in words, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        cores = os.cpu_count() or 1
        return f"{cores} CPU core{'s' if cores > 1 else ''}"
    return "an Apple GPU" if device.type == "mps" else str(device)


def _usable() -> list[str]:
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "mps"]
    return [name for name in names if failure(name) is None]
