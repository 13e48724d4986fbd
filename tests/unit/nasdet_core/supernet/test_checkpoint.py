"""Detector files: everything needed to rebuild the network and to feed it, known by their bytes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdet_core.data.input_format import InputFormat
from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError
from nasdet_core.supernet.checkpoint import load_detector, pack_detector, save_detector
from nasdet_core.supernet.detector_header import MAX_HEADER_BYTES, read_detector_header
from nasdet_core.training.placement import place
from nasdet_core.training.tensor_file import pack_tensors
from tests.support.tiny_training import CLASS_NAMES, tiny_space

GENOTYPE = (2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2)
INPUT = InputFormat((96, 128), "bgr_255")
HEADER: dict[str, Any] = {
    "kind": "nasdet detector", "schema": 2, "space": tiny_space().to_description(),
    "class_names": list(CLASS_NAMES), "input": INPUT.to_json(), "metadata": {},
}  # fmt: skip


def single_path(seed: int = 4) -> Detector:
    return build_detector(tiny_space().fixed(GENOTYPE), elastic=False, seed=seed).eval()


@pytest.mark.parametrize("genotype", [None, GENOTYPE])
def test_supernet_and_standalone_survive_a_file(tmp_path: Path, genotype: tuple[int, ...] | None) -> None:
    space = tiny_space() if genotype is None else tiny_space().fixed(genotype)
    model = build_detector(space, elastic=genotype is None, seed=4).eval()
    digest = save_detector(tmp_path / "model", model, class_names=CLASS_NAMES, input=INPUT, metadata={"seed": 4})
    saved = load_detector(tmp_path / "model")
    assert saved.space == space
    assert (saved.class_names, saved.digest, saved.metadata) == (CLASS_NAMES, digest, {"seed": 4})
    assert saved.input == INPUT
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in saved.model.state_dict().items())
    assert not saved.model.training
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_same_detector_gives_the_same_bytes() -> None:
    first, second = (build_detector(tiny_space(), elastic=True, seed=4) for _ in range(2))
    place(second, "cpu")  # another order in memory
    packed = pack_detector(first, class_names=CLASS_NAMES, input=INPUT)
    assert packed == pack_detector(second, class_names=CLASS_NAMES, input=INPUT)
    other = build_detector(tiny_space(), elastic=True, seed=5)
    assert pack_detector(other, class_names=CLASS_NAMES, input=INPUT)[1] != packed[1]


def test_another_input_is_another_file() -> None:
    model = single_path()
    inputs = (INPUT, InputFormat((128, 96), "bgr_255"), InputFormat((96, 128), "rgb_normalized"))
    assert len({pack_detector(model, class_names=CLASS_NAMES, input=each)[1] for each in inputs}) == 3


class TestFilesOfSchema1:
    """Written before the header had `input`: the recipe says it."""

    def write(self, metadata: dict[str, Any]) -> bytes:
        model = single_path()
        header = {**HEADER, "schema": 1, "space": model.space.to_description(), "metadata": metadata}
        del header["input"]
        return pack_tensors(model.state_dict(), header)

    def test_the_input_is_that_of_the_recipe(self) -> None:
        recipe = {"epochs": 3, "image_size": [64, 96], "pixel_format": "bgr_255"}
        saved = load_detector(self.write({"recipe": recipe, "seed": 1}))
        assert saved.input == InputFormat((64, 96), "bgr_255")
        assert saved.metadata == {"recipe": recipe, "seed": 1}
        assert all(torch.equal(t, saved.model.state_dict()[n]) for n, t in single_path().state_dict().items())

    @pytest.mark.parametrize("metadata", [{}, {"recipe": {"image_size": [64, 96]}}, {"recipe": 3}])
    def test_without_a_recipe_it_is_refused(self, metadata: dict[str, Any]) -> None:
        with pytest.raises(CheckpointError, match=r"schema 1 says its input in metadata\.recipe .* but it has none"):
            load_detector(self.write(metadata))


class TestHeader:
    def test_it_is_read_without_torch_and_without_the_weights(self, repository: Path, tmp_path: Path) -> None:
        data, _ = pack_detector(single_path(), class_names=CLASS_NAMES, input=INPUT, metadata={"seed": 4})
        length = int.from_bytes(data[:8], "little")
        (tmp_path / "model").write_bytes(data[: 8 + length])  # cut after the header
        code = (
            "import sys, pathlib; from nasdet_core.supernet.detector_header import read_detector_header as read;"
            "header = read(pathlib.Path(sys.argv[1]));"
            "print(header.input.image_size, len(header.class_names), {'torch', 'safetensors'} & set(sys.modules))"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "model")]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"(96, 128) {len(CLASS_NAMES)} set()"

    def test_it_equals_that_of_the_loaded_detector(self) -> None:
        data, _ = pack_detector(single_path(), class_names=CLASS_NAMES, input=INPUT, metadata={"seed": 4})
        header, saved = read_detector_header(data), load_detector(data)
        assert (header.space, header.input, header.metadata) == (saved.space, saved.input, saved.metadata)

    def test_one_of_more_than_16_mib_is_not_parsed(self) -> None:
        text = json.dumps({"__metadata__": {"nasdet": json.dumps(HEADER)}}).encode()
        for size, readable in ((len(text), True), (MAX_HEADER_BYTES, True), (MAX_HEADER_BYTES + 1, False)):
            data = struct.pack("<Q", size) + text.ljust(size)
            if readable:
                assert read_detector_header(data).input == INPUT
            else:
                with pytest.raises(CheckpointError, match="got something else"):
                    read_detector_header(data)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"input": {"image_size": [1, 2], "pixel_format": "bgr_255"}}, r"input\.image_size"),
            ({"input": None}, "input: a mapping with the keys"),
            ({"class_names": []}, "class_names: a list of names"),
            ({"class_names": "abc"}, "class_names: a list of names"),
            ({"metadata": None}, "metadata: a mapping"),
            ({"space": {"backbone": 3}}, "describes no detector"),
            ({"space": None}, "describes no detector"),
            ({"schema": 3}, "expected a nasdet detector of schema 1 or 2, got 'nasdet detector' of schema 3"),
            ({"schema": [2]}, r"of schema \[2\]"),
            ({"kind": "something"}, "got 'something' of schema 2"),
        ],
    )
    def test_one_that_describes_no_detector_is_refused(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            read_detector_header(pack_tensors({"x": torch.zeros(1)}, {**HEADER, **change}))


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [
            b"PK\x03\x04 not ours",
            b"",
            b"\x00" * 8,
            struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}",
            struct.pack("<Q", 2) + b"{}",
            struct.pack("<Q", 4) + b"null",
            struct.pack("<Q", 200_000) + b"[" * 200_000,
            struct.pack("<Q", 34) + b'{"__metadata__": {"nasdet": "[1]"}}'[:34],
        ],
    )
    def test_other_bytes(self, data: bytes) -> None:
        with pytest.raises(CheckpointError, match="expected a nasdet detector in safetensors format"):
            load_detector(data)

    def test_weights_of_another_detector(self) -> None:
        model = single_path()
        header = {**HEADER, "space": model.space.to_description()}
        tensors = dict(model.state_dict())
        first, second = sorted(tensors)[:2]
        tensors["other"] = tensors.pop(first)
        tensors[second] = torch.zeros(1)
        with pytest.raises(CheckpointError) as caught:
            load_detector(pack_tensors(tensors, header))
        assert f"1 tensor missing (first: {first}), 1 tensor without a place (first: other)" in str(caught.value)
        assert f"1 tensor of another shape (first: {second})" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_cut_short(self, tmp_path: Path) -> None:
        data, _ = pack_detector(single_path(), class_names=CLASS_NAMES, input=INPUT)
        (tmp_path / "half").write_bytes(data[: len(data) // 2])
        with pytest.raises(CheckpointError, match="file half: the tensors are damaged"):
            load_detector(tmp_path / "half")

    def test_weights_that_do_not_fit_the_description(self) -> None:
        with pytest.raises(CheckpointError, match="do not fit the detector"):
            load_detector(pack_tensors({"x": torch.zeros(1)}, HEADER))

    def test_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load_detector(tmp_path / "nothing")
