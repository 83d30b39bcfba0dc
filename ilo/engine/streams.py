"""Independent random streams, each named by its purpose, so that no two ever draw the same numbers.

A start is drawn from its bare seed, so that a seed names the same face everywhere.
"""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, purpose: str, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose.

    Args:
        seed: of the run or the measurement.
        purpose: such as "measurement noise".
        key: numbers that tell streams of one purpose apart, such as the round.
        device: where it draws.
    """
    digest = hashlib.sha256(repr((seed, purpose, *key)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
