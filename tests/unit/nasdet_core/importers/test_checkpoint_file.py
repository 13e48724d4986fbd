"""Honest files of every known format give their tensors; damaged ones give a sentence."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from nasdet_core.errors import CheckpointError
from nasdet_core.importers.array_file import UnpicklingError, read_pickle
from nasdet_core.importers.checkpoint_file import open_checkpoint
from nasdet_core.importers.foreign_file import Refused
from tests.support.hostile_files import HOSTILE

Writer = Callable[[dict[str, Tensor], Path], None]


def arrays(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in weights.items()}


WRITERS: Mapping[str, Writer] = {
    "torch zip": lambda weights, file: torch.save(weights, file),
    "torch legacy": lambda weights, file: torch.save(weights, file, _use_new_zipfile_serialization=False),
    "safetensors": lambda weights, file: save_file(weights, file),
    "npz": lambda weights, file: np.savez(file.open("wb"), **arrays(weights)),
    "npz packed": lambda weights, file: np.savez_compressed(file.open("wb"), **arrays(weights)),
    **{
        f"pickled arrays {protocol}": lambda weights, file, protocol=protocol: file.write_bytes(  # type: ignore[misc]
            pickle.dumps(arrays(weights), protocol)
        )
        for protocol in (2, 3, 4, 5)
    },
}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "stem.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "stem.half": torch.randn(700, generator=generator).half(),
        "stem.double": torch.randn(2, 5, generator=generator).double(),
        "norm.num_batches_tracked": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "levels": torch.arange(5, dtype=torch.int32),
    }


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_is_found_by_looking_and_gives_its_values(
    form: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "weights.pkl"  # whatever the format is: DetNAS's torch files are called .pkl
    WRITERS[form](weights, file)

    checkpoint = open_checkpoint(file)

    assert form.startswith(checkpoint.format.name)
    for name, tensor in weights.items():
        claim = checkpoint.claims[name]
        assert claim.is_meta
        assert (claim.shape, claim.dtype) == (tensor.shape, tensor.dtype)
    assert_same(checkpoint.read(), weights)


def assert_same(came: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(came) == set(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(came[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("legacy", [False, True])
def test_views_and_parameters_are_read_as_torch_reads_them(legacy: bool, tmp_path: Path) -> None:
    memory = torch.arange(24.0)
    saved = OrderedDict(
        turned=memory.view(4, 6).t(),
        tail=memory[20:],
        parameter=nn.Parameter(torch.ones(3)),
        none=torch.zeros(0, 3),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    )
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)

    read = open_checkpoint(tmp_path / "w.pth").read()

    assert_same(read, {name: tensor.detach() for name, tensor in saved.items()})
    assert_same(read, torch.load(tmp_path / "w.pth", weights_only=True))


class TestWhatIsBesideTheWeights:
    @pytest.mark.parametrize("wrapper", ["model", "state_dict"])
    def test_weights_are_found_under_the_names_of_training_code(
        self, wrapper: str, weights: dict[str, Tensor], tmp_path: Path
    ) -> None:
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        kept = {wrapper: weights, "optimizer": optimizer.state_dict(), "iteration": 9, "scheduler": {"steps": [1, 2]}}
        torch.save(kept, tmp_path / "w.pth")

        checkpoint = open_checkpoint(tmp_path / "w.pth")

        assert checkpoint.not_used == ("optimizer", "iteration", "scheduler")
        assert_same(checkpoint.read(), weights)

    def test_prefix_of_parallel_training_is_taken_off_when_every_name_has_it(
        self, weights: dict[str, Tensor], tmp_path: Path
    ) -> None:
        torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, tmp_path / "w.pth")
        assert_same(open_checkpoint(tmp_path / "w.pth").read(), weights)

    def test_prefix_of_some_names_is_part_of_them(self, tmp_path: Path) -> None:
        mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
        torch.save(mixed, tmp_path / "w.pth")
        assert list(open_checkpoint(tmp_path / "w.pth").claims) == ["module.a", "b"]

    def test_what_is_no_tensor_among_the_weights_is_named(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1), "epoch": 3, "note": "x"}, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"w\.pth: .* holds epoch, note among its weights"):
            open_checkpoint(tmp_path / "w.pth")

    def test_state_dict_of_a_module_carries_metadata(self, tmp_path: Path) -> None:
        state = nn.BatchNorm2d(3).state_dict()
        torch.save(state, tmp_path / "w.pth")
        assert_same(open_checkpoint(tmp_path / "w.pth").read(), state)


class TestPickledArrays:
    def test_of_python_2(self, tmp_path: Path) -> None:
        """Names and data are its byte strings, U and T; its mapping is made of pairs."""
        data = np.array([1.5, -2.0, 3e9], "<f4").tobytes()
        dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        filled = array + b"(K\x01(K\x03t" + dtype + b"\x89U\x0c" + data + b"tb"
        pairs = b"(](](U\x03w_1" + filled + b"eetR"
        (tmp_path / "w.pkl").write_bytes(b"\x80\x02ccollections\nOrderedDict\n" + pairs + b".")

        read = open_checkpoint(tmp_path / "w.pkl").read()

        assert_same(read, {"w_1": torch.tensor([1.5, -2.0, 3e9])})

    def test_names_may_be_bytes_and_values_big_endian(self, tmp_path: Path) -> None:
        (tmp_path / "w.pkl").write_bytes(pickle.dumps({b"w": np.array([1, 2], ">f8")}))
        assert_same(open_checkpoint(tmp_path / "w.pkl").read(), {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)})

    def test_numbers_of_numpy_are_tensors_without_dimensions(self, tmp_path: Path) -> None:
        (tmp_path / "w.pkl").write_bytes(pickle.dumps({"n": np.int64(4)}))
        assert_same(open_checkpoint(tmp_path / "w.pkl").read(), {"n": torch.tensor(4)})

    @pytest.mark.parametrize("name", ["reduce_in_pickle", "getattr_chain", "dotted_name", "codec_of_another_kind"])
    def test_the_reader_by_itself_knows_numpys_names_only(self, name: str, tmp_path: Path) -> None:
        """The check in front of it is not its only guard."""
        HOSTILE[name](tmp_path / "w.pkl", f"touch {tmp_path / 'it-ran'}")
        with pytest.raises((Refused, UnpicklingError)):
            read_pickle(tmp_path / "w.pkl")
        assert not (tmp_path / "it-ran").exists()


def test_file_that_changes_after_it_was_looked_through_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(2)}, file)
    checkpoint = open_checkpoint(file)
    torch.save({"a": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match="gives other tensors to its reader than it claims"):
        checkpoint.read()


def test_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    assert open_checkpoint(tmp_path / "w.pth").digest() == open_checkpoint(tmp_path / "w.pth").digest()
    assert len(open_checkpoint(tmp_path / "w.pth").digest()) == 64


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of pickletools, at instructions that are refused
@pytest.mark.parametrize("form", WRITERS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_file_is_a_sentence(form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes changed, cut out or put in anywhere: refused in one sentence, or read as they are."""
    directory = tmp_path_factory.getbasetemp() / "damaged"
    directory.mkdir(exist_ok=True)
    file = directory / form.replace(" ", "-")
    if not file.exists():
        WRITERS[form]({"stem.weight": torch.ones(4, 3), "norm.num_batches_tracked": torch.tensor(7)}, file)
    honest = file.read_bytes()
    damaged = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged)))
        length = data.draw(st.sampled_from([0, 1, 1, 1, 8, 100]))
        damaged[place : place + length] = data.draw(st.binary(max_size=9))
    target = directory / "damaged"
    target.write_bytes(damaged)

    sentence = None
    try:
        open_checkpoint(target).read()
    except CheckpointError as error:
        sentence = str(error)

    assert sentence is None or sentence.startswith("damaged: a file of named weights was expected, but it ")
    assert sentence is None or "\n" not in sentence
