"""How much memory there is."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")  # a container's own limit
CACHED = ("inactive_file ", "active_file ")  # in its memory.stat


def give_back() -> None:
    """Return freed memory to the system, where the C library (glibc) would keep it for later."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def available(device: torch.device) -> int:
    """Bytes that are free on a GPU, or on the machine for this process and its container."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = psutil.virtual_memory().available
    try:
        limit, used, parts = (
            (CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current", "memory.stat")
        )
    except OSError:
        return free
    if limit == "max":
        return free
    # Copies of files count as used, and give way where memory is wanted.
    copies = sum(int(line.split()[1]) for line in parts.splitlines() if line.startswith(CACHED))
    return min(free, int(limit) - int(used) + copies)


def gigabytes(size: int) -> str:
    """As a user reads it: "50 MB", "1.2 GB", "12 GB"."""
    if size < 1e8:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
