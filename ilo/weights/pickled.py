"""The values that a pickle may hold: plain data, lazy tensors, and inert records of everything else."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ilo.weights.budget import Budget
from ilo.weights.lazy import Extent, LazyTensor, ReadError

SCALARS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}  # numpy dtype → struct format


@dataclass(frozen=True)
class Name:
    """A global that a pickle refers to by module and name. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object kept as inert data: the name of its class, constructor arguments and state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(frozen=True)
class LongText:
    """A UTF-8 text that has not been read from the file."""

    data: Extent


# A safe stand-in for a constructor: a function of its arguments and the file's budget.
Constructor = Callable[[tuple[Any, ...], Budget], Any]


def _tensor(arguments: tuple[Any, ...], budget: Budget) -> LazyTensor:
    budget.spend("tensors")
    return LazyTensor(*arguments[:4])


def _parameter(arguments: tuple[Any, ...], budget: Budget) -> LazyTensor:
    if not arguments or not isinstance(arguments[0], LazyTensor):
        raise ReadError("a parameter is not a tensor")
    return arguments[0]


def _mapping(arguments: tuple[Any, ...], budget: Budget) -> dict:
    pairs = arguments[0] if arguments else []
    if not isinstance(pairs, (dict, list)):
        raise ReadError("a dict is not made of pairs")
    budget.spend("items", len(pairs))
    made: dict = {}
    for pair in pairs.items() if isinstance(pairs, dict) else pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ReadError("a dict is not made of pairs")
        made[plain_key(pair[0])] = pair[1]
    return made


def _bytes(arguments: tuple[Any, ...], budget: Budget) -> Extent:
    """Bytes of pickle protocol 2, which writes them as `_codecs.encode(text, 'latin1')`."""
    if not arguments:
        return Extent.of_bytes(b"")
    text = arguments[0]
    if len(arguments) != 2 or arguments[1] != "latin1" or not isinstance(text, (str, LongText)):
        raise ReadError("its bytes are not written as Latin-1")
    budget.spend("copied", len(text) if isinstance(text, str) else len(text.data))
    whole = text if isinstance(text, str) else text.data.read().decode()
    return Extent.of_bytes(whole.encode("latin-1"))


def _number(arguments: tuple[Any, ...], budget: Budget) -> Any:
    """A numpy scalar as a plain number, if it is one of the supported kinds."""
    kind, content = arguments if len(arguments) == 2 else (None, None)
    if isinstance(kind, Record) and kind.arguments and isinstance(kind.arguments[0], str):
        code = SCALARS.get(kind.arguments[0])
        if code is not None and isinstance(content, Extent) and len(content) == struct.calcsize(code):
            return struct.unpack(code, content.read())[0]
    return Record("numpy.scalar", arguments)


def plain_key(value: Any) -> Any:
    """Check a dict key: text or a small number. A hostile file could choose other keys that take forever to hash."""
    if isinstance(value, (str, bool, type(None))) or (type(value) is int and abs(value) < 2**31):
        return value
    raise ReadError("a dict has a key that is neither text nor a small number")


def inert(name: str) -> Constructor:
    """A constructor that makes inert records, for objects that are never used."""
    return lambda arguments, budget: Record(name, arguments)


PYTHON: dict[str, Constructor] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "_codecs.encode": _bytes,
    "__builtin__.bytes": _bytes,
    "builtins.bytes": _bytes,
    **{
        name: inert("set")
        for name in ("__builtin__.set", "builtins.set", "__builtin__.frozenset", "builtins.frozenset")
    },
    **{f"{module}.scalar": _number for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    "numpy.dtype": inert("numpy.dtype"),
}
TENSORS: dict[str, Constructor] = {
    **PYTHON,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
