"""The pickle in a torch file, read as data: dicts, lists, scalars and descriptions of tensors, and nothing else.

Nothing is imported, called or hashed. An opcode or a name that a state dict of plain tensors does not need ends the
reading. Where the elements of the tensors are is left to `torch_files`.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vggquant.errors import SourceError
from vggquant.files.disk import Bytes
from vggquant.networks.network import MAX_RANK

MAX_BYTES, MAX_STEPS = 2**20, 200_000  # a VGG's takes 20 kB and some 1,000 steps

# what torch calls the types of its storages, in NumPy's words
_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}
_ORDERED_DICT = "collections OrderedDict"
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETER = "torch._utils _rebuild_parameter"
_DEVICE = "torch device"
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")  # Python 2 wrote the last two
_OTHERS = """
    PROTO FRAME STOP NONE NEWTRUE NEWFALSE BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET MARK EMPTY_TUPLE TUPLE1 TUPLE2
    TUPLE3 TUPLE EMPTY_LIST EMPTY_DICT APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL BINPERSID REDUCE BUILD
"""
_OPCODES = {
    opcode.code.encode("latin-1"): opcode
    for opcode in pickletools.opcodes
    if opcode.name in (*_NUMBERS, *_TEXTS, *_OTHERS.split())
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False)
class PickledDict:
    """A dict as pairs in order; keys are not hashed, and one may come twice."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def get(self, wanted: str) -> Any:
        """The last value of a key that is text; ``None`` if there is none."""
        return next((value for key, value in reversed(self.pairs) if type(key) is str and key == wanted), None)


@dataclass(frozen=True, eq=False)
class Storage:
    """Where the elements of tensors are.

    Args:
        key: Names it within the file.
        dtype: Element type in NumPy's words, or ``bfloat16``.
        count: Number of elements.
    """

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor's place within a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Named:
    """Something that a pickle names, ``torch FloatStorage``; what it stands for is never looked up."""

    name: str


@dataclass(frozen=True, eq=False)
class Pickle:
    """A pickle that was read.

    Args:
        content: What it holds. Dicts come as `PickledDict`, tensors as `StoredTensor`.
        length: In bytes.
        storages: Every storage that it names, by key.
    """

    content: Any
    length: int
    storages: Mapping[str, Storage]


def read_pickle(data: Bytes) -> Pickle:
    """Read one pickle.

    Args:
        data: Begins with the pickle; what follows is not looked at.

    Raises:
        SourceError: It holds more than plain tensors.
        ValueError: It is damaged, or far larger than that of a state dict.
    """
    file = io.BytesIO(data[: MAX_BYTES + 1].tobytes())
    walk = _Walk()
    try:
        while walk.count(1):
            byte = file.read(1)
            if byte not in _OPCODES:
                if byte:
                    raise _more(f"opcode {byte!r}")
                break
            opcode = _OPCODES[byte]
            argument = None
            if opcode.name == "GLOBAL":  # the library's reader would look for escapes, of which Python warns
                argument = f"{file.readline()[:-1].decode()} {file.readline()[:-1].decode()}"
            elif opcode.arg is not None:
                argument = opcode.arg.reader(file)
            if opcode.name == "STOP":
                return Pickle(walk.stack.pop(), file.tell(), walk.storages)
            walk.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, ValueError):
        if file.tell() <= MAX_BYTES:
            raise ValueError("a damaged pickle") from None
    raise ValueError("a pickle that ends early, or is far larger than that of a state dict")


def _more(what: str) -> SourceError:
    got = f"a pickle that holds more, such as a whole module ({what})"
    return SourceError(
        "a torch state dict of plain dense tensors", got, "save model.state_dict() of such tensors instead"
    )


class _Walk:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.steps = 0

    def count(self, steps: int) -> bool:
        """Take some steps, if there are as many left."""
        self.steps += steps
        return self.steps <= MAX_STEPS

    def step(self, code: str, argument: Any) -> None:
        """Do what one opcode says."""
        stack = self.stack
        if code in _NUMBERS or code in _TEXTS:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if code == "MEMOIZE" else argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code == "MARK":
            self.marks.append(len(stack))
        elif code == "EMPTY_TUPLE":
            stack.append(())
        elif code in _LENGTHS:
            stack.append(tuple(self.popped(len(stack) - _LENGTHS[code])))
        elif code == "TUPLE":
            stack.append(tuple(self.popped(self.marks.pop())))
        elif code in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if code == "EMPTY_LIST" else PickledDict())
        elif code in ("APPEND", "APPENDS"):
            added = self.popped(len(stack) - 1 if code == "APPEND" else self.marks.pop())
            self.top(list).extend(added)
        elif code in ("SETITEM", "SETITEMS"):
            added = self.popped(len(stack) - 2 if code == "SETITEM" else self.marks.pop())
            self.top(PickledDict).pairs.extend(zip(added[::2], added[1::2], strict=True))
        elif code not in ("PROTO", "FRAME"):
            self.call(code, argument)

    def call(self, code: str, argument: Any) -> None:
        """Do what the opcodes say that would make objects in an ordinary unpickler."""
        stack = self.stack
        if code == "GLOBAL":
            stack.append(_named(argument))
        elif code == "STACK_GLOBAL":
            module, name = self.popped(len(stack) - 2)
            stack.append(_named(f"{module} {name}"))
        elif code == "BINPERSID":
            storage = _storage(stack.pop())
            known = self.storages.setdefault(storage.key, storage)
            if (known.dtype, known.count) != (storage.dtype, storage.count):
                raise ValueError(storage.key)
            stack.append(known)
        elif code == "REDUCE":
            function, arguments = self.popped(len(stack) - 2)
            stack.append(self.made(function, arguments))
        else:  # BUILD: attributes of an OrderedDict, where modules keep their versions
            stack.pop()
            self.top(PickledDict)

    def made(self, function: Any, arguments: Any) -> Any:
        """What a call would have made."""
        if type(function) is not _Named or type(arguments) is not tuple:
            raise _more("a call")
        if function.name == _ORDERED_DICT and len(arguments) <= 1:
            pairs = arguments[0] if arguments else []
            if not self.count(len(pairs)):  # a step may copy what many steps have put together
                raise ValueError("copies without end")
            return PickledDict([(key, value) for key, value in pairs])
        if function.name in _REBUILD:
            return _tensor(*arguments[:4], *arguments[6:])
        if function.name == _PARAMETER and type(arguments[0]) is StoredTensor:
            return arguments[0]
        if function.name == _DEVICE:
            return function
        raise _more(function.name)

    def popped(self, begin: int) -> list[Any]:
        """Take what lies on the stack from a place on."""
        if begin < (self.marks[-1] if self.marks else 0):
            raise IndexError(begin)
        taken = self.stack[begin:]
        del self.stack[begin:]
        return taken

    def top(self, kind: type[Any]) -> Any:
        """What lies uppermost, which must be of some kind."""
        if type(self.stack[-1]) is not kind:
            raise _more(f"a {type(self.stack[-1]).__name__} that is changed")
        return self.stack[-1]


def _named(name: str) -> _Named:
    module, _, last = name.partition(" ")
    if name not in (_ORDERED_DICT, *_REBUILD, _PARAMETER, _DEVICE) and not (module == "torch" and last in _STORAGES):
        raise _more(name)
    return _Named(name)


def _storage(identity: Any) -> Storage:
    """The storage that a persistent identity stands for; a view of another one, which torch 0.3 had, is not read."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        raise _more("a storage of an older form")
    kind, named, key, _, count = identity[:5]
    if kind != "storage" or type(named) is not _Named or type(key) is not str or not _is_count(count):
        raise ValueError(identity)
    return Storage(key, _STORAGES[named.name.removeprefix("torch ")], count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, metadata: Any = None) -> StoredTensor:
    if metadata is not None and not (type(metadata) is PickledDict and not metadata.pairs):
        raise _more("a tensor whose elements are to be negated or conjugated")
    sides = (shape, strides)
    if type(storage) is not Storage or not all(type(side) is tuple and len(side) <= MAX_RANK for side in sides):
        raise _more("a tensor of another form")
    if len(shape) != len(strides) or not all(_is_count(number) for number in (offset, *shape, *strides)):
        raise ValueError(offset)
    return StoredTensor(storage, offset, shape, strides)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**63
