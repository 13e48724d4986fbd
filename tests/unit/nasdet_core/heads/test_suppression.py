"""Suppression over a batch: equal to torchvision's per image, and to itself whatever stands beside an image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from nasdet_core.heads import suppression
from nasdet_core.heads.suppression import clip_boxes, image_limits, suppress, top_per_level

IMAGES, CLASSES = 3, 4


def candidates(seed: int = 0, count: int = 400) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crowded boxes, scores with ties, classes, images."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 30), dim=1)
    scores = (torch.rand(count, generator=generator) * 50).round() / 50
    classes = torch.randint(0, CLASSES, (count,), generator=generator)
    images = torch.randint(0, IMAGES, (count,), generator=generator)
    return boxes, scores, classes, images


def run(*, at_once: bool, limit: int = 1000) -> list[Tensor]:
    boxes, scores, classes, images = candidates()
    separated = suppression._separate(boxes, classes)
    strategy = suppression._suppress_at_once if at_once else suppression._suppress_image_by_image
    return strategy(separated, scores.double(), images, IMAGES, 0.5, limit)


def by_hand(image: int) -> set[int]:
    boxes, scores, classes, images = candidates()
    kept: set[int] = set()
    for label in range(CLASSES):
        own = torch.where((images == image) & (classes == label))[0]
        kept |= set(own[nms(boxes[own], scores[own], 0.5)].tolist())
    return kept


@pytest.mark.parametrize("at_once", [False, True], ids=["image by image", "at once"])
def test_survivors_are_those_of_each_image_and_class_alone(at_once: bool) -> None:
    for image, kept in enumerate(run(at_once=at_once)):
        assert set(kept.tolist()) == by_hand(image)
        assert len(kept) == len(by_hand(image))


@pytest.mark.parametrize("limit", [7, 1000])
def test_both_strategies_give_the_same_order(limit: int) -> None:
    scores = candidates()[1]
    for one, other in zip(run(at_once=False, limit=limit), run(at_once=True, limit=limit), strict=True):
        assert one.tolist() == other.tolist()
        assert len(one) <= limit
        assert torch.all(scores[one].diff() <= 0)


def test_no_candidates_give_no_detections() -> None:
    empty = torch.zeros(0)
    for at_once in (False, True):
        strategy = suppression._suppress_at_once if at_once else suppression._suppress_image_by_image
        kept = strategy(torch.zeros(0, 4).double(), empty.double(), empty.long(), 2, 0.5, 10)
        assert [len(own) for own in kept] == [0, 0]
    assert (
        len(suppress(torch.zeros(0, 4), empty, empty.long(), empty.long(), num_images=2, iou_threshold=0.5, limit=9))
        == 2
    )


def test_borderline_overlap_does_not_hang_on_the_place_in_the_batch() -> None:
    # The IoU is just under 0.6; a float32 sum far from the origin rounds coordinates to hundredths.
    pair = torch.tensor([[0.13, 0.27, 10.13, 10.31], [0.13, 0.27, 10.13, 6.2935]])
    alone = suppress(
        pair, torch.tensor([0.9, 0.8]), torch.zeros(2).long(), torch.zeros(2).long(),
        num_images=1, iou_threshold=0.6, limit=9,
    )  # fmt: skip
    assert len(alone[0]) == 2
    beside = torch.tensor([[0.0, 0.0, 4000.3, 3000.7]])
    for group in range(1, 200, 13):
        together = suppress(
            torch.cat((beside, pair)), torch.tensor([0.95, 0.9, 0.8]), torch.tensor([0, group, group]),
            torch.zeros(3).long(), num_images=1, iou_threshold=0.6, limit=9,
        )  # fmt: skip
        assert len(together[0]) == 1 + len(alone[0])


def test_best_of_each_level_are_taken() -> None:
    scores = torch.tensor([[[0.1, 0.9], [0.2, 0.3], [0.8, 0.7]]])  # two anchors on the first level, one on the second
    best, anchors, classes = top_per_level(scores, [2, 1], 3)
    assert best.tolist() == [[pytest.approx(value) for value in (0.9, 0.3, 0.2, 0.8, 0.7)]]
    assert anchors.tolist() == [[0, 1, 1, 2, 2]]
    assert classes.tolist() == [[1, 1, 0, 0, 1]]


def test_boxes_are_clipped_to_their_own_image() -> None:
    boxes = torch.tensor([[[-3.0, -2.0, 50.0, 60.0]], [[1.0, 2.0, 50.0, 60.0]]])
    limits = image_limits([(20, 30), (55, 45)], boxes)
    assert clip_boxes(boxes, limits[:, None]).tolist() == [[[0, 0, 30, 20]], [[1, 2, 45, 55]]]
