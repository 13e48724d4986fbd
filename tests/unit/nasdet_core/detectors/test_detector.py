"""A detector of every head: modes, bad input, odd sizes, precision, repeatable weights, cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import GenotypeError, SettingError, UnknownNameError
from nasdet_core.evaluation.complexity import count_macs_of_call, count_parameters
from nasdet_core.heads.types import Detections
from tests.support.detectors import HEADS, detector_space, pictures, some_targets, target

GENOTYPE = (0, 1, 2, 3) * 5
every_head = pytest.mark.parametrize("head", HEADS)


def elastic(head: str) -> Detector:
    return build_detector(detector_space(head), elastic=True)


def confident(head: str) -> Detector:
    """A detector in evaluation mode that finds something, though it has not been trained."""
    detector = elastic(head).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in detector.head.named_parameters():
        if name.endswith(("cls_logits.weight", "cls_score.weight")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 2
        if name.endswith("cls_logits.bias"):
            parameter.data.zero_()
    return detector


def same(one: Detections, other: Detections) -> bool:
    return all(torch.equal(one[key], other[key]) for key in ("boxes", "scores", "labels"))


@every_head
class TestForward:
    def test_losses_are_finite_and_reach_every_tensor_of_the_path(self, head: str) -> None:
        detector = elastic(head)
        losses = detector(pictures(3), some_targets(3), GENOTYPE)
        assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
        torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
        used = set(detector.subnet_state_dict(GENOTYPE))
        for name, parameter in detector.named_parameters():
            own = name.split(".")
            if own[:2] == ["backbone", "blocks"]:
                selected = int(own[3]) == GENOTYPE[int(own[2])]
                assert (parameter.grad is not None) == selected, name
            else:
                assert parameter.grad is not None, name
                assert name in used

    def test_pictures_without_boxes_give_finite_losses_and_gradients(self, head: str) -> None:
        detector = elastic(head)
        losses = detector(pictures(), [target([], []), target([], [])], GENOTYPE)
        torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
        assert all(loss.isfinite() for loss in losses.values())
        assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)

    def test_training_mode_decides_about_batch_norm_only(self, head: str) -> None:
        detector = confident(head)
        assert set(detector(pictures(), some_targets(), GENOTYPE)) == set(
            detector.train()(pictures(), some_targets(), GENOTYPE)
        )
        assert len(detector(pictures(), None, GENOTYPE)) == 2

    @pytest.mark.parametrize("size", [(97, 131), (33, 40), (96, 128)])
    @torch.no_grad()
    def test_detections_lie_in_the_picture_best_first(self, head: str, size: tuple[int, int]) -> None:
        detector = confident(head)
        losses = detector(pictures(2, *size), some_targets(2, height=size[0], width=size[1]), GENOTYPE)
        assert all(loss.isfinite() for loss in losses.values())
        inner = (size[0] - 5, size[1] - 9)
        for sizes in (None, [inner, inner]):
            height, width = inner if sizes else size
            for found in detector(pictures(2, *size), None, GENOTYPE, image_sizes=sizes):
                boxes = found["boxes"]
                assert 0 < len(boxes) <= 100
                assert torch.all(boxes >= 0)
                assert boxes[:, 0::2].max() <= width
                assert boxes[:, 1::2].max() <= height
                assert torch.all(found["scores"].diff() <= 0)
                assert found["labels"].dtype == torch.int64
                assert set(found["labels"].tolist()) <= {0, 1, 2}

    @torch.no_grad()
    def test_detections_do_not_hang_on_the_neighbours_in_the_batch(self, head: str) -> None:
        detector, images = confident(head), pictures(3)
        together = detector(images, None, GENOTYPE)
        turned = detector(images.flip(0) * torch.tensor([1.0, -3.0, 1.0]).view(3, 1, 1, 1), None, GENOTYPE)
        assert same(together[0], turned[2])
        assert same(together[2], turned[0])
        assert not same(together[1], turned[1])

    @torch.no_grad()
    def test_double_and_bfloat16_precision_work(self, head: str) -> None:
        detector = confident(head)
        with torch.autocast("cpu", torch.bfloat16):
            losses = detector(pictures(), some_targets(), GENOTYPE)
            found = detector(pictures(), None, GENOTYPE)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        assert {one["boxes"].dtype for one in found} == {torch.float32}
        detector = detector.double()
        exact = detector(pictures().double(), some_targets(), GENOTYPE)
        assert {loss.dtype for loss in exact.values()} == {torch.float64}
        assert len(detector(pictures().double(), None, GENOTYPE)) == 2

    @torch.no_grad()
    def test_cost_in_closed_form_is_that_of_a_real_forward(self, head: str) -> None:
        for size in ((96, 128), (97, 131)):
            detector = confident(head)
            cost = detector.space.cost(GENOTYPE, size)
            images = pictures(1, *size)
            assert count_macs_of_call(detector, lambda: detector(images, None, GENOTYPE)) == cost.total.macs  # noqa: B023  # called at once
            standalone = Detector(detector.space.fixed(GENOTYPE), elastic=False)
            assert count_parameters(standalone) == cost.total.params
            for role, part in cost.parts.items():
                assert count_parameters(getattr(standalone, role)) == part.params


class TestBadInput:
    def test_elastic_detector_without_genotype_is_refused(self) -> None:
        with pytest.raises(GenotypeError, match="20 choices was expected, but 0 came"):
            elastic("fcos")(pictures())

    def test_standalone_detector_with_a_genotype_is_refused(self) -> None:
        detector = build_detector(detector_space(genotype="all-0"), elastic=False)
        with pytest.raises(GenotypeError, match="0 choices was expected, but 20 came"):
            detector(pictures(), None, GENOTYPE)

    def test_standalone_detector_of_a_searched_space_is_refused(self) -> None:
        with pytest.raises(GenotypeError, match="20 blocks are still searched"):
            build_detector(detector_space(), elastic=False)

    def test_unknown_number_of_classes_is_refused(self) -> None:
        space = detector_space()
        with pytest.raises(SettingError, match="num_classes"):
            build_detector(type(space)(space.backbone, space.neck, space.head), elastic=True)

    def test_unknown_initialisation_is_refused_by_name(self) -> None:
        with pytest.raises(UnknownNameError, match="'kaiming' is unknown; use one of framework, detnas"):
            build_detector(detector_space(), elastic=True, init="kaiming")

    def test_targets_for_another_number_of_pictures_are_refused(self) -> None:
        with pytest.raises(SettingError, match="1 came for 2 images"):
            elastic("fcos")(pictures(2), some_targets(1), GENOTYPE)


class TestInitialWeights:
    def weights(self, **options: int | str) -> dict[str, Tensor]:
        return build_detector(detector_space(), elastic=True, **options).state_dict()  # type: ignore[arg-type]  # seed and init

    def test_are_a_function_of_the_seed_and_leave_the_global_generator_alone(self) -> None:
        torch.manual_seed(9)
        state = torch.get_rng_state()
        first = self.weights(seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(10)
        second, third = self.weights(seed=3), self.weights(seed=4)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["backbone.stem.conv.weight"], third["backbone.stem.conv.weight"])

    def test_initialisations_differ_in_the_backbone_only(self) -> None:
        ours, detnas = self.weights(), self.weights(init="detnas")
        norm = "backbone.blocks.0.1.main.0.norm.bias"
        assert torch.all(ours[norm] == 0)
        assert torch.all(detnas[norm] == 1e-4)
        assert all(torch.equal(ours[name], detnas[name]) for name in ours if not name.startswith("backbone."))

    def test_towers_and_prior_start_as_published(self) -> None:
        weights = self.weights()
        assert float(weights["head.classification.conv.0.weight"].std()) == pytest.approx(0.01, rel=0.15)
        prior = torch.sigmoid(weights["head.classification.cls_logits.bias"])
        torch.testing.assert_close(prior, torch.full_like(prior, 0.01))


def test_no_proposal_at_all_is_no_detection() -> None:
    """Every proposal lies outside the picture and is clipped away."""
    detector = build_detector(detector_space("faster-rcnn"), elastic=True).eval()
    bias = detector.get_parameter("head.rpn.head.bbox_pred.bias")
    bias.data.view(-1, 4)[:, 0] = 1e4
    found = detector(pictures(2), genotype=GENOTYPE)
    assert [len(own["boxes"]) for own in found] == [0, 0]
    assert all(own["boxes"].shape == (0, 4) for own in found)
