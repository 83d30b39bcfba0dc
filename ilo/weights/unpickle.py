"""Reading pickles without executing them: an interpreter for plain data and a fixed list of constructors.

Python's own unpickler calls whatever a file names. This one never imports a name: a global stays a `Name` until a
fixed table maps it to a tensor, dict or inert record; every other name is refused. Bytes and long texts are read on
demand, and all work is limited by a `Budget`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ilo.text.words import shown
from ilo.weights.budget import Budget
from ilo.weights.lazy import DTYPES, Extent, LazyTensor, ReadError
from ilo.weights.pickled import Constructor, LongText, Name, Record, plain_key

WINDOW = 16_384  # bytes of the file read at once
LONGEST_TEXT = 100_000  # bytes; longer texts stay in the file
LONGEST_NAME = 200  # characters of a module or class name


# Modules of training programs. Their objects in a torch file become inert records, whose state is never used.
INERT = (
    *("dill", "robustness", "cox", "argparse", "numpy", "torch.optim"),
    *("__main__", "__builtin__.__main__", "builtins.__dict__"),  # used by dill for functions
    *(f"torch.{name}" for name in ("Size", "device", "float16", "bfloat16", "float32", "float64", "int64")),
)


def _inert(name: str) -> bool:
    return any(name == root or name.startswith(root + ".") for root in INERT)


@dataclass
class _Machine:
    """The state of reading one pickle: position, stack, marks and memo."""

    data: Extent
    base: int  # position of the window in the file
    allowed: dict[str, Constructor]
    inert: bool
    persistent: Callable[[Any], Any] | None
    budget: Budget
    window: bytes = b""
    at: int = 0  # position in the window
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    @property
    def position(self) -> int:
        return self.base + self.at

    def take(self, count: int) -> bytes:
        """Read the next few bytes."""
        if self.at + count > len(self.window):
            self.base, self.at = self.position, 0
            self.window = bytes(self.data.read(self.base, min(max(count, WINDOW), len(self.data) - self.base)))
            if count > len(self.window):
                raise ReadError("it ends too early; copy or fetch it again")
        part = self.window[self.at : self.at + count]
        self.at += count
        return part

    def skip(self, count: int) -> Extent:
        """Skip bytes, possibly many, without reading them. Returns their extent."""
        part = self.data.part(self.position, count)
        inside = self.at + count <= len(self.window)
        self.base, self.at = (self.base, self.at + count) if inside else (self.position + count, 0)
        self.window = self.window if inside else b""
        return part

    def number(self, code: str) -> int:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self, count: int, encoding: str = "utf-8") -> str | LongText:
        if count > LONGEST_TEXT and encoding == "utf-8":
            return LongText(self.skip(count))
        self.budget.spend("text", count)
        return self.skip(count).read().decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")

    def line(self) -> str:
        characters = bytearray()
        while (byte := self.take(1)[0]) != 10:
            characters.append(byte)
            if len(characters) > LONGEST_NAME:
                raise ReadError("a name in it is too long")
        return characters.decode("utf-8")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ReadError("its instructions do not fit together")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise ReadError("its instructions do not fit together")
        begin = self.marks.pop()
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    def construct(self, what: Any, arguments: Any) -> Any:
        if self.inert and isinstance(what, Record):  # calling a record gives another inert record
            return Record(what.name)
        if not isinstance(what, Name) or not isinstance(arguments, tuple):
            raise ReadError("it calls something that has no name")
        if str(what) in self.allowed:
            return self.allowed[str(what)](arguments, self.budget)
        return Record(str(what), arguments)

    def name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > LONGEST_NAME:
            raise ReadError("a name in it is not text, or too long")
        made = Name(module, name)
        if module.startswith("dnnlib.tflib"):
            raise ReadError(
                "it is a network of NVIDIA's TensorFlow programs; convert it with legacy.py of stylegan2-ada-pytorch"
            )
        known = str(made) in self.allowed or (module == "torch" and name in DTYPES)
        if not known and not (self.inert and _inert(str(made))):
            raise ReadError(f"it refers to {shown(str(made))}, which no network needs; nothing was executed")
        return made

    def items(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):  # its items are ignored
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise ReadError("its instructions do not fit together")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    def extend(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):
            return
        if not isinstance(target, list):
            raise ReadError("its instructions do not fit together")
        target.extend(values)

    def build(self, target: Any, state: Any) -> None:
        if isinstance(target, Record):
            target.state = state
        # The state of a dict or tensor consists of attributes, such as a state dict's `_metadata`; it is ignored.
        elif not isinstance(target, (dict, LazyTensor)):
            raise ReadError("it sets the state of something that has none")

    def run(self) -> Any:
        push = self.stack.append
        while True:
            self.budget.spend("instructions")
            code = self.take(1)[0]
            match code:
                case 0x80:  # PROTO
                    if self.take(1)[0] > 5:
                        raise ReadError("it uses a pickle protocol newer than 5")
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
                        raise ReadError("it holds a number of absurd size")
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
                    push(self.skip(self.take(1)[0]))
                case 0x42:  # BINBYTES
                    push(self.skip(self.number("<I")))
                case 0x8E:  # BINBYTES8
                    push(self.skip(self.number("<Q")))
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
                        raise ReadError("it refers to an object outside the file")
                    push(self.persistent(self.pop()))
                case _:
                    raise ReadError(f"it has the instruction {code:#x}, which network files never use")

    def remembered(self, key: int) -> Any:
        if key not in self.memo:
            raise ReadError("its instructions do not fit together")
        return self.memo[key]


def run(
    data: Extent,
    position: int,
    allowed: dict[str, Constructor],
    budget: Budget,
    inert: bool = False,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """Read one pickle.

    Args:
        data: bytes that contain the pickle.
        position: position in `data` at which the pickle begins.
        allowed: constructors that the pickle may refer to, by module and name.
        budget: limits for reading the whole file.
        inert: whether objects of training programs become records; otherwise their names are refused.
        persistent: function that returns the object of a persistent id; None refuses them.

    Returns:
        The unpickled value, and the position after the pickle.

    Raises:
        ReadError: the pickle is damaged, refers to any other name, or exceeds the budget.
    """
    machine = _Machine(data, position, allowed, inert, persistent, budget)
    try:
        return machine.run(), machine.position
    except (UnicodeError, RecursionError, OverflowError, ValueError, TypeError, IndexError, struct.error) as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"it is damaged ({shown(str(error))})") from None
