"""Detector files: everything needed to rebuild the network, known by their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasdet_core.detectors.detector import build_detector
from nasdet_core.errors import CheckpointError
from nasdet_core.supernet.checkpoint import load_detector, pack_detector, save_detector
from nasdet_core.training.placement import place
from nasdet_core.training.tensor_file import pack_tensors
from tests.support.tiny_training import CLASS_NAMES, tiny_space


@pytest.mark.parametrize("genotype", [None, (2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2)])
def test_supernet_and_standalone_survive_a_file(tmp_path: Path, genotype: tuple[int, ...] | None) -> None:
    space = tiny_space() if genotype is None else tiny_space().fixed(genotype)
    model = build_detector(space, elastic=genotype is None, seed=4).eval()
    digest = save_detector(tmp_path / "model", model, class_names=CLASS_NAMES, metadata={"seed": 4})
    saved = load_detector(tmp_path / "model")
    assert saved.space == space
    assert (saved.class_names, saved.digest, saved.metadata) == (CLASS_NAMES, digest, {"seed": 4})
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in saved.model.state_dict().items())
    assert not saved.model.training
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_same_detector_gives_the_same_bytes() -> None:
    first, second = (build_detector(tiny_space(), elastic=True, seed=4) for _ in range(2))
    place(second, "cpu")  # another order in memory
    assert pack_detector(first, class_names=CLASS_NAMES) == pack_detector(second, class_names=CLASS_NAMES)
    other = build_detector(tiny_space(), elastic=True, seed=5)
    assert pack_detector(other, class_names=CLASS_NAMES)[1] != pack_detector(first, class_names=CLASS_NAMES)[1]


class TestRefusals:
    def test_other_bytes(self) -> None:
        with pytest.raises(CheckpointError, match="expected a nasdet detector in safetensors format"):
            load_detector(b"PK\x03\x04 not ours")

    def test_tensors_of_another_kind(self) -> None:
        data = pack_tensors({"x": torch.zeros(1)}, {"kind": "something", "schema": 1})
        with pytest.raises(CheckpointError, match="got 'something'"):
            load_detector(data)

    def test_weights_that_do_not_fit_the_description(self) -> None:
        header = {
            "kind": "nasdet detector", "schema": 1, "space": tiny_space().to_description(),
            "class_names": CLASS_NAMES, "metadata": {},
        }  # fmt: skip
        with pytest.raises(CheckpointError, match="do not fit the detector"):
            load_detector(pack_tensors({"x": torch.zeros(1)}, header))

    def test_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load_detector(tmp_path / "nothing")
