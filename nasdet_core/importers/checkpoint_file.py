"""Published weights, read from a file that a stranger made.

`open_checkpoint` finds the format by looking at the bytes and says what the file claims to hold, as tensors on the
meta device: names, shapes and types, no values. So whoever has no use for these tensors refuses them at the cost of
their names. `CheckpointFile.read` then reads the values, with the format's own reader in its safe form:
`torch.load(weights_only=True)`, safetensors, `numpy.load(allow_pickle=False)`, and for arrays in a pickle an
`Unpickler` that knows numpy's few names. None of them bounds what a hostile file costs; the checks in front of them
do (`pickle_claims`, `zip_directory`).
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from torch import Tensor

from nasdet_core.importers import array_file, torch_file
from nasdet_core.importers.foreign_file import Refused, open_foreign_file, refusals_as_sentences
from nasdet_core.importers.named_weights import Weights, weights_of

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_TAR, _TAR_OFFSET = b"ustar", 257
_PACKED_CONSTANTS = 16 * 2**20  # bytes
_JSON_OFFSET = 8  # in safetensors, behind the length of the header

# What the formats' readers raise on bytes that they cannot make sense of.
_READER_ERRORS = (
    array_file.UnpicklingError,
    SafetensorError,
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
)


@dataclass(frozen=True)
class Format:
    """A format of files by name, and its reader."""

    name: str
    read: Callable[[Path], object]


_TORCH_ZIP = Format("torch zip", torch_file.read_zip)
_TORCH_LEGACY = Format("torch legacy", torch_file.read_legacy)
_PICKLED_ARRAYS = Format("pickled arrays", array_file.read_pickle)
_NPZ = Format("npz", array_file.read_npz)
_SAFETENSORS = Format("safetensors", array_file.read_safetensors)


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint that was looked through; its values are still in the file."""

    path: Path
    format: Format
    claims: Mapping[str, Tensor]  # by name, on the meta device
    not_used: tuple[str, ...]  # what the file holds beside the weights, e.g. optimizer

    def read(self) -> Weights:
        """The weights by name, on the CPU; they may be views into the file and must not be written to.

        CheckpointError when the values are not as the file claims, OSError when it cannot be read.
        """
        with refusals_as_sentences(self.path):
            with _reader_errors_as_refusals():
                top = self.format.read(self.path)
            weights, _ = weights_of(top)
            if _kinds(weights) != _kinds(self.claims):
                raise Refused("gives other tensors to its reader than it claims to hold")
        return weights

    def digest(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(path: Path) -> CheckpointFile:
    """Find out what a file of weights holds, without reading their values.

    Known are files of `torch.save` (zip archives, and what was written before torch 1.6), pickles of a mapping from
    names to numpy arrays (protocol 2 and later; of Python 2 as well), safetensors and npz. The weights are the file's
    top mapping, or what it has under `model` or `state_dict`; `module.` is taken off when every name has it. Raises
    CheckpointError for everything else and for files that claim more than they have, OSError when the file cannot be
    opened.
    """
    with refusals_as_sentences(path), open_foreign_file(path) as (file, size):
        format, top = _look_through(path, file, size)
        claims, not_used = weights_of(top)
        # Else one stored tensor could be used again and again. Packed weights hardly shrink, but for some constants.
        most = 2 * size + _PACKED_CONSTANTS if format is _NPZ else size
        if sum(claim.numel() * claim.itemsize for claim in claims.values()) > most:
            raise Refused("claims tensors of more bytes than the file has")
    return CheckpointFile(path, format, claims, not_used)


def _look_through(path: Path, file: BinaryIO, size: int) -> tuple[Format, object]:
    start = file.read(_TAR_OFFSET + len(_TAR))
    file.seek(0)
    if start.endswith(_TAR):
        raise Refused("is a tar archive, the form of torch's first versions, which has no safe reader")
    if start.startswith(_ZIP):
        if array_file.is_npz(file, size):
            with _reader_errors_as_refusals():
                return _NPZ, array_file.claims_of_npz(file, size)
        return _TORCH_ZIP, torch_file.claims_of_zip(file, size)
    if start.startswith(torch_file.LEGACY_START):
        return _TORCH_LEGACY, torch_file.claims_of_legacy(file, size)
    if start.startswith(_PICKLE):
        return _PICKLED_ARRAYS, array_file.claims_of_pickle(file, size)
    if start[_JSON_OFFSET : _JSON_OFFSET + 1] == b"{":
        with _reader_errors_as_refusals():
            return _SAFETENSORS, array_file.claims_of_safetensors(path, start)
    raise Refused("begins like none of the known formats: torch.save, pickle of protocol 2 to 5, safetensors, npz")


@contextmanager
def _reader_errors_as_refusals() -> Iterator[None]:
    try:
        yield
    except _READER_ERRORS as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"is damaged ({first:.200})") from error


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
