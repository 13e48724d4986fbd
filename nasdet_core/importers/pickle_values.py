"""The values of a pickle of weights as far as its check needs them: what they claim, not what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nasdet_core.importers.foreign_file import Refused

MAX_DIMENSIONS = 8

TORCH_STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NUMPY_DTYPES: Mapping[str, torch.dtype] = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}

Spend = Callable[[int], None]  # counts bytes of arrays; raises Refused when they are more than can be


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle refers to, e.g. collections.OrderedDict; it is not looked up."""

    module: str
    name: str


@dataclass(slots=True)
class TensorClaim:
    """A tensor or array that the pickle describes."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StorageClaim:
    """Memory of torch tensors, kept outside of the pickle under `key`."""

    dtype: torch.dtype
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes, or text that stands for bytes, too long to be a name: only their number is kept."""

    size: int


class OrderedPairs(dict[Any, Any]):
    """Stands for a collections.OrderedDict, which may carry attributes, unlike a dict."""


_PLAIN_DTYPE = (3, None, None, None, -1, -1, 0)  # version, no subarray, no fields, no alignment of its own
_BYTE_ORDERS = ("<", ">", "|", "=")


@dataclass(frozen=True, slots=True)
class DtypeClaim:
    dtype: torch.dtype

    def check_state(self, state: Any) -> None:
        """That it differs from its code in the byte order alone; else it is a record."""
        if not isinstance(state, tuple) or (*state[:1], *state[2:]) != _PLAIN_DTYPE or state[1] not in _BYTE_ORDERS:
            raise Refused("holds arrays of records, which are no tensors")


@dataclass(slots=True)
class ArrayClaim(TensorClaim):
    """An array of numpy; empty until its state is set."""

    def set_state(self, state: Any, spend: Spend) -> None:
        """numpy.ndarray.__setstate__: version, shape, dtype, order, data."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], DtypeClaim):
            raise Refused("holds an array in a form that numpy does not write")
        fill_array(self, state[1], state[2], state[4], spend)


def fill_array(array: ArrayClaim, shape: Any, dtype: DtypeClaim, data: Any, spend: Spend) -> None:
    array.shape, array.dtype = shape_of(shape), dtype.dtype
    held = length_of(data)
    if array.nbytes != held:
        raise Refused(f"claims an array of shape {array.shape} and {array.nbytes:,} bytes, but holds {held:,} of them")
    spend(held)


def key_of(value: Any) -> str | bytes | int:
    """Names and numbers only: hashing a nested tuple may take for ever."""
    if not isinstance(value, str | bytes | int):
        raise Refused(f"holds a mapping with a {word_for(value)} among its keys, where names are expected")
    return value


def shape_of(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise Refused("claims a tensor whose shape is none")
    return tuple(count_of(side) for side in value)


def count_of(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise Refused("claims a tensor of a negative or missing size")
    return value


def length_of(data: Any) -> int:
    if isinstance(data, Data):
        return data.size
    if not isinstance(data, str | bytes):
        raise Refused(f"holds an array whose data are a {word_for(data)}, where bytes are expected")
    return len(data)


def word_for(value: object) -> str:
    """How messages call a value, without showing it: it may be huge."""
    if isinstance(value, Name):
        return f"{value.module}.{value.name}"
    words = {Data: "text or bytes", OrderedPairs: "mapping", StorageClaim: "storage", ArrayClaim: "array"}
    return words.get(type(value), type(value).__name__)
