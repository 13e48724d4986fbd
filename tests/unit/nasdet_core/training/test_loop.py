"""The training loop: exact resume, untouched paths, errors that carry the losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from nasdet_core.data.batches import Batch
from nasdet_core.errors import CheckpointError, NonFiniteLossError
from nasdet_core.supernet.path_sampling import UniformPathSampler
from nasdet_core.supernet.recipe import SupernetRecipe
from nasdet_core.supernet.train import train_supernet
from nasdet_core.training.loop import Hooks, TrainResult
from tests.support.tiny_training import RECIPE, TinyData, tiny_space


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return TinyData.write(tmp_path_factory.mktemp("pictures"))


def train(data: TinyData, recipe: SupernetRecipe = RECIPE, **options: Any) -> TrainResult:
    return train_supernet(space=tiny_space(), data=data.loader(), recipe=recipe, seed=5, **options)


def weights(result: TrainResult) -> dict[str, Tensor]:
    return result.model.state_dict()


def assert_same_weights(a: TrainResult, b: TrainResult) -> None:
    expected = weights(a)
    differing = [name for name, tensor in weights(b).items() if not torch.equal(tensor, expected[name])]
    assert not differing


class StopHereError(Exception):
    pass


class Recorder:
    """Keeps every checkpoint, and stops the training after a step when told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.checkpoints: dict[int, bytes] = {}
        self.progress: list[dict[str, Any]] = []
        self.stop_after = stop_after
        self.hooks = Hooks(on_progress=self._heard, on_checkpoint=self._saved, checkpoint_steps=1)

    def _heard(self, progress: dict[str, Any]) -> None:
        self.progress.append(progress)
        if progress["step"] == self.stop_after:
            raise StopHereError

    def _saved(self, data: bytes, step: int) -> None:
        self.checkpoints[step] = data


@pytest.fixture(scope="module")
def undisturbed(data: TinyData) -> tuple[TrainResult, Recorder]:
    recorder = Recorder()
    return train(data, hooks=recorder.hooks), recorder


class TestResume:
    @pytest.mark.parametrize("step", [1, 3, 5])  # in the warm start, just before the copy, after it
    def test_continuing_from_a_checkpoint_ends_bit_for_bit_the_same(
        self, data: TinyData, undisturbed: tuple[TrainResult, Recorder], step: int
    ) -> None:
        whole, recorder = undisturbed
        resumed = train(data, resume=recorder.checkpoints[step])
        assert_same_weights(whole, resumed)
        assert resumed.history == whole.history

    def test_interrupted_between_checkpoints_repeats_the_lost_steps_only(
        self, data: TinyData, undisturbed: tuple[TrainResult, Recorder], tmp_path: Path
    ) -> None:
        recorder = Recorder(stop_after=4)
        with pytest.raises(StopHereError):
            train(data, hooks=recorder.hooks)
        path = tmp_path / "state"
        path.write_bytes(recorder.checkpoints[2])
        after = Recorder()
        resumed = train(data, resume=path, hooks=after.hooks)
        assert [progress["step"] for progress in after.progress] == [3, 4, 5, 6]
        assert_same_weights(undisturbed[0], resumed)

    def test_sgd_resumes_exactly_too(self, data: TinyData) -> None:
        recipe = replace(RECIPE, optimizer="sgd", learning_rate=1e-3, schedule="cosine")
        recorder = Recorder()
        whole = train(data, recipe, hooks=recorder.hooks)
        assert_same_weights(whole, train(data, recipe, resume=recorder.checkpoints[4]))

    def test_a_state_of_another_recipe_is_refused(
        self, data: TinyData, undisturbed: tuple[TrainResult, Recorder]
    ) -> None:
        other = replace(RECIPE, learning_rate=5e-4)
        with pytest.raises(CheckpointError, match="belongs to another run: expected recipe"):
            train(data, other, resume=undisturbed[1].checkpoints[2])

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"\xff" * 64])
    def test_other_bytes_are_refused(self, data: TinyData, damage: bytes) -> None:
        with pytest.raises(CheckpointError, match="safetensors"):
            train(data, resume=damage)

    def test_a_truncated_state_is_refused(self, data: TinyData, undisturbed: tuple[TrainResult, Recorder]) -> None:
        with pytest.raises(CheckpointError, match="tensors are damaged"):
            train(data, resume=undisturbed[1].checkpoints[2][:-100])


def test_the_same_seed_repeats_and_another_does_not(data: TinyData, undisturbed: tuple[TrainResult, Recorder]) -> None:
    again = train(data)
    assert_same_weights(undisturbed[0], again)
    other = train_supernet(space=tiny_space(), data=data.loader(), recipe=RECIPE, seed=6)
    name = "backbone.stem.conv.weight"
    assert not torch.equal(weights(other)[name], weights(again)[name])


def test_progress_and_history_are_complete(undisturbed: tuple[TrainResult, Recorder]) -> None:
    result, recorder = undisturbed
    assert [progress["step"] for progress in recorder.progress] == [1, 2, 3, 4, 5, 6]
    assert sorted(recorder.checkpoints) == [1, 2, 3, 4, 5]  # the last step is the result, not a checkpoint
    assert [point["step"] for point in result.history] == [1, 2, 3, 4, 5, 6]
    assert [point["loss"] for point in result.history] == [progress["loss"] for progress in recorder.progress]
    assert set(recorder.progress[0]["losses"]) == {"classification", "box_regression", "centerness"}
    assert not result.model.training


def test_the_warm_start_ends_in_the_step_where_random_paths_begin(undisturbed: tuple[TrainResult, Recorder]) -> None:
    """Half of the 6 steps train one path; before step 3 it is copied, and step 3 already runs a random path."""
    _, recorder = undisturbed
    first, before, after = (_model_tensors(recorder.checkpoints[step]) for step in (1, 3, 4))
    path = _path_of_step(3)
    unused = [block for block, choice in enumerate(path) if choice == 1]  # then neither choice 0 nor 2 is trained
    assert unused
    for block in unused:
        source, copied = (f"backbone.blocks.{block}.{choice}.main.0.conv.weight" for choice in (2, 0))
        assert torch.equal(before[copied], first[copied])
        assert not torch.equal(before[source], first[source])
        assert torch.equal(after[source], before[source])
        assert torch.equal(after[copied], before[source])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_leaves_the_tensors_of_other_paths_bit_identical(data: TinyData, optimizer: str) -> None:
    """After the second step every choice has momentum; a third must not move what it does not use."""
    recipe = replace(RECIPE, steps=8, warm_start=0.0, optimizer=optimizer, weight_decay=0.1)
    recorder = Recorder()
    train(data, recipe, hooks=recorder.hooks)
    before, after = (_model_tensors(recorder.checkpoints[step]) for step in (6, 7))
    path = _path_of_step(6)
    for name, tensor in before.items():
        parts = name.split(".")
        used = parts[1] != "blocks" or path[int(parts[2])] == int(parts[3])
        if not used:
            assert torch.equal(tensor, after[name]), name
        elif name.endswith("weight"):  # batch norm's affine included
            assert not torch.equal(tensor, after[name]), name


def _model_tensors(state: bytes) -> dict[str, Tensor]:
    return {name.removeprefix("model."): t for name, t in load(state).items() if name.startswith("model.")}


def _path_of_step(step: int) -> tuple[int, ...]:
    return UniformPathSampler(tiny_space(), 5).path(step)


def test_a_loss_that_is_not_finite_ends_the_training_with_the_losses(data: TinyData) -> None:
    class Poisoned:
        steps_per_epoch = 6

        def batch(self, step: int) -> Batch:
            batch = data.loader().batch(step)
            return replace(batch, images=batch.images * float("nan")) if step == 2 else batch

    with pytest.raises(NonFiniteLossError) as caught:
        train_supernet(space=tiny_space(), data=Poisoned(), recipe=RECIPE, seed=5)
    assert caught.value.step == 2
    assert "classification" in caught.value.losses
    assert "nan" in str(caught.value)


def test_reduced_precision_trains(data: TinyData) -> None:
    result = train(data, replace(RECIPE, precision="bf16", steps=2, warm_start=0.0))
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(result).values())
