"""Tensors that are still in their file: described first, read when all of them turn out to be wanted."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor


class ReadError(ValueError):
    """A file that cannot be used; the message says why and does not name the file."""


class Extent:
    """Part of a file, read when it is asked for.

    Nothing is mapped into memory: a file that shrinks while it is used is an error and no crash.
    """

    def __init__(self, file: BinaryIO, start: int, length: int):
        self._file, self._start, self._length = file, start, length

    @classmethod
    def of_file(cls, path: Path) -> Extent:
        """The whole of a file, which stays open as long as a part of it is referred to.

        Raises:
            ReadError: it is empty.
            OSError: it cannot be opened.
        """
        file = path.open("rb", buffering=0)
        length = file.seek(0, io.SEEK_END)
        if not length:
            file.close()
            raise ReadError("it is empty")
        return cls(file, 0, length)

    @classmethod
    def of_bytes(cls, content: bytes) -> Extent:
        """Bytes that are in memory already."""
        return cls(io.BytesIO(content), 0, len(content))

    def __len__(self) -> int:
        return self._length

    def part(self, start: int, length: int) -> Extent:
        """Some of it, from `start`; a ReadError where it ends before."""
        if start < 0 or length < 0 or start + length > self._length:
            raise ReadError("it ends too early; copy or fetch it again")
        return Extent(self._file, self._start + start, length)

    def read(self, start: int = 0, length: int | None = None) -> bytearray:
        """Its bytes, or some of them.

        Raises:
            ReadError: it ends before, or the file has become shorter.
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


# Kinds of numbers by their names in torch's pickles.
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
    """Numbers in a row; `data` is None until it is known where in the file they are."""

    dtype: torch.dtype
    count: int
    data: Extent | None = None

    def fill(self, data: Extent) -> None:
        """Say where its numbers are; a ReadError if they are more or fewer."""
        if len(data) != self.count * self.dtype.itemsize:
            raise ReadError("a storage has another size than the file says")
        self.data = data


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still in its file. Its elements are distinct numbers of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        sound = isinstance(self.storage, Storage) and isinstance(self.shape, tuple) and isinstance(self.strides, tuple)
        if not sound or len(self.shape) != len(self.strides) or len(self.shape) > 8:
            raise ReadError("a tensor is not described as one")
        numbers = (self.offset, *self.shape, *self.strides)
        whole = all(type(n) is int and 0 <= n < 2**40 for n in numbers)
        if not whole or math.prod(max(1, n) for n in self.shape) >= 2**40:  # an empty one, too
            raise ReadError("a tensor has an impossible shape")
        empty = 0 in self.shape
        extent = 0 if empty else 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        # An extent smaller than the tensor would make several elements of one number.
        if self.offset + extent > self.storage.count or math.prod(self.shape) > extent:
            raise ReadError(f"a tensor of shape {list(self.shape)} does not fit into its {self.storage.count} numbers")

    @property
    def size(self) -> int:
        """Bytes that it has in the file."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def without(self, *axes: int) -> LazyTensor:
        """The tensor without some axes of length 1.

        Raises:
            ReadError: one of them is absent or longer.
        """
        if not all(axis < len(self.shape) and self.shape[axis] == 1 for axis in axes):
            raise ReadError(f"it has shape {list(self.shape)}")
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        return replace(
            self, shape=tuple(self.shape[axis] for axis in kept), strides=tuple(self.strides[axis] for axis in kept)
        )

    def read(self) -> Tensor:
        """A contiguous tensor, in the file's number format.

        Raises:
            ReadError: its numbers are missing, or the file has become shorter.
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
    """Tensors as float32, in the order of their names.

    Args:
        tensors: of a network; their shapes have been found right.
        size: bytes of the file that they are in.

    Raises:
        ReadError: they are no real numbers, are not finite, or are more than the file can hold, because some of them
            share theirs.
    """
    if sum(tensor.size for tensor in tensors.values()) > size:
        raise ReadError("it holds fewer numbers than its tensors have: some of them are the same numbers")
    read = {}
    for name in sorted(tensors):
        if not tensors[name].storage.dtype.is_floating_point:
            raise ReadError(f"{name} holds whole numbers, which no weights are")
        read[name] = tensors[name].read().float()
        if not read[name].isfinite().all():
            raise ReadError(f"{name} holds values that are not finite numbers")
    return read
