"""Reading the files of a bundle, a folder or a .zip, with a size limit for each file."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import IO

from torch import Tensor

from ilo.text.words import reason
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.safefile import read_header

CHUNK = 2**16  # bytes unpacked at a time
LONGEST_READ = 2**17  # maximum bytes per read of a .zip, whose file list is read at once
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LARGEST_HEADER = 2**16  # maximum bytes of a safetensors header; a run's header has 3,000


class BundleError(OSError):
    """A bundle cannot be written or read; the message is meant for the user."""


class _ZipFile(io.FileIO):
    """A file that limits the bytes per read, so that a .zip with a long file list is refused before parsing it."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        count = left if size is None or size < 0 else min(size, left)
        if count > LONGEST_READ:
            raise zipfile.BadZipFile("it has more files than any run")
        return super().read(count)


def read_file(path: Path, name: str, most: int) -> bytes | None:
    """Read one file of a bundle; None if it does not exist.

    Args:
        path: folder or .zip of the bundle.
        name: name of the file in it.
        most: maximum size of the file in bytes.

    Raises:
        BundleError: there is no such bundle, or the file is too large, damaged or not readable.
    """
    try:
        if path.is_dir():
            return _read_plain(path / name, most)
        if not path.is_file():
            raise BundleError(f"There is no run at {path}; give the folder or the .zip of a run.")
        return _read_zipped(path, name, most)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{name} of {path} cannot be read ({error.strerror}).") from None


def _read_plain(path: Path, most: int) -> bytes | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return _limited(file, path.name, most)


def _read_zipped(path: Path, name: str, most: int) -> bytes | None:
    try:
        with _ZipFile(path) as file, zipfile.ZipFile(file) as archive:
            if name not in archive.NameToInfo:
                return None
            info = archive.getinfo(name)
            if info.compress_type not in COMPRESSIONS:  # other methods may decompress without a limit
                raise BundleError(f"{name} in {path.name} is compressed in a way that a run's files never are.")
            with archive.open(info) as member:
                return _limited(member, name, most)
    except BundleError:
        raise
    except Exception as error:  # damaged archives raise all kinds of errors
        raise BundleError(f"{path.name} is not a complete .zip of a run ({reason(error)}).") from None


def _limited(file: IO[bytes], name: str, most: int) -> bytes:
    """Read a file with a limit, because the sizes stated in an archive may be wrong."""
    parts, size = [], 0
    while part := file.read(min(CHUNK, most + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise BundleError(f"{name} is larger than that of any run; at most {most:,} bytes are read.")
    return b"".join(parts)


def read_tensors(data: bytes, name: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; its header is checked first.

    Raises:
        BundleError: the file is not a complete safetensors file, or its header is larger than that of any run.
    """
    try:
        tensors, _ = read_header(Extent.of_bytes(data), LARGEST_HEADER)
        if sum(tensor.size for tensor in tensors.values()) > len(data):
            raise ReadError("some of its tensors share the same numbers")
        return {key: tensor.read() for key, tensor in tensors.items()}
    except ReadError as error:
        raise BundleError(f"{name} is not a complete safetensors file of a run ({error}).") from None
