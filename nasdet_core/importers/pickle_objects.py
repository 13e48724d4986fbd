"""The few names that a pickle of weights may refer to, and what they would make. Nothing is imported or called."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nasdet_core.importers.foreign_file import Refused
from nasdet_core.importers.pickle_values import (
    NUMPY_DTYPES,
    TORCH_STORAGES,
    ArrayClaim,
    Data,
    DtypeClaim,
    Name,
    OrderedPairs,
    Spend,
    StorageClaim,
    TensorClaim,
    count_of,
    fill_array,
    key_of,
    length_of,
    shape_of,
    word_for,
)

Handler = Callable[[tuple[Any, ...], Spend], object]  # what calling a name with these arguments gives
Names = Mapping[Name, Handler | torch.dtype | None]  # None: may be referred to and not called


_TAKEN = object()  # stands in a list whose pairs have been taken out


def _make_ordered_dict(arguments: tuple[Any, ...], _: Spend) -> OrderedPairs:
    """Python 2 hands the items over as pairs, in a list of their own; Python 3 sets them afterwards."""
    made = OrderedPairs()
    if not arguments:
        return made
    pairs = arguments[0]
    if len(arguments) != 1 or not isinstance(pairs, list):
        raise Refused("makes a mapping of something else than pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Refused("makes a mapping of something else than pairs")
        made[key_of(pair[0])] = pair[1]
    if pairs:
        pairs[:] = [_TAKEN]  # or one list would make any number of mappings; a second use finds no pair in it
    return made


def _make_tensor(arguments: tuple[Any, ...], _: Spend) -> TensorClaim:
    """torch._utils._rebuild_tensor(_v2): storage, offset, shape, stride, requires_grad, hooks, metadata."""
    if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], StorageClaim):
        raise Refused("makes a tensor of something else than a storage")
    storage, offset, shape, stride = arguments[:4]
    shape, stride = shape_of(shape), shape_of(stride)
    if len(shape) != len(stride) or any(arguments[5:]):
        raise Refused("makes a tensor with hooks, metadata or strides that do not fit its shape")
    claim = TensorClaim(shape, storage.dtype)
    last = count_of(offset) + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if math.prod(shape) > storage.numel or (claim.nbytes and last >= storage.numel):
        raise Refused(f"claims a tensor of shape {shape} in a storage of {storage.numel:,} values")
    return claim


def _make_parameter(arguments: tuple[Any, ...], _: Spend) -> TensorClaim:
    """torch._utils._rebuild_parameter: tensor, requires_grad, hooks."""
    if len(arguments) != 3 or not isinstance(arguments[0], TensorClaim) or arguments[2]:
        raise Refused("makes a parameter of something else than a tensor")
    return arguments[0]


def _make_empty_array(arguments: tuple[Any, ...], _: Spend) -> ArrayClaim:
    """numpy's _reconstruct: ndarray, (0,), b"b"; the array is filled afterwards."""
    if len(arguments) != 3 or arguments[0] != _NDARRAY or arguments[1] != (0,):
        raise Refused("makes an array of something else than numpy.ndarray")
    return ArrayClaim((0,), torch.uint8)


def _make_array_of_buffer(arguments: tuple[Any, ...], spend: Spend) -> ArrayClaim:
    """numpy's _frombuffer (protocol 5): data, dtype, shape, order."""
    if len(arguments) != 4 or not isinstance(arguments[1], DtypeClaim):
        raise Refused("holds an array in a form that numpy does not write")
    array = ArrayClaim((0,), torch.uint8)
    fill_array(array, arguments[2], arguments[1], arguments[0], spend)
    return array


def _make_scalar(arguments: tuple[Any, ...], spend: Spend) -> ArrayClaim:
    """numpy's scalar: dtype, data."""
    if len(arguments) != 2 or not isinstance(arguments[0], DtypeClaim):
        raise Refused("holds a number in a form that numpy does not write")
    array = ArrayClaim((), torch.uint8)
    fill_array(array, (), arguments[0], arguments[1], spend)
    return array


def _make_dtype(arguments: tuple[Any, ...], _: Spend) -> DtypeClaim:
    """numpy.dtype: code, align, copy."""
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or code not in NUMPY_DTYPES or len(arguments) != 3:
        shown = code[:20] if isinstance(code, str) else word_for(code)
        raise Refused(f"holds arrays of {shown!r}, where numbers are expected ({', '.join(NUMPY_DTYPES)})")
    return DtypeClaim(NUMPY_DTYPES[code])


def _make_bytes(arguments: tuple[Any, ...], spend: Spend) -> Data:
    """codecs.encode(text, "latin1"): how Python 3 writes bytes for Python 2."""
    if len(arguments) != 2 or arguments[1] not in ("latin1", "latin-1"):
        raise Refused("encodes a text in another way than that in which pickles hold bytes")
    data = Data(length_of(arguments[0]))
    spend(data.size)
    return data


_NDARRAY = Name("numpy", "ndarray")
_ORDERED_DICT = Name("collections", "OrderedDict")
TORCH_NAMES: Names = {
    _ORDERED_DICT: _make_ordered_dict,
    Name("torch._utils", "_rebuild_tensor"): _make_tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    Name("torch._utils", "_rebuild_parameter"): _make_parameter,
    **{Name("torch", storage): dtype for storage, dtype in TORCH_STORAGES.items()},
}
# numpy.core is what numpy._core was called before numpy 2.
NUMPY_NAMES: Names = {
    _ORDERED_DICT: _make_ordered_dict,
    _NDARRAY: None,
    Name("numpy", "dtype"): _make_dtype,
    Name("codecs", "encode"): _make_bytes,
    Name("_codecs", "encode"): _make_bytes,
    **{
        Name(f"{core}.{module}", name): handler
        for core in ("numpy.core", "numpy._core")
        for module, name, handler in (
            ("multiarray", "_reconstruct", _make_empty_array),
            ("multiarray", "scalar", _make_scalar),
            ("numeric", "_frombuffer", _make_array_of_buffer),
        )
    },
}
