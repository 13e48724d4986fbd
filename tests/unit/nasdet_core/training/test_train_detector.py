"""Finalists and baselines: stand-alone detectors, from supernet weights or from their initialisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nasdet_core.detectors.detector import build_detector
from nasdet_core.errors import CheckpointError, IncompatiblePartsError
from nasdet_core.supernet.recipe import FinalRecipe
from nasdet_core.supernet.score import subnet_weights
from nasdet_core.supernet.train import train_supernet
from nasdet_core.training.loop import Hooks, TrainResult
from nasdet_core.training.train_detector import train_detector
from tests.support.tiny_training import RECIPE, TinyData, tiny_space

GENOTYPE = (3, 0, 1, 2) * 5
RECIPE_OF_FINALISTS = FinalRecipe(epochs=0.5, learning_rate=1e-3).training(RECIPE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return TinyData.write(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    return subnet_weights(build_detector(tiny_space(), elastic=True, seed=9), GENOTYPE)


def train(data: TinyData, **options: Any) -> TrainResult:
    defaults: dict[str, Any] = {
        "space": tiny_space().fixed(GENOTYPE),
        "data": data.loader(),
        "recipe": RECIPE_OF_FINALISTS,
        "seed": 0,
        "recalibration": data.recalibration(),
    }
    return train_detector(**{**defaults, **options})


def test_a_step_without_learning_keeps_the_inherited_weights(data: TinyData, start: dict[str, torch.Tensor]) -> None:
    recipe = replace(RECIPE_OF_FINALISTS, learning_rate=1e-9, weight_decay=0.0, epochs=0.1)
    for name, tensor in train(data, start=start, recipe=recipe).model.named_parameters():
        torch.testing.assert_close(tensor.detach(), start[name], rtol=0, atol=1e-7)


def test_statistics_are_recalibrated_before_the_first_step(data: TinyData, start: dict[str, torch.Tensor]) -> None:
    """After one step nine tenths come from the recalibration, one tenth from the step, nothing from the start."""
    recipe = replace(RECIPE_OF_FINALISTS, epochs=0.1)
    spoiled = {name: tensor * 50 if "running" in name else tensor for name, tensor in start.items()}
    first, second = (
        dict(train(data, start=weights, recipe=recipe).model.named_buffers()) for weights in (start, spoiled)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_is_exact(data: TinyData, start: dict[str, torch.Tensor]) -> None:
    states: dict[int, bytes] = {}
    hooks = Hooks(on_checkpoint=lambda state, step: states.update({step: state}), checkpoint_steps=1)
    expected = train(data, start=start, hooks=hooks).model.state_dict()
    assert sorted(states) == [1, 2]
    resumed = train(data, start=start, resume=states[2]).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.items())
    with pytest.raises(CheckpointError, match="another run: expected start None"):
        train(data, start=None, resume=states[2])


def test_a_fixed_space_goes_through_supernet_training_as_one_network(data: TinyData) -> None:
    space = tiny_space(genotype="all-0")
    result = train_supernet(space=space, data=data.loader(), recipe=RECIPE, seed=0)
    assert result.steps == RECIPE.steps
    assert "backbone.blocks.0.main.0.conv.weight" in result.model.state_dict()
    tuned = train(data, space=space, start=subnet_weights(result.model, ()), seed=1)
    assert tuned.steps == 3


class TestRefusals:
    def test_a_searched_space(self, data: TinyData) -> None:
        with pytest.raises(IncompatiblePartsError, match="20 searched blocks"):
            train(data, space=tiny_space(), start=None)

    def test_weights_of_another_network(self, data: TinyData, start: dict[str, torch.Tensor]) -> None:
        with pytest.raises(CheckpointError, match="do not fit the detector"):
            train(data, space=tiny_space().fixed((0,) * 20), start=start)
