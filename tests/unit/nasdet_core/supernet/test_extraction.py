"""Invariants of weight sharing for whole detectors at the real widths: extraction, and training one path only."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.supernet.extraction import extract
from tests.support.detectors import HEADS, detector_space, pictures, some_targets

BLOCKS = 20
UNIFORM = [(choice,) * BLOCKS for choice in range(4)]  # together: every choice at every block, so at both strides
IMAGES = pictures(2, 64, 75)


def supernet(head: str = "fcos", *, split: str = "shuffle", width: float = 1.0) -> Detector:
    detector = build_detector(detector_space(head, width=width, split=split, channels=16), elastic=True)
    for name, parameter in detector.head.named_parameters():
        if name.endswith("cls_logits.bias"):
            parameter.data.zero_()  # scores of one half: there is something to compare
    detector.train()
    with torch.no_grad():
        for genotype in UNIFORM:  # statistics that are not 0 and 1
            detector.features(IMAGES, genotype)
    return detector.eval()


@torch.no_grad()
def assert_same_output(standalone: Detector, shared: Detector, genotype: Genotype) -> None:
    ours, theirs = standalone(IMAGES), shared(IMAGES, None, genotype)
    assert sum(len(found["boxes"]) for found in ours) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])
        assert torch.equal(one["scores"], other["scores"])
        assert torch.equal(one["labels"], other["labels"])


class TestExtract:
    @pytest.mark.parametrize("split", ["shuffle", "even_odd"])
    def test_standalone_detector_gives_what_the_supernet_gives(self, split: str) -> None:
        shared = supernet(split=split)
        mixed = shared.space.sample(random.Random(0))
        for genotype in (*UNIFORM, mixed):
            assert_same_output(extract(shared, genotype), shared, genotype)

    @pytest.mark.parametrize("head", HEADS)
    def test_every_head_is_extracted(self, head: str) -> None:
        shared = supernet(head, width=0.25)
        genotype = (0, 1, 2, 3) * 5
        standalone = extract(shared, genotype)
        assert_same_output(standalone, shared, genotype)
        for module in (standalone, shared):
            module.train()
        torch.manual_seed(0)
        ours = standalone(IMAGES, some_targets())
        torch.manual_seed(0)
        theirs = shared(IMAGES, some_targets(), genotype)
        assert {name: loss.item() for name, loss in ours.items()} == {n: loss.item() for n, loss in theirs.items()}

    def test_copies_are_independent_and_draw_nothing_random(self) -> None:
        shared = supernet(width=0.25)
        before = snapshot(shared)
        generator = torch.get_rng_state()
        standalone = extract(shared, UNIFORM[1])
        assert torch.equal(torch.get_rng_state(), generator)
        with torch.no_grad():
            for tensor in standalone.state_dict().values():
                tensor.zero_()
        assert changed(shared, before) == set()

    def test_mode_precision_and_memory_format_are_the_supernets(self) -> None:
        shared = supernet(width=0.25).double()
        shared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's overloads
        standalone = extract(shared.train(), UNIFORM[0])
        assert standalone.training
        assert all(parameter.requires_grad for parameter in standalone.parameters())
        weight = standalone.state_dict()["neck.pyramid.layer_blocks.0.0.weight"]
        assert weight.dtype == torch.float64
        assert weight.is_contiguous(memory_format=torch.channels_last)

    def test_split_method_stays_the_supernets(self) -> None:
        standalone = extract(supernet(width=0.25), UNIFORM[2])
        assert standalone.space.backbone.settings["split"] == "shuffle"


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def block_tensors(model: Detector, genotype: Genotype) -> set[str]:
    chosen = tuple(f"backbone.blocks.{index}.{choice}." for index, choice in enumerate(genotype))
    return {name for name in model.state_dict() if name.startswith(chosen)}


class TestTrainingOnePath:
    """At width 1: gradients, momentum and weight decay touch the sampled path only, BN affine is trained."""

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_other_paths_stay_bit_identical(self, optimizer: str) -> None:
        model = supernet().train()
        optimiser: torch.optim.Optimizer
        if optimizer == "adamw":
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        else:
            optimiser = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=0.1)
        mixed = tuple((index + 1) % 3 for index in range(BLOCKS))
        # Later paths meet optimiser states that earlier ones left behind.
        for genotype in (UNIFORM[0], mixed, UNIFORM[1], UNIFORM[0], mixed):
            before = snapshot(model)
            optimiser.zero_grad(set_to_none=True)
            losses = model(IMAGES, some_targets(), genotype)
            torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
            optimiser.step()
            touched = {name for name in changed(model, before) if ".blocks." in name}
            assert touched == block_tensors(model, genotype)
