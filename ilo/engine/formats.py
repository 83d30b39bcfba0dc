"""Number formats: which ones a device offers, and how a run switches them on."""

from __future__ import annotations

import functools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch
import torch.nn.functional as F

from ilo.settings import Dtype, SettingsError

HALVES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# What a processor must be able to do, by functions of torch.cpu. If their names change, a format is not offered.
INSTRUCTIONS = {
    "bfloat16": ("_is_avx512_bf16_supported", "_is_amx_tile_supported"),
    "float16": ("_is_amx_fp16_supported",),
}
_runs: list[str] = []  # number formats of the runs under way on CUDA GPUs
_before: list[bool] = []  # the flags before the first of them
_flags = threading.Lock()


def formats(device: torch.device | str) -> tuple[str, ...]:
    """The number formats to offer for runs on a device, in the order of `ilo.settings.Dtype`."""
    device = torch.device(device)
    return tuple(name for name in get_args(Dtype) if refusal(device, name) is None)


def check(device: torch.device | str, dtype: str) -> None:
    """Raises `SettingsError` if a new run should not use a number format on a device. A recipe is replayed with any."""
    reason = refusal(torch.device(device), dtype)
    if reason is not None:
        raise SettingsError(reason)


def refusal(device: torch.device, dtype: str) -> str | None:
    """Why a number format is not offered on a device; None if it is."""
    if dtype == "float32":
        return None
    if dtype == "tf32":
        return None if device.type == "cuda" else "tf32 needs a CUDA GPU; choose float32."
    if device.type == "cuda":
        fits = dtype != "bfloat16" or torch.cuda.is_bf16_supported()
        return None if fits else "This GPU does not compute in bfloat16; choose float16 or float32."
    if device.type == "cpu" and not _faster(dtype):
        return f"{dtype} is slower than float32 on this processor; choose float32."
    return None


@functools.cache
def _faster(dtype: str) -> bool:
    """Whether this processor has instructions for a format, and convolves faster with it than with float32."""
    if not any(getattr(torch.cpu, name, bool)() for name in INSTRUCTIONS[dtype]):
        return False
    return _seconds(HALVES[dtype]) < _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Median time of a convolution, as in the middle of a generator."""
    x = torch.ones(1, 128, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones(128, 128, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            F.conv2d(x, weight, padding=1)
            times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


@contextmanager
def computing_in(dtype: str, device: torch.device) -> Iterator[None]:
    """Allow or forbid TF32 on CUDA GPUs while a run lasts, so that "float32" means IEEE float32.

    The flags belong to the process: of runs at the same time, the one that began last decides. When the last one ends,
    the flags are as before the first.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with _flags:
        if not _runs:
            _before[:] = matmul.allow_tf32, cudnn.allow_tf32
        _runs.append(dtype)
        matmul.allow_tf32 = cudnn.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        with _flags:
            _runs.remove(dtype)
            if not _runs:
                matmul.allow_tf32, cudnn.allow_tf32 = _before
