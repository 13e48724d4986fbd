"""A candidate's score is its own: neither order nor neighbours matter, and the supernet is only read."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import DatasetError, RecalibrationError
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.supernet.recipe import EvaluationRecipe, RecalibrationRecipe
from nasdet_core.supernet.score import score_candidate, subnet_weights
from nasdet_core.supernet.train import train_supernet
from nasdet_core.training.evaluate import DetectorScore, evaluate_detector
from tests.support.tiny_training import RECIPE, TinyData, tiny_space

EXACT = EvaluationRecipe(recalibration=RecalibrationRecipe(images=8, batch_size=4))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return TinyData.write(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def supernet(data: TinyData) -> Detector:
    recipe = replace(RECIPE, steps=40, learning_rate=5e-3)
    model = train_supernet(space=tiny_space(), data=data.loader(), recipe=recipe, seed=1).model
    assert isinstance(model, Detector)
    return model


def score(supernet: Detector, data: TinyData, genotype: Genotype) -> DetectorScore:
    return score_candidate(
        supernet=supernet,
        genotype=genotype,
        recalibration=data.recalibration(),
        batches=data.batches(),
        evaluator=data.evaluator,
        recipe=EXACT,
    )


def without_times(result: DetectorScore) -> DetectorScore:
    return replace(result, seconds={})


def test_twice_in_another_order_and_beside_others_gives_the_same_score(supernet: Detector, data: TinyData) -> None:
    space = tiny_space()
    genotypes = [space.sample(random.Random(number)) for number in range(3)]
    first = [without_times(score(supernet, data, genotype)) for genotype in genotypes]
    assert [without_times(score(supernet, data, genotype)) for genotype in reversed(genotypes)] == first[::-1]
    assert without_times(score(supernet, data, genotypes[1])) == first[1]
    assert len({result.box_map for result in first}) > 1, "the candidates cannot be told apart: no test"
    assert all(0 < result.box_map < 1 for result in first)


def test_scoring_changes_nothing_of_the_supernet(supernet: Detector, data: TinyData) -> None:
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    modes = [module.training for module in supernet.modules()]
    score(supernet, data, (3,) * 20)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert [module.training for module in supernet.modules()] == modes
    assert not any(modes)


def test_statistics_of_the_supernet_do_not_reach_the_score(supernet: Detector, data: TinyData) -> None:
    genotype = (1,) * 20
    expected = without_times(score(supernet, data, genotype))
    buffers = [buffer for name, buffer in supernet.named_buffers() if "running" in name]
    kept = [buffer.clone() for buffer in buffers]
    try:
        for buffer in buffers:
            buffer.mul_(3).add_(1)
        assert without_times(score(supernet, data, genotype)) == expected
    finally:
        for buffer, old in zip(buffers, kept, strict=True):
            buffer.copy_(old)


def test_score_tells_its_parts(supernet: Detector, data: TinyData) -> None:
    result = score(supernet, data, (0,) * 20)
    assert set(result.seconds) == {"recalibration", "inference", "matching"}
    assert result.images == 12
    assert len(result.jackknife) == 12
    assert result.standard_error > 0
    assert set(result.per_class) == {"bright", "dark"}


def test_too_few_batches_for_the_exponential_average_are_refused(supernet: Detector, data: TinyData) -> None:
    recipe = EvaluationRecipe(recalibration=RecalibrationRecipe(average="exponential", images=200, batch_size=4))
    with pytest.raises(RecalibrationError, match="at least 50 batches"):
        score_candidate(
            supernet=supernet, genotype=(0,) * 20, recalibration=data.recalibration(), batches=data.batches(),
            evaluator=data.evaluator, recipe=recipe,
        )  # fmt: skip


def test_batches_of_another_split_are_refused(data: TinyData) -> None:
    model = build_detector(tiny_space().fixed((0,) * 20), elastic=False, seed=0)
    with pytest.raises(DatasetError, match="12 pictures of the evaluator, got 8"):
        evaluate_detector(model, batches=data.batches()[:2], evaluator=data.evaluator)


def test_subnet_weights_are_copies_under_the_names_of_the_standalone_network(supernet: Detector) -> None:
    weights = subnet_weights(supernet, (2,) * 20)
    alone = build_detector(tiny_space().fixed((2,) * 20), elastic=False, seed=0)
    alone.load_state_dict(weights, strict=True)
    name = next(iter(weights))
    weights[name].add_(1)
    assert not torch.equal(weights[name], supernet.subnet_state_dict((2,) * 20)[name])
