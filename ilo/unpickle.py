"""Reading pickles without executing them: a machine that knows data and a few constructors' names.

Python's own unpickler calls whatever a file names. This one never resolves a name: what a file wants to be constructed
stays a `Name` until a closed table says which tensor, dict or inert record it stands for; every other name is refused.
Tensors stay views of the file until they are asked for, so that reading a network out of a file with three of them
takes the memory of one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_OPCODES = 400_000  # the largest published file has a tenth of that
MOST_TEXT = 16_000_000  # bytes of all strings together
PLAIN = (str, int, float, bool, type(None))
DTYPES = {
    "FloatStorage": ("<f4", torch.float32),
    "HalfStorage": ("<f2", torch.float16),
    "DoubleStorage": ("<f8", torch.float64),
    "BFloat16Storage": ("<i2", torch.bfloat16),
    "LongStorage": ("<i8", torch.int64),
    "IntStorage": ("<i4", torch.int32),
    "ShortStorage": ("<i2", torch.int16),
    "CharStorage": ("<i1", torch.int8),
    "ByteStorage": ("<u1", torch.uint8),
    "BoolStorage": ("<u1", torch.bool),
}


class UnpickleError(ValueError):
    """What is read is no plain data; the message says why."""


@dataclass(frozen=True)
class Name:
    """What a pickle calls by module and name. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Record:
    """An object that stays data: whose it would be, and the state that it would get."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass
class Storage:
    """Numbers in the file; `data` comes last in some formats."""

    kind: str  # of DTYPES
    count: int
    data: memoryview | None = None


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> Tensor:
        """A contiguous copy.

        Raises:
            UnpickleError: it reaches beyond its storage.
        """
        storage = self.storage
        if storage.data is None:
            raise UnpickleError("a tensor's numbers are missing")
        numpy_type, torch_type = DTYPES[storage.kind]
        values = np.frombuffer(storage.data, numpy_type, storage.count)
        if 0 in self.shape:
            return torch.zeros(self.shape, dtype=torch_type)
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        part = torch.from_numpy(values[self.offset : self.offset + extent].copy())
        part = part.view(torch.bfloat16) if torch_type is torch.bfloat16 else part
        return part.as_strided(self.shape, self.strides).contiguous().to(torch_type)


# Constructors, as functions of their arguments.


def _tensor(arguments: tuple[Any, ...]) -> LazyTensor:
    storage, offset, shape, strides = arguments[:4]
    sound = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not sound or len(shape) != len(strides) or len(shape) > 8:
        raise UnpickleError("a tensor is not described as one")
    numbers = (offset, *shape, *strides)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**40 for n in numbers):
        raise UnpickleError("a tensor has an impossible shape")
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    elements = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    if offset + extent > storage.count or elements > max(extent, 0):
        raise UnpickleError(f"a tensor of shape {list(shape)} does not fit into its {storage.count} numbers")
    return LazyTensor(storage, offset, shape, strides)


def _parameter(arguments: tuple[Any, ...]) -> LazyTensor:
    if not arguments or not isinstance(arguments[0], LazyTensor):
        raise UnpickleError("a parameter is no tensor")
    return arguments[0]


def _mapping(arguments: tuple[Any, ...]) -> dict:
    if not arguments:
        return {}
    try:
        return {_key(key): value for key, value in arguments[0]}
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, UnpickleError) else UnpickleError("a dict is not made of pairs") from None


def _key(value: Any) -> Any:
    """A key of a dict. Tuples inside tuples are none: to hash them can take for ever, or more stack than there is."""
    if isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(part, PLAIN) for part in value)):
        return value
    raise UnpickleError("a dict has a key that is no plain value")


Constructor = Callable[[tuple[Any, ...]], Any]
TENSORS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _mapping,
}
# Whose objects are passed over in a torch file: they belong to training programs, and their state is never used.
INERT = ("dill", "robustness", "cox", "argparse", "numpy", "torch.optim")


def _inert(module: str) -> bool:
    return any(module == root or module.startswith(root + ".") for root in INERT)


@dataclass
class _Machine:
    """One pickle being read: position, stack, marks and memo."""

    view: memoryview
    position: int
    allowed: dict[str, Constructor]
    inert: bool
    persistent: Callable[[Any], Any] | None
    budget: list[int]  # opcodes and bytes of text that are left
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def take(self, count: int) -> memoryview:
        if count < 0 or self.position + count > len(self.view):
            raise UnpickleError("it ends too early")
        part = self.view[self.position : self.position + count]
        self.position += count
        return part

    def number(self, code: str) -> int:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self, count: int, encoding: str = "utf-8") -> str:
        self.budget[1] -= count
        if self.budget[1] < 0:
            raise UnpickleError("it holds more text than any network does")
        return bytes(self.take(count)).decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")

    def line(self) -> str:
        begin = self.position
        while self.take(1)[0] != 10:
            if self.position - begin > 1000:
                raise UnpickleError("it has a name that is too long")
        return bytes(self.view[begin : self.position - 1]).decode("utf-8")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise UnpickleError("its instructions do not fit together")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise UnpickleError("its instructions do not fit together")
        begin = self.marks.pop()
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    def construct(self, what: Any, arguments: Any) -> Any:
        if not isinstance(what, Name) or not isinstance(arguments, tuple):
            raise UnpickleError("it calls something that has no name")
        if str(what) in self.allowed:
            return self.allowed[str(what)](arguments)
        if self.inert and _inert(what.module):
            return Record(str(what), arguments)
        raise UnpickleError(f"it names {what}, which no network needs; nothing of it was run")

    def name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnpickleError("a name is no text")
        made = Name(module, name)
        known = str(made) in self.allowed or (module == "torch" and name in DTYPES)
        if not known and not (self.inert and _inert(module)):
            raise UnpickleError(f"it names {made}, which no network needs; nothing of it was run")
        return made

    def items(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):  # what would be stored in it is passed over
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise UnpickleError("its instructions do not fit together")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def extend(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):
            return
        if not isinstance(target, list):
            raise UnpickleError("its instructions do not fit together")
        target.extend(values)

    def build(self, target: Any, state: Any) -> None:
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, dict) and isinstance(state, dict):
            target.update(state)
        elif not (isinstance(target, dict) and state is None) and not isinstance(target, LazyTensor):
            raise UnpickleError("it sets the state of something that has none")

    def run(self) -> Any:
        push = self.stack.append
        while True:
            self.budget[0] -= 1
            if self.budget[0] < 0:
                raise UnpickleError("it has more instructions than any network's file")
            code = self.take(1)[0]
            match code:
                case 0x80:  # PROTO
                    if self.take(1)[0] > 5:
                        raise UnpickleError("it is of a newer pickle protocol than 5")
                case 0x95:  # FRAME
                    self.take(8)
                case 0x2E:  # STOP
                    return self.pop()
                case 0x28:  # MARK
                    self.marks.append(len(self.stack))
                case 0x30:  # POP
                    if self.marks and len(self.stack) == self.marks[-1]:
                        self.marks.pop()
                    else:
                        self.pop()
                case 0x31:  # POP_MARK
                    self.since_mark()
                case 0x32:  # DUP
                    push(self.top())
                case 0x4E:  # NONE
                    push(None)
                case 0x88:  # NEWTRUE
                    push(True)
                case 0x89:  # NEWFALSE
                    push(False)
                case 0x4A:  # BININT
                    push(self.number("<i"))
                case 0x4B:  # BININT1
                    push(self.number("<B"))
                case 0x4D:  # BININT2
                    push(self.number("<H"))
                case 0x8A:  # LONG1
                    count = self.take(1)[0]
                    if count > 16:
                        raise UnpickleError("it holds a number of absurd size")
                    push(int.from_bytes(self.take(count), "little", signed=True))
                case 0x47:  # BINFLOAT
                    push(self.number(">d"))
                case 0x58:  # BINUNICODE
                    push(self.text(self.number("<I")))
                case 0x8C:  # SHORT_BINUNICODE
                    push(self.text(self.take(1)[0]))
                case 0x8D:  # BINUNICODE8
                    push(self.text(self.number("<Q")))
                case 0x55:  # SHORT_BINSTRING
                    push(self.text(self.take(1)[0], "latin-1"))
                case 0x54:  # BINSTRING
                    push(self.text(self.number("<i"), "latin-1"))
                case 0x43:  # SHORT_BINBYTES
                    push(self.take(self.take(1)[0]))
                case 0x42:  # BINBYTES
                    push(self.take(self.number("<I")))
                case 0x8E:  # BINBYTES8
                    push(self.take(self.number("<Q")))
                case 0x5D:  # EMPTY_LIST
                    push([])
                case 0x6C:  # LIST
                    push(self.since_mark())
                case 0x61:  # APPEND
                    value = self.pop()
                    self.extend(self.top(), [value])
                case 0x65:  # APPENDS
                    values = self.since_mark()
                    self.extend(self.top(), values)
                case 0x29:  # EMPTY_TUPLE
                    push(())
                case 0x85 | 0x86 | 0x87:  # TUPLE1, TUPLE2, TUPLE3
                    push(tuple(reversed([self.pop() for _ in range(code - 0x84)])))
                case 0x74:  # TUPLE
                    push(tuple(self.since_mark()))
                case 0x7D:  # EMPTY_DICT
                    push({})
                case 0x64:  # DICT
                    made: dict = {}
                    self.items(made, self.since_mark())
                    push(made)
                case 0x73:  # SETITEM
                    value, key = self.pop(), self.pop()
                    self.items(self.top(), [key, value])
                case 0x75:  # SETITEMS
                    values = self.since_mark()
                    self.items(self.top(), values)
                case 0x8F:  # EMPTY_SET
                    push(Record("set"))
                case 0x90:  # ADDITEMS
                    self.since_mark()
                    self.extend(self.top(), [])
                case 0x91:  # FROZENSET
                    self.since_mark()
                    push(Record("frozenset"))
                case 0x63:  # GLOBAL
                    push(self.name(self.line(), self.line()))
                case 0x93:  # STACK_GLOBAL
                    name, module = self.pop(), self.pop()
                    push(self.name(module, name))
                case 0x52 | 0x81:  # REDUCE, NEWOBJ
                    arguments, what = self.pop(), self.pop()
                    push(self.construct(what, arguments))
                case 0x92:  # NEWOBJ_EX
                    _, arguments, what = self.pop(), self.pop(), self.pop()
                    push(self.construct(what, arguments))
                case 0x62:  # BUILD
                    state = self.pop()
                    self.build(self.top(), state)
                case 0x68:  # BINGET
                    push(self.remembered(self.take(1)[0]))
                case 0x6A:  # LONG_BINGET
                    push(self.remembered(self.number("<I")))
                case 0x71:  # BINPUT
                    self.memo[self.take(1)[0]] = self.top()
                case 0x72:  # LONG_BINPUT
                    self.memo[self.number("<I")] = self.top()
                case 0x94:  # MEMOIZE
                    self.memo[len(self.memo)] = self.top()
                case 0x51:  # BINPERSID
                    if self.persistent is None:
                        raise UnpickleError("it refers to something outside of itself")
                    push(self.persistent(self.pop()))
                case _:
                    raise UnpickleError(f"it has the instruction {code:#x}, which no network's file has")

    def remembered(self, key: int) -> Any:
        if key not in self.memo:
            raise UnpickleError("its instructions do not fit together")
        return self.memo[key]


def run(
    view: memoryview,
    position: int,
    allowed: dict[str, Constructor],
    budget: list[int],
    inert: bool = False,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    machine = _Machine(view, position, allowed, inert, persistent, budget)
    try:
        return machine.run(), machine.position
    except (UnicodeDecodeError, RecursionError, OverflowError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, UnpickleError):
            raise
        raise UnpickleError(f"it is damaged ({error})") from None
