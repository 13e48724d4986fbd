"""What a pickle of weights claims to hold, found without unpickling it.

Readers that allow few names (`torch.load(weights_only=True)`, an `Unpickler` with an allow-list) keep foreign code
out, but not foreign sizes: 850 bytes make torch's reader allocate a gigabyte (`bytearray` is on its list), a memo
index of 2**31 takes 32 GiB, and a tuple that holds the tuple before it twice, sixty times over, is never done with
being hashed. So the instructions are walked through first. Nothing is imported, called or allocated here, only names
are hashed, and only what a file of named tensors needs is accepted; what passes is safe to hand to a reader.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import torch

from nasdet_core.importers.foreign_file import MAX_PIECE_BYTES, BoundedStream, Refused
from nasdet_core.importers.pickle_objects import NUMPY_NAMES, TORCH_NAMES, Names
from nasdet_core.importers.pickle_values import (
    ArrayClaim,
    Data,
    DtypeClaim,
    Name,
    OrderedPairs,
    StorageClaim,
    count_of,
    key_of,
    word_for,
)

# The largest detector, a supernet with its optimizer, has a pickle of 1 MB, 263,000 instructions and 12,000 reductions.
MAX_INSTRUCTIONS = 600_000
MAX_REDUCTIONS = 50_000  # two per tensor
MAX_NAME = 1024  # characters; longer text is data
MAX_NAMES = 4 * 2**20  # characters of all names

StorageCheck = Callable[[StorageClaim], None]  # raises Refused


def inspect_torch_pickle(stream: BoundedStream | BinaryIO, check: StorageCheck) -> object:
    """The value of a pickle within a torch file; `check` sees each storage when it is claimed."""
    return _inspect(stream, _Machine(TORCH_NAMES, check))


def inspect_numpy_pickle(stream: BoundedStream | BinaryIO, size: int) -> object:
    """The value of a pickle whose only objects are numpy's arrays; `size`: bytes of the file."""
    # Every array is made of bytes, and both may be as many as the file has.
    return _inspect(stream, _Machine(NUMPY_NAMES, None, budget=2 * size))


def inspect_plain_pickle(stream: BoundedStream | BinaryIO) -> object:
    """The value of a pickle without any object."""
    return _inspect(stream, _Machine({}, None))


def _inspect(stream: BoundedStream | BinaryIO, machine: _Machine) -> object:
    try:
        for instruction, argument, _ in pickletools.genops(cast(BinaryIO, stream)):
            machine.step(instruction.name, argument)
    except (ValueError, struct.error, OverflowError) as error:  # of pickletools: no pickle, or its end is missing
        raise Refused("is damaged or cut short: its pickle cannot be followed to an end") from error
    return machine.result


class _Machine:
    """The stack and the memo of an unpickler, over claims instead of objects."""

    def __init__(self, names: Names, check: StorageCheck | None, budget: int = 0):
        self.names = names
        self.check_storage = check
        self.budget = budget  # bytes that arrays may still take
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.reductions = 0
        self.names_left = MAX_NAMES
        self.result: object = None

    def step(self, instruction: str, argument: Any) -> None:
        self.steps += 1
        if self.steps > MAX_INSTRUCTIONS:
            raise Refused(f"has a pickle of more than {MAX_INSTRUCTIONS:,} instructions")
        act = _INSTRUCTIONS.get(instruction)
        if act is None:
            raise Refused(f"uses the pickle instruction {instruction}, which weights do not need")
        act(self, argument)

    def push(self, value: object) -> None:
        self.stack.append(value)

    def push_name(self, value: str | bytes) -> None:
        self.names_left -= len(value)
        if self.names_left < 0:
            raise Refused(f"has names of more than {MAX_NAMES:,} characters")
        self.stack.append(value)

    def pop(self) -> Any:
        self._need(1)
        return self.stack.pop()

    def top(self) -> Any:
        self._need(1)
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise _damaged()
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop_last(self, count: int) -> tuple[Any, ...]:
        self._need(count)
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def spend(self, nbytes: int) -> None:
        self.budget -= nbytes
        if self.budget < 0:
            raise Refused("claims arrays of more bytes than the file has")

    def _need(self, count: int) -> None:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) - floor < count:
            raise _damaged()


def _damaged() -> Refused:
    return Refused("is damaged: its pickle contradicts itself")


# --- instructions ---------------------------------------------------------------------------------------------------


def _protocol(_: _Machine, argument: int) -> None:
    if not 2 <= argument <= 5:
        raise Refused(f"is a pickle of protocol {argument}, where 2 to 5 are accepted")


def _stop(machine: _Machine, _: Any) -> None:
    machine.result = machine.pop()


def _frame(_: _Machine, argument: int) -> None:
    """How much to read at once."""
    if argument > MAX_PIECE_BYTES:
        raise _damaged()


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(len(machine.stack))


def _push_constant(value: object) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _push_argument(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _push_long(machine: _Machine, argument: int) -> None:
    if argument.bit_length() > 63:
        raise Refused(f"holds a whole number of {argument.bit_length()} bits")
    machine.push(argument)


def _push_text(machine: _Machine, argument: str) -> None:
    if len(argument) <= MAX_NAME:
        machine.push_name(argument)
        return
    try:
        machine.push(Data(len(argument.encode("latin-1"))))
    except UnicodeEncodeError as error:
        raise Refused(f"holds a text of {len(argument):,} characters, which is neither a name nor data") from error


def _push_bytes(machine: _Machine, argument: bytes | bytearray) -> None:
    if len(argument) <= MAX_NAME:
        machine.push_name(bytes(argument))
    else:
        machine.push(Data(len(argument)))


def _push_list(machine: _Machine, _: Any) -> None:
    machine.push([])


def _push_dict(machine: _Machine, _: Any) -> None:
    machine.push({})


def _append(machine: _Machine, _: Any) -> None:
    _extend(machine, [machine.pop()])


def _appends(machine: _Machine, _: Any) -> None:
    _extend(machine, machine.pop_to_mark())


def _extend(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        raise _damaged()
    target.extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    _update(machine, list(machine.pop_last(2)))


def _set_items(machine: _Machine, _: Any) -> None:
    _update(machine, machine.pop_to_mark())


def _update(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, dict) or len(items) % 2:
        raise _damaged()
    target.update(zip(map(key_of, items[::2]), items[1::2], strict=True))


def _tuple(machine: _Machine, _: Any) -> None:
    machine.push(tuple(machine.pop_to_mark()))


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(machine.pop_last(count))


def _memo_put(machine: _Machine, argument: int) -> None:
    if argument > MAX_INSTRUCTIONS:
        raise Refused(f"asks for a memo of {argument:,} places")
    machine.memo[argument] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _memo_get(machine: _Machine, argument: int) -> None:
    if argument not in machine.memo:
        raise _damaged()
    machine.push(machine.memo[argument])


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push(_known_name(machine, module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.pop_last(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise _damaged()
    machine.push(_known_name(machine, module, name))


def _known_name(machine: _Machine, module: str, name: str) -> Name:
    found = Name(module, name)
    if found not in machine.names:
        raise Refused(f"refers to {module[:80]}.{name[:80]}, which weights do not need and which could run code")
    return found


def _reduce(machine: _Machine, _: Any) -> None:
    machine.reductions += 1
    if machine.reductions > MAX_REDUCTIONS:
        raise Refused(f"makes more than {MAX_REDUCTIONS:,} objects")
    arguments = machine.pop()
    function = machine.pop()
    handler = machine.names.get(function) if isinstance(function, Name) else None
    if not callable(handler) or not isinstance(arguments, tuple):
        raise Refused(f"calls a {word_for(function)}, where only tensors, arrays and mappings may be made")
    machine.push(handler(arguments, machine.spend))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    target = machine.top()
    if isinstance(target, ArrayClaim):
        target.set_state(state, machine.spend)
    elif isinstance(target, DtypeClaim):
        target.check_state(state)
    elif not isinstance(target, OrderedPairs) or not _is_module_metadata(state):
        raise Refused(f"sets attributes of a {word_for(target)}")


def _is_module_metadata(state: Any) -> bool:
    """Versions of modules, which torch.nn.Module.state_dict() hangs on its result."""
    return isinstance(state, dict) and set(state) <= {"_metadata"} and all(isinstance(v, dict) for v in state.values())


def _persistent(machine: _Machine, _: Any) -> None:
    claim = machine.pop()
    if machine.check_storage is None:
        raise Refused("refers to something outside of its pickle")
    if not isinstance(claim, tuple) or len(claim) not in (5, 6) or claim[0] != "storage":
        raise Refused("refers to something outside of its pickle that is no storage of tensors")
    _, kind, key, location, numel = claim[:5]
    dtype = machine.names.get(kind) if isinstance(kind, Name) else None
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not isinstance(location, str):
        raise Refused("refers to something outside of its pickle that is no storage of tensors")
    if len(claim) == 6 and claim[5] is not None:
        raise Refused("holds views of storages, which torch has not written since version 0.4")
    storage = StorageClaim(dtype, key, count_of(numel))
    machine.check_storage(storage)
    machine.push(storage)


_Act = Callable[[_Machine, Any], None]
_INSTRUCTIONS: Mapping[str, _Act] = {
    "PROTO": _protocol,
    "STOP": _stop,
    "FRAME": _frame,
    "MARK": _mark,
    "NONE": _push_constant(None),
    "NEWTRUE": _push_constant(True),
    "NEWFALSE": _push_constant(False),
    "EMPTY_TUPLE": _push_constant(()),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT"), _push_argument),
    "LONG1": _push_long,
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _push_text),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push_bytes),
    "EMPTY_LIST": _push_list,
    "APPEND": _append,
    "APPENDS": _appends,
    "EMPTY_DICT": _push_dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "BINPUT": _memo_put,
    "LONG_BINPUT": _memo_put,
    "MEMOIZE": _memoize,
    "BINGET": _memo_get,
    "LONG_BINGET": _memo_get,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
