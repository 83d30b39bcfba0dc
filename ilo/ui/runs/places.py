"""Which devices make the page's runs."""

from __future__ import annotations

import logging

import torch

from ilo.engine import devices
from ilo.settings import SettingsError
from ilo.text.words import shown

ALL = "all"
VARIABLE = "ILO_DEVICES"  # environment variable that names the devices if no argument does
MOST = 16

log = logging.getLogger(__name__)


def chosen(device: str | None, names: str | None) -> list[torch.device]:
    """Find the devices of a page and try each of them out.

    Args:
        device: a single device as in `ilo.engine.devices.choose`; it is used if there are no `names`.
        names: devices with commas between them, "all" for every NVIDIA GPU (without any, the CPU), or None.

    Raises:
        SettingsError: a device is unknown, does not work or is named twice, or both arguments are given.
    """
    if not names:
        return [_usable(device)]
    if device:
        raise SettingsError(f"Both --device {shown(device)} and --devices {shown(names)} are given; use one of them.")
    if names == ALL:
        count = torch.cuda.device_count()
        return [_usable(f"cuda:{i}") for i in range(count)] if count else [_usable(devices.AUTO)]
    parts = [part.strip() for part in names.split(",")]
    if "" in parts or len(parts) > MOST:
        raise SettingsError(
            f"The devices are {shown(names)}; allowed are up to {MOST} names with commas between them, such as "
            "cuda:0,cuda:1, or all."
        )
    found = [_usable(part) for part in parts]
    twice = next((each for each in found if found.count(each) > 1), None)
    if twice is not None:
        raise SettingsError(
            f"The devices {names} name {twice} twice; a device makes one run at a time, so name it once."
        )
    return found


def _usable(name: str | None) -> torch.device:
    choice = devices.choose(name)
    if choice.note:
        log.warning(choice.note)
    return choice.device
