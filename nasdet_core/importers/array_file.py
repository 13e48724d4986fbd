"""Files of named arrays: npz, safetensors, and pickles of a mapping from names to numpy arrays."""

from __future__ import annotations

import pickle
import tokenize
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from safetensors import safe_open

from nasdet_core.importers.foreign_file import BoundedStream, Refused, open_foreign_file
from nasdet_core.importers.named_weights import SHOWN_LENGTH
from nasdet_core.importers.pickle_claims import inspect_numpy_pickle
from nasdet_core.importers.pickle_objects import NUMPY_NAMES
from nasdet_core.importers.pickle_values import NUMPY_DTYPES, Name, TensorClaim
from nasdet_core.importers.zip_directory import checked_entries

UnpicklingError = pickle.UnpicklingError  # torch's reader raises it as well

MAX_SAFETENSORS_HEADER = 2 * 2**20  # bytes; some 150 per tensor
_LENGTH_BYTES = 8  # in front of the header
_NPY = ".npy"
_SAFETENSORS_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


# --- pickle ---------------------------------------------------------------------------------------------------------


def claims_of_pickle(file: BinaryIO, size: int) -> object:
    stream = BoundedStream(file, size)
    top = inspect_numpy_pickle(stream, size)
    if stream.tell() != size:
        raise Refused("has something behind its pickle")
    return top


def read_pickle(path: Path) -> object:
    """Names and data of Python 2 come as text, one character a byte."""
    with open_foreign_file(path) as (file, size):
        return _ArrayUnpickler(cast(BinaryIO, BoundedStream(file, size)), encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    """Makes mappings and numpy's arrays, and nothing else."""

    def find_class(self, module: str, name: str, /) -> Any:
        if Name(module, name) not in NUMPY_NAMES:
            raise Refused(f"refers to {module[:SHOWN_LENGTH]}.{name[:SHOWN_LENGTH]}, which weights do not need")
        if name == "encode":
            return _latin1
        if name == "OrderedDict":
            return OrderedDict
        # What numpy 1 called numpy.core.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them for Python 2; codecs.encode itself takes any encoding."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused("encodes a text in another way than that in which pickles hold bytes")
    return text.encode("latin-1")


# --- npz ------------------------------------------------------------------------------------------------------------


def is_npz(file: BinaryIO, size: int) -> bool:
    return all(name.endswith(_NPY) for name in checked_entries(file, size))


def claims_of_npz(file: BinaryIO, size: int) -> object:
    entries = checked_entries(file, size)
    with zipfile.ZipFile(file) as archive:
        return {name.removesuffix(_NPY): _npy_claim(archive, entry) for name, entry in entries.items()}


def read_npz(path: Path) -> object:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _npy_claim(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> TensorClaim:
    name = entry.filename[:SHOWN_LENGTH]
    with archive.open(entry) as member:
        # Version 2 has headers of any length, for records of many fields.
        if np.lib.format.read_magic(member) != (1, 0):
            raise Refused(f"has the array {name} in another version than 1 of the npy format")
        try:
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except (RecursionError, MemoryError, SyntaxError, tokenize.TokenError) as error:  # of Python's parser
            raise Refused(f"has the array {name} with a header that is none") from error
        code = f"{dtype.kind}{dtype.itemsize}"
        if code not in NUMPY_DTYPES:
            raise Refused(f"has the array {name} of type {dtype!s:.40}, where numbers are expected")
        claim = TensorClaim(shape, NUMPY_DTYPES[code])
        if min(shape, default=0) < 0 or member.tell() + claim.nbytes != entry.file_size:
            raise Refused(f"claims an array of shape {shape!s:.80} in {entry.file_size:,} bytes")
        return claim


# --- safetensors ----------------------------------------------------------------------------------------------------


def claims_of_safetensors(path: Path, start: bytes) -> object:
    """`start`: the first bytes of the file."""
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if length > MAX_SAFETENSORS_HEADER:
        raise Refused(f"has a header of {length:,} bytes, where {MAX_SAFETENSORS_HEADER:,} are accepted")
    claims = {}
    with safe_open(path, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  # it is no mapping
            part = tensors.get_slice(name)
            dtype = _SAFETENSORS_DTYPES.get(part.get_dtype())
            if dtype is None:
                raise Refused(
                    f"has the tensor {name[:SHOWN_LENGTH]} of type {part.get_dtype()}, which weights never are"
                )
            claims[name] = TensorClaim(tuple(part.get_shape()), dtype)
    return claims


def read_safetensors(path: Path) -> object:
    with safe_open(path, framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  # it is no mapping
