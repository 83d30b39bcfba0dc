"""Reading safetensors files: described first, and read only after the whole file has been checked.

The `safetensors` library maps a file and creates all its tensors at once. Here the header's size is checked before it
is parsed, and all shapes are checked before any number is read.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import torch

from ilo.settings import SettingsError
from ilo.text import jsontext
from ilo.text.words import shown
from ilo.weights.lazy import Extent, LazyTensor, ReadError, Storage

MOST_HEADER = 1_000_000  # maximum bytes of a header; the largest network's has 30,000
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
DTYPES |= {"BOOL": torch.bool}


def parse_json(text: str) -> Any:
    """Parse JSON from a file's metadata.

    Raises:
        ReadError: the text is not JSON, or is nested too deeply.
    """
    try:
        return jsontext.parse(text, "its description")
    except SettingsError as error:
        raise ReadError(str(error).removesuffix(".")) from None


def read_header(data: Extent, most: int = MOST_HEADER) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Read the header of a safetensors file. Returns its tensors, not read yet, and its metadata.

    Args:
        data: the file.
        most: maximum size of its header in bytes.

    Raises:
        ReadError: the file is not a complete safetensors file, or its header is too large.
    """
    length = struct.unpack("<Q", data.read(0, 8))[0]
    if length > len(data) - 8:
        raise ReadError("it ends too early; copy or fetch it again")
    if length > most:
        raise ReadError(f"its header has {length:,} bytes; allowed are {most:,}")
    try:
        header = parse_json(data.read(8, length).decode())
    except UnicodeDecodeError:
        raise ReadError("its header is not text") from None
    if not isinstance(header, dict):
        raise ReadError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ReadError("its metadata values are not text")
    numbers = data.part(8 + length, len(data) - 8 - length)
    return {name: _tensor(name, entry, numbers) for name, entry in header.items()}, metadata


def _tensor(name: str, entry: Any, numbers: Extent) -> LazyTensor:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ReadError(f"{shown(name)} is not described as a tensor")
    dtype, shape, place = DTYPES.get(entry["dtype"]), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if dtype is None:
        raise ReadError(f"{shown(name)} holds numbers of the kind {shown(entry['dtype'])}, which is not supported")
    if shape is None or place is None or len(place) != 2 or len(shape) > 8:
        raise ReadError(f"{shown(name)} is not described as a tensor")
    count = math.prod(shape)
    if place[1] - place[0] != count * dtype.itemsize:
        raise ReadError(f"{shown(name)} differs in size from what its shape says")
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    storage = Storage(dtype, count, numbers.part(place[0], place[1] - place[0]))
    return LazyTensor(storage, 0, tuple(shape), strides if count else (0,) * len(shape))


def _counts(values: Any) -> list[int] | None:
    """`values` if it is a list of sizes or positions, else None."""
    sound = isinstance(values, list) and all(type(n) is int and 0 <= n < 2**40 for n in values)
    return values if sound else None
