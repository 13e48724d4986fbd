"""Files that look like checkpoints and mean harm: what they would do if a reader believed them.

Each builder writes one file and says, as a part of the sentence, why it must be refused.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

Builder = Callable[[Path, str], str]  # (file to write, shell command that must never run) -> part of the refusal

HUGE = 2**40


# --- pickles, instruction by instruction ----------------------------------------------------------------------------


def proto(version: int, *parts: bytes) -> bytes:
    return b"\x80" + bytes([version]) + b"".join(parts) + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data


def group(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + group(*arguments) + b"R"


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def system(command: str) -> bytes:
    return call(name("os", "system"), text(command))


def storage(numel: int, key: str = "0") -> bytes:
    return group(text("storage"), name("torch", "FloatStorage"), text(key), text("cpu"), whole(numel)) + b"Q"


def tensor(memory: bytes, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    sides, steps = (group(*map(whole, values)) for values in (shape, stride))
    hooks = call(name("collections", "OrderedDict"))
    return call(name("torch._utils", "_rebuild_tensor_v2"), memory, whole(0), sides, steps, b"\x89", hooks)


def dtype(code: str) -> bytes:
    state = group(whole(3), text("<"), b"N", b"N", b"N", whole(-1), whole(-1), whole(0))
    return call(name("numpy", "dtype"), text(code), b"\x89", b"\x88") + state + b"b"


def array(shape: tuple[int, ...], data: bytes, code: str = "f4") -> bytes:
    empty = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), group(whole(0)), text("b"))
    return empty + group(whole(1), group(*map(whole, shape)), dtype(code), b"\x89", data) + b"b"


def raw(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


# --- torch files around a pickle ------------------------------------------------------------------------------------


def torch_zip(file: Path, data_pkl: bytes, *, memory: bytes = b"\0" * 16, packed: bool = False) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", data_pkl)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", memory)
        archive.writestr("a/version", "3\n")


def torch_legacy(file: Path, top: bytes, *, keys: tuple[str, ...] = ("0",), rest: bytes = b"") -> None:
    start = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."
    system_info = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    file.write_bytes(start + system_info + top + pickle.dumps(list(keys), 2) + rest)


# --- code -----------------------------------------------------------------------------------------------------------


def reduce_in_torch_zip(file: Path, command: str) -> str:
    torch_zip(file, proto(2, mapping(w=system(command))))
    return "refers to os.system"


def reduce_in_torch_legacy(file: Path, command: str) -> str:
    torch_legacy(file, proto(2, mapping(w=system(command))))
    return "refers to os.system"


def reduce_in_pickle(file: Path, command: str) -> str:
    file.write_bytes(proto(2, mapping(w=system(command))))
    return "refers to os.system"


def reduce_behind_honest_weights(file: Path, command: str) -> str:
    honest = array((1,), raw(b"\0" * 4))
    file.write_bytes(proto(3, mapping(model=mapping(w=honest), optimizer=system(command))))
    return "refers to os.system"


def getattr_chain(file: Path, command: str) -> str:
    imported = call(name("builtins", "getattr"), name("numpy", "ndarray"), text("__class__"))
    file.write_bytes(proto(2, mapping(w=imported, v=system(command))))
    return "refers to builtins.getattr"


def dotted_name(file: Path, command: str) -> str:
    dotted = b"\x8c\x05numpy" + text("ndarray.__init__.__globals__") + b"\x93"
    file.write_bytes(proto(4, mapping(w=dotted, v=system(command))))
    return "refers to numpy.ndarray.__init__.__globals__"


def codec_of_another_kind(file: Path, command: str) -> str:
    file.write_bytes(proto(2, mapping(w=call(name("_codecs", "encode"), text(command), text("zlib_codec")))))
    return "encodes a text in another way"


def old_instance_instruction(file: Path, command: str) -> str:
    file.write_bytes(proto(2, b"(" + text(command) + b"ios\nsystem\n"))
    return "uses the pickle instruction INST"


def protocol_zero(file: Path, command: str) -> str:
    file.write_bytes(b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.")
    return "begins like none of the known formats"


def nested_pickle(file: Path, command: str) -> str:
    file.write_bytes(pickle.dumps({"w": proto(2, system(command))}))
    return "holds w among its weights, where tensors are expected"


def nested_zip(file: Path, command: str) -> str:
    inner = file.with_suffix(".inner")
    torch_zip(inner, proto(2, system(command)))
    file.write_bytes(pickle.dumps({"w": inner.read_bytes()}))
    return "holds w among its weights, where tensors are expected"


def legacy_tar(file: Path, command: str) -> str:
    with tarfile.open(file, "w") as archive:
        for member in ("storages", "tensors", "pickle"):
            data = proto(2, system(command))
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return "is a tar archive"


def torch_script(file: Path, command: str) -> str:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", proto(2, b"}"))
        archive.writestr("a/constants.pkl", proto(2, system(command)))
    return "is a TorchScript program"


def object_array_in_npz(file: Path, command: str) -> str:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (command,)

    with file.open("wb") as target:
        np.savez(target, w=np.array([Runs()], dtype=object))
    return "has the array w.npy of type object"


def object_array_in_pickle(file: Path, command: str) -> str:
    file.write_bytes(proto(2, mapping(w=array((1,), b"](" + system(command) + b"e", "O8"))))
    return "holds arrays of 'O8'"


def persistent_module(file: Path, command: str) -> str:
    claim = group(text("module"), name("collections", "OrderedDict"), text(command), text("source"))
    torch_legacy(file, proto(2, mapping(w=claim + b"Q")))
    return "refers to something outside of its pickle that is no storage"


def persistent_text(file: Path, command: str) -> str:
    torch_zip(file, proto(2, mapping(w=b"P" + command.encode() + b"\n")))
    return "uses the pickle instruction PERSID"


def persistent_in_plain_pickle(file: Path, _: str) -> str:
    file.write_bytes(proto(2, mapping(w=group(text("storage"), text("x")) + b"Q")))
    return "refers to something outside of its pickle"


# --- memory and time ------------------------------------------------------------------------------------------------


def bytearray_bomb(file: Path, _: str) -> str:
    torch_zip(file, proto(2, mapping(w=call(name("builtins", "bytearray"), whole(2**33)))))
    return "refers to builtins.bytearray"


def huge_shape_in_torch_zip(file: Path, _: str) -> str:
    torch_zip(file, proto(2, mapping(w=tensor(storage(HUGE), (HUGE,), (1,)))))
    return "claims a storage of 4,398,046,511,104 bytes, but holds 16 of them"


def huge_shape_in_torch_legacy(file: Path, _: str) -> str:
    torch_legacy(file, proto(2, mapping(w=tensor(storage(HUGE), (HUGE,), (1,)))), rest=struct.pack("<q", HUGE))
    return "claims a storage of 4,398,046,511,104 bytes"


def huge_shape_without_strides(file: Path, _: str) -> str:
    torch_zip(file, proto(2, mapping(w=tensor(storage(4), (HUGE,), (0,)))))
    return "claims a tensor of shape (1099511627776,) in a storage of 4 values"


def storage_read_beyond_its_end(file: Path, _: str) -> str:
    torch_zip(file, proto(2, mapping(w=tensor(storage(4), (2, 2), (3, 1)))))
    return "claims a tensor of shape (2, 2) in a storage of 4 values"


def huge_shape_in_pickle(file: Path, _: str) -> str:
    file.write_bytes(proto(3, mapping(w=array((HUGE,), raw(b"\0" * 16)))))
    return "claims an array of shape (1099511627776,)"


def huge_empty_array(file: Path, _: str) -> str:
    empty = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), group(whole(HUGE)), text("b"))
    file.write_bytes(proto(3, mapping(w=empty)))
    return "makes an array of something else"


def huge_shape_in_npz(file: Path, _: str) -> str:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (HUGE,)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w.npy", header.getvalue() + b"\0" * 16)
    return "claims an array of shape (1099511627776,)"


def npz_with_endless_header(file: Path, _: str) -> str:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 64)
    return "in another version than 1"


def npz_with_brackets_in_brackets(file: Path, _: str) -> str:
    text_of_header = b"[" * 9000 + b"]" * 900
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text_of_header)) + text_of_header)
    return "has the array w.npy with a header that is none"


def huge_shape_in_safetensors(file: Path, _: str) -> str:
    header = b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,16]}}'
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    return "is damaged"


def endless_safetensors_header(file: Path, _: str) -> str:
    file.write_bytes(struct.pack("<Q", 90 * 2**20) + b"{" + b" " * 100)
    return "has a header of 94,371,840 bytes"


def zip_bomb_in_torch_zip(file: Path, _: str) -> str:
    _bomb(file, "a/data/0", beside={"a/data.pkl": proto(2, mapping(w=tensor(storage(2**26), (2**26,), (1,))))})
    return "would unpack to 268,435,456"


def zip_bomb_in_npz(file: Path, _: str) -> str:
    _bomb(file, "w.npy", beside={})
    return "would unpack to 268,435,456"


def packed_pickle(file: Path, _: str) -> str:
    torch_zip(file, proto(2, mapping(w=tensor(storage(4), (4,), (1,)))), packed=True)
    return "has packed zip entries"


def overlapping_zip_entries(file: Path, _: str) -> str:
    """Ten entries that share one body."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w0.npy", b"\0" * 4096)
        body = archive.infolist()[0]
        for number in range(1, 10):
            twin = zipfile.ZipInfo(f"w{number}.npy")
            twin.header_offset, twin.CRC = body.header_offset, body.CRC
            twin.file_size = twin.compress_size = body.file_size
            archive.filelist.append(twin)
    return "has zip entries that overlap"


def endless_zip_directory(file: Path, _: str) -> str:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *(0,) * 15, 0)
    count = 400_000
    directory = entry * count
    start = b"PK\x03\x04" + b"\0" * 26
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), len(start), 0)
    file.write_bytes(start + directory + end)
    return "has a zip directory of 18,400,000 bytes"


def two_entries_of_one_name(file: Path, command: str) -> str:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", proto(2, b"}"))
        archive.writestr("a/DATA.PKL", proto(2, system(command)))
    return "has two zip entries of one name"


def entry_of_two_names(file: Path, command: str) -> str:
    """One reader ends the name at the zero, another does not."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl?", proto(2, b"}"))
        archive.writestr("a/data/0", system(command))
    file.write_bytes(file.read_bytes().replace(b"data.pkl?", b"data.pkl\0"))
    return "has the zip entry a/data.pkl, which has another name besides"


def memo_index(file: Path, _: str) -> str:
    file.write_bytes(proto(2, b"}", b"r" + struct.pack("<I", 2**31 - 1)))
    return "asks for a memo of 2,147,483,647 places"


def mappings_of_one_list(file: Path, _: str) -> str:
    """One list of pairs, of which tens of thousands of mappings are made."""
    pairs = b"".join(b"J" + struct.pack("<i", number) + b"N\x86" for number in range(100_000))
    first = b"]q\x00(" + pairs + b"e\x85q\x01" + name("collections", "OrderedDict") + b"q\x02h\x01R"
    file.write_bytes(proto(2, first, b"h\x02h\x01R" * 45_000))
    return "makes a mapping of something else than pairs"


def npz_that_unpacks_to_a_hundred_times(file: Path, _: str) -> str:
    """Few numbers among zeros: each entry shrinks less than a bomb does."""
    values = np.zeros((20_000, 1024), np.float32)
    values.reshape(-1)[::200] = np.random.default_rng(0).standard_normal(-(-values.size // 200))
    np.savez_compressed(file.open("wb"), w=values)
    return "claims tensors of more bytes than the file has"


def storage_with_another_local_header(file: Path, _: str) -> str:
    """The directory is honest, the header in front of the data says that they begin elsewhere."""
    torch.save({"a": torch.arange(1000.0), "b": torch.arange(1000.0) + 5}, file)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = next(item for item in archive.infolist() if item.filename.endswith("data/0"))
    at = entry.header_offset + 28  # length of the extra field
    data[at : at + 2] = struct.pack("<H", struct.unpack("<H", data[at : at + 2])[0] + 64)
    file.write_bytes(data)
    return "is a damaged zip file"


def name_that_writes_over_the_terminal(file: Path, _: str) -> str:
    torch.save({"a\nnasdet: imported\x1b[2J": "no tensor"}, file)
    return "holds a\\nnasdet: imported\\x1b[2J among its weights"


def doubling_tuple_as_key(file: Path, _: str) -> str:
    """Sixty tuples, each with the one before twice: hashing the last takes 2**60 steps."""
    steps = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    file.write_bytes(proto(2, b"})q\x00" + steps + b"Ns"))
    return "holds a mapping with a tuple among its keys"


def doubling_tuple_as_storage_key(file: Path, _: str) -> str:
    steps = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    key = b")q\x00" + steps
    memory = group(text("storage"), name("torch", "FloatStorage"), key, text("cpu"), whole(4)) + b"Q"
    torch_zip(file, proto(2, mapping(w=tensor(memory, (4,), (1,)))))
    return "refers to something outside of its pickle that is no storage"


def huge_text_length(file: Path, _: str) -> str:
    file.write_bytes(proto(4, b"\x8d" + struct.pack("<Q", HUGE), b"x" * 100))
    return "is damaged or cut short"


def huge_bytearray_length(file: Path, _: str) -> str:
    file.write_bytes(proto(5, b"\x96" + struct.pack("<Q", HUGE), b"x" * 100))
    return "is damaged or cut short"


def huge_number(file: Path, _: str) -> str:
    file.write_bytes(proto(2, b"\x8b" + struct.pack("<i", 2**20), b"\x7f" * 2**20))
    return "uses the pickle instruction LONG4"


def endless_line(file: Path, _: str) -> str:
    file.write_bytes(b"\x80\x02c")
    os.truncate(file, 2**28)  # zeros, which no disk has to hold
    return "is damaged or cut short"


def wide_text(file: Path, _: str) -> str:
    """One wide character makes a text of 17 MiB take 68, on top of what the lists before it take."""
    lists = b"](" + b"]" * 590_000 + b"e"
    file.write_bytes(proto(2, mapping(v=lists, w=text("x" * (17 * 2**20) + "\U0001f600"))))
    return "which is neither a name nor data"


def endless_names(file: Path, _: str) -> str:
    """Sixty thousand names that take four bytes a character."""
    wide = text("x" * 200 + "\U0001f600")
    file.write_bytes(proto(2, b"](" + wide * 60_000 + b"e"))
    return "has names of more than 4,194,304 characters"


def oversized_piece(file: Path, _: str) -> str:
    file.write_bytes(proto(3, mapping(w=array((5 * 2**20,), raw(bytes(20 * 2**20))))))
    return "holds a piece of 20,971,520 bytes within a pickle"


def nested_deeply(file: Path, _: str) -> str:
    file.write_bytes(proto(2, b"N" + b"\x85" * 590_000))
    return "holds a tuple, where a mapping"


def endless_instructions(file: Path, _: str) -> str:
    file.write_bytes(proto(2, b"]" * 1_000_000))
    return "has a pickle of more than 600,000 instructions"


def endless_objects(file: Path, _: str) -> str:
    file.write_bytes(proto(2, b"](" + call(name("collections", "OrderedDict")) * 100_000 + b"e"))
    return "makes more than 50,000 objects"


def one_storage_a_thousand_times(file: Path, _: str) -> str:
    """Honest views, but whoever copies each of them takes a thousand times the file."""
    memory = storage(2**20)
    tensors = {f"w{i}": tensor(memory, (2**20,), (1,)) for i in range(1000)}
    torch_zip(file, proto(2, mapping(**tensors)), memory=b"\0" * 2**22)
    return "claims tensors of more bytes than the file has"


def one_array_a_thousand_times(file: Path, _: str) -> str:
    data = raw(b"\0" * 2**20) + b"q\x00"
    first = array((2**18,), data)
    others = {f"w{i}": array((2**18,), b"h\x00") for i in range(1000)}
    file.write_bytes(proto(3, mapping(first=first, **others)))
    return "claims arrays of more bytes than the file has"


# --- files that are none --------------------------------------------------------------------------------------------


def empty(file: Path, _: str) -> str:
    file.touch()
    return "is empty"


def folder(file: Path, _: str) -> str:
    file.mkdir()
    return "is no regular file"


def pipe(file: Path, _: str) -> str:
    os.mkfifo(file)
    return "is no regular file"


def link_to_device(file: Path, _: str) -> str:
    file.symlink_to("/dev/zero")
    return "is no regular file"


def cut_torch_zip(file: Path, _: str) -> str:
    torch.save({"w": torch.zeros(1000)}, file)
    os.truncate(file, file.stat().st_size // 2)
    return "is a zip file that is cut short"


def cut_torch_legacy(file: Path, _: str) -> str:
    torch.save({"w": torch.zeros(1000)}, file, _use_new_zipfile_serialization=False)
    os.truncate(file, file.stat().st_size - 5)
    return "where its tensors end at"


def cut_pickle(file: Path, _: str) -> str:
    file.write_bytes(pickle.dumps({"w": np.zeros(1000, np.float32)})[:-500])
    return "is damaged or cut short"


def too_large(file: Path, _: str) -> str:
    file.write_bytes(b"PK\x03\x04")
    os.truncate(file, 2**32)
    return "has 4,294,967,296 bytes, where at most"


def _bomb(file: Path, inside: str, *, beside: Mapping[str, bytes]) -> None:
    """256 MiB of zeros in one."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for entry, data in beside.items():
            archive.writestr(zipfile.ZipInfo(entry), data)
        with archive.open(inside, "w") as member:
            for _ in range(256):
                member.write(bytes(2**20))


HOSTILE: Mapping[str, Builder] = {
    builder.__name__: builder
    for builder in (
        reduce_in_torch_zip, reduce_in_torch_legacy, reduce_in_pickle, reduce_behind_honest_weights, getattr_chain,
        dotted_name, codec_of_another_kind, old_instance_instruction, protocol_zero, nested_pickle, nested_zip,
        legacy_tar, torch_script, object_array_in_npz, object_array_in_pickle, persistent_module, persistent_text,
        persistent_in_plain_pickle, bytearray_bomb, huge_shape_in_torch_zip, huge_shape_in_torch_legacy,
        huge_shape_without_strides, storage_read_beyond_its_end, huge_shape_in_pickle, huge_empty_array,
        huge_shape_in_npz, npz_with_endless_header, npz_with_brackets_in_brackets, huge_shape_in_safetensors,
        endless_safetensors_header, zip_bomb_in_torch_zip, zip_bomb_in_npz, packed_pickle, overlapping_zip_entries,
        endless_zip_directory, two_entries_of_one_name, entry_of_two_names, memo_index, mappings_of_one_list,
        npz_that_unpacks_to_a_hundred_times, storage_with_another_local_header, name_that_writes_over_the_terminal,
        doubling_tuple_as_key,
        doubling_tuple_as_storage_key, huge_text_length, huge_bytearray_length, huge_number, endless_line, wide_text,
        endless_names, oversized_piece, nested_deeply, endless_instructions, endless_objects,
        one_storage_a_thousand_times, one_array_a_thousand_times, empty, folder, pipe, link_to_device, cut_torch_zip,
        cut_torch_legacy, cut_pickle, too_large,
    )
}  # fmt: skip
