"""Files of torch.save: zip archives, and what was written before torch 1.6."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import torch

from nasdet_core.importers.foreign_file import MAX_PIECE_BYTES, BoundedStream, Refused, open_foreign_file
from nasdet_core.importers.pickle_claims import inspect_plain_pickle, inspect_torch_pickle
from nasdet_core.importers.pickle_values import StorageClaim
from nasdet_core.importers.zip_directory import Entries, check_contents, checked_entries, read_entry

# What a legacy file begins with, two pickles: a magic number and the version of the format.
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."


def claims_of_zip(file: BinaryIO, size: int) -> object:
    """What the pickle of the archive holds, once every storage was found to be as long as it claims."""
    entries = checked_entries(file, size)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Refused("is a zip file that neither torch.save nor numpy.savez has written")
    root = pickles[0].removesuffix("data.pkl")
    _check_entries(root, entries)

    def check(storage: StorageClaim) -> None:
        held = entries.get(f"{root}data/{storage.key}")
        if held is None or held.file_size != storage.nbytes:
            there = "nothing" if held is None else f"{held.file_size:,}"
            raise Refused(f"claims a storage of {storage.nbytes:,} bytes, but holds {there} of them")

    claims = inspect_torch_pickle(io.BytesIO(read_entry(file, entries[pickles[0]])), check)
    check_contents(file, entries)
    return claims


def read_zip(path: Path) -> object:
    """Tensors are views into the file: what nobody looks at, such as the state of an optimizer, is never read."""
    return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=True)


def claims_of_legacy(file: BinaryIO, size: int) -> object:
    """Two fixed pickles, then: the system, the tensors, the keys of their storages; each storage, its length first."""
    stream = BoundedStream(file, size)
    storages: dict[str, StorageClaim] = {}

    def check(storage: StorageClaim) -> None:
        if storage.nbytes > size or storages.setdefault(storage.key, storage) != storage:
            raise Refused(f"claims a storage of {storage.nbytes:,} bytes, but has {size:,} in all")

    stream.seek(len(LEGACY_START))
    inspect_plain_pickle(stream)
    top = inspect_torch_pickle(stream, check)
    keys = inspect_plain_pickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise Refused("lists other storages than its tensors use")
    for key in keys:
        held = int.from_bytes(stream.read(8), "little")
        if held != storages[key].numel:
            raise Refused(f"claims a storage of {storages[key].numel:,} values, but holds {held:,} of them")
        stream.seek(storages[key].nbytes, os.SEEK_CUR)
    if stream.tell() != size:
        raise Refused(f"has {size:,} bytes, where its tensors end at {stream.tell():,}")
    return top


def read_legacy(path: Path) -> object:
    with open_foreign_file(path) as (file, size):
        stream = cast(BinaryIO, BoundedStream(file, size))
        return torch.load(stream, map_location="cpu", weights_only=True)


def _check_entries(root: str, entries: Entries) -> None:
    for name, entry in entries.items():
        inside = name.removeprefix(root)
        if not name.startswith(root) or inside.startswith("code/") or inside == "constants.pkl":
            raise Refused("is a TorchScript program; its state_dict() saved with torch.save can be read")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Refused("has packed zip entries, where torch.save packs nothing")
        if inside == "data.pkl" and entry.file_size > MAX_PIECE_BYTES:
            raise Refused(f"has a pickle of {entry.file_size:,} bytes, where {MAX_PIECE_BYTES:,} are accepted")
