"""Lazy tensors: described first, and read from their file only after the whole file has been checked."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor


class ReadError(ValueError):
    """A file cannot be used; the message says why, without naming the file."""


class Extent:
    """Part of a file, read on demand.

    The file is not memory-mapped: if it shrinks while in use, reading raises an error instead of crashing.
    """

    def __init__(self, file: BinaryIO, start: int, length: int):
        self._file, self._start, self._length = file, start, length

    @classmethod
    def of_file(cls, path: Path) -> Extent:
        """A whole file, kept open as long as any part of it is referenced.

        Raises:
            ReadError: the file is empty.
            OSError: the file cannot be opened.
        """
        file = path.open("rb", buffering=0)
        length = file.seek(0, io.SEEK_END)
        if not length:
            file.close()
            raise ReadError("it is empty")
        return cls(file, 0, length)

    @classmethod
    def of_bytes(cls, content: bytes) -> Extent:
        """Bytes that are already in memory."""
        return cls(io.BytesIO(content), 0, len(content))

    def __len__(self) -> int:
        return self._length

    def part(self, start: int, length: int) -> Extent:
        """The part of `length` bytes from `start` on. Raises `ReadError` if it is not that long."""
        if start < 0 or length < 0 or start + length > self._length:
            raise ReadError("it ends too early; copy or fetch it again")
        return Extent(self._file, self._start + start, length)

    def read(self, start: int = 0, length: int | None = None) -> bytearray:
        """Read all bytes, or `length` bytes from `start` on.

        Raises:
            ReadError: the part is shorter, or the file has become shorter.
        """
        length = self._length - start if length is None else length
        if start < 0 or length < 0 or start + length > self._length:
            raise ReadError("it ends too early; copy or fetch it again")
        content = bytearray(length)
        view = memoryview(content)
        self._file.seek(self._start + start)
        while view:
            count = self._file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise ReadError("it became shorter while it was read")
            view = view[count:]
        return content


# Dtypes by the names of their storage classes in torch's pickles.
DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(eq=False)
class Storage:
    """A flat array of numbers; `data` is None until its position in the file is known."""

    dtype: torch.dtype
    count: int
    data: Extent | None = None

    def fill(self, data: Extent) -> None:
        """Set the part of the file that holds the numbers. Raises `ReadError` if its size differs."""
        if len(data) != self.count * self.dtype.itemsize:
            raise ReadError("a storage differs in size from what the file says")
        self.data = data


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that has not been read from its file yet. Its elements are distinct elements of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        sound = isinstance(self.storage, Storage) and isinstance(self.shape, tuple) and isinstance(self.strides, tuple)
        if not sound or len(self.shape) != len(self.strides) or len(self.shape) > 8:
            raise ReadError("the description of a tensor is not valid")
        numbers = (self.offset, *self.shape, *self.strides)
        whole = all(type(n) is int and 0 <= n < 2**40 for n in numbers)
        if not whole or math.prod(max(1, n) for n in self.shape) >= 2**40:  # also if a dimension is 0
            raise ReadError("a tensor has an impossible shape")
        empty = 0 in self.shape
        extent = 0 if empty else 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        # If the extent were smaller than the tensor, several elements would share one number.
        if self.offset + extent > self.storage.count or math.prod(self.shape) > extent:
            raise ReadError(f"a tensor of shape {list(self.shape)} does not fit into its {self.storage.count} numbers")

    @property
    def size(self) -> int:
        """Size in the file, in bytes."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def without(self, *axes: int) -> LazyTensor:
        """The tensor without the given axes, which must have length 1.

        Raises:
            ReadError: an axis does not exist or is longer.
        """
        if not all(axis < len(self.shape) and self.shape[axis] == 1 for axis in axes):
            raise ReadError(f"it has shape {list(self.shape)}")
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        return replace(
            self, shape=tuple(self.shape[axis] for axis in kept), strides=tuple(self.strides[axis] for axis in kept)
        )

    def read(self) -> Tensor:
        """Read a contiguous tensor, in the file's number format.

        Raises:
            ReadError: the tensor's numbers are missing, or the file has become shorter.
        """
        dtype = self.storage.dtype
        if self.storage.data is None:
            raise ReadError("a tensor's numbers are missing")
        if 0 in self.shape:
            return torch.zeros(self.shape, dtype=dtype)
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        content = self.storage.data.read(self.offset * dtype.itemsize, extent * dtype.itemsize)
        return torch.frombuffer(content, dtype=dtype).as_strided(self.shape, self.strides).contiguous()


def read_weights(tensors: dict[str, LazyTensor], size: int) -> dict[str, Tensor]:
    """Read tensors as float32, in the order of their names.

    Args:
        tensors: tensors of a network, whose shapes have been checked.
        size: size of their file in bytes.

    Raises:
        ReadError: values are not real or not finite, or the tensors are larger than the file because some share
            their numbers.
    """
    if sum(tensor.size for tensor in tensors.values()) > size:
        raise ReadError("it holds fewer numbers than its tensors need: some of them share the same numbers")
    read = {}
    for name in sorted(tensors):
        if not tensors[name].storage.dtype.is_floating_point:
            raise ReadError(f"{name} holds whole numbers, but weights are real numbers")
        read[name] = tensors[name].read().float()
        if not read[name].isfinite().all():
            raise ReadError(f"{name} holds values that are not finite numbers")
    return read
