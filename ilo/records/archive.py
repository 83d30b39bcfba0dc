"""The files of a bundle, which is a folder or a .zip: each is read up to the size that it may have."""

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

CHUNK = 2**16  # bytes that are unpacked at a time
LONGEST_READ = 2**17  # bytes of a .zip at a time; the list of its files is read in one piece
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LARGEST_HEADER = 2**16  # bytes, of a safetensors file; a run's own has 3,000


class BundleError(OSError):
    """A bundle that cannot be written or read; the message is meant for the user."""


class _ZipFile(io.FileIO):
    """A file that refuses to read much at once, so that a long list of files is refused before it is looked at."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        count = left if size is None or size < 0 else min(size, left)
        if count > LONGEST_READ:
            raise zipfile.BadZipFile("it lists more files than a run has")
        return super().read(count)


def read_file(path: Path, name: str, most: int) -> bytes | None:
    """One file of a bundle; None if it is not there.

    Args:
        path: the bundle's folder or .zip.
        name: of the file in it.
        most: bytes that it may have.

    Raises:
        BundleError: there is no such bundle, or the file is larger, damaged or may not be read.
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
            if info.compress_type not in COMPRESSIONS:  # those of other kinds unfold without a limit
                raise BundleError(f"{name} in {path.name} is compressed in a way that a run's files never are.")
            with archive.open(info) as member:
                return _limited(member, name, most)
    except BundleError:
        raise
    except Exception as error:  # damaged archives fail in many ways
        raise BundleError(f"{path.name} is not a complete .zip of a run ({reason(error)}).") from None


def _limited(file: IO[bytes], name: str, most: int) -> bytes:
    """All that is in a file; what an archive says of its sizes need not be true."""
    parts, size = [], 0
    while part := file.read(min(CHUNK, most + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise BundleError(f"{name} is larger than that of any run; it may have {most:,} bytes here.")
    return b"".join(parts)


def read_tensors(data: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file; its header is looked at before anything else.

    Raises:
        BundleError: it is no complete safetensors file, or has more tensors than a run's.
    """
    try:
        tensors, _ = read_header(Extent.of_bytes(data), LARGEST_HEADER)
        if sum(tensor.size for tensor in tensors.values()) > len(data):
            raise ReadError("its tensors share their numbers")
        return {key: tensor.read() for key, tensor in tensors.items()}
    except ReadError as error:
        raise BundleError(f"{name} is not a complete safetensors file of a run ({error}).") from None
