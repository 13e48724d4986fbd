"""DetNAS's COCO detectors: the names of the public code, its conventions, and the same detections before and after.

No published file could be had: checkpoints are made of seeded detectors of ours, under names written out by hand.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError
from nasdet_core.heads.retinanet import RetinaNetHead
from nasdet_core.importers.coco_classes import COCO_CLASSES
from nasdet_core.importers.detnas import Imported, import_checkpoint, save_imported
from nasdet_core.importers.detnas_detector import reference_anchors
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.checkpoint import load_detector
from tests.support.published_detnas import detector_state

GENOTYPE = (3, 0, 1, 2) * 5
FORMS = ("faster-rcnn", "retinanet")
NECKS: dict[str, dict[str, Any]] = {
    "faster-rcnn": {
        "model": "fpn",
        "channels": 32,
        "levels": ["c2", "c3", "c4", "c5"],
        "extra_levels": 1,
        "norm": "batch",
    },
    "retinanet": {"model": "fpn", "channels": 32, "levels": ["c3", "c4", "c5"], "extra_levels": 2, "norm": "none"},
}
HEADS: dict[str, dict[str, Any]] = {
    "faster-rcnn": {"model": "faster-rcnn", "box_head": "4conv1fc", "anchor_geometry": "detectron"},
    "retinanet": {"model": "retinanet", "nms_iou": 0.4, "anchor_geometry": "detectron"},
}


def seeded(form: str, *, supernet: bool, classes: int = 80) -> Detector:
    backbone = {"space": "detnas-300m", "width": 0.25, "split": "shuffle" if supernet else "even_odd"}
    description = {
        "backbone": backbone if supernet else {**backbone, "genotype": list(GENOTYPE)},
        "neck": NECKS[form],
        "head": HEADS[form],
    }
    detector = build_detector(DetectorSpace.from_description(description, classes), elastic=supernet, seed=3)
    generator = torch.Generator().manual_seed(4)
    for name, tensor in detector.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith(("cls_logits.bias", "cls_score.bias")):  # so that there are detections
            tensor.copy_(2 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith(("running_var", "num_batches_tracked")):
            tensor.copy_(torch.randint(1, 4, tensor.shape, generator=generator))
    return detector.eval()


def published(detector: Detector, file: Path) -> dict[str, Tensor]:
    """Write a COCO checkpoint as maskrcnn-benchmark does from several GPUs; returns what is under `model`."""
    state = detector_state(detector)
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    kept = {"model": parallel, "optimizer": {"state": {}, "param_groups": [{"lr": 0.02}]}, "iteration": 90_000}
    torch.save(kept, file, _use_new_zipfile_serialization=False)
    return state


@pytest.mark.parametrize("supernet", [False, True], ids=["single", "supernet"])
@pytest.mark.parametrize("form", FORMS)
def test_detector_is_the_same_before_and_after(form: str, supernet: bool, tmp_path: Path) -> None:
    original = seeded(form, supernet=supernet)
    state = published(original, tmp_path / "model.pth")

    imported = import_checkpoint(tmp_path / "model.pth")

    assert sorted(imported.consumed) == sorted(state)
    assert imported.present == len(state)
    assert imported.not_used == ("optimizer", "iteration")
    assert imported.contents.form == form
    assert isinstance(imported.model, Detector)
    assert imported.model.space == original.space
    assert imported.class_names == COCO_CLASSES
    assert imported.input.to_json() == {"image_size": [800, 1344], "pixel_format": "bgr_255"}
    assert_same_state(imported.model, original)
    assert_same_detections(imported.model, original, GENOTYPE if supernet else None)


def assert_same_state(came: Detector, wanted: Detector) -> None:
    state = came.state_dict()
    assert state.keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        # Dividing by 10 what was multiplied by 10 may change the last bit.
        torch.testing.assert_close(state[name], tensor, rtol=2e-7, atol=0, msg=name)


@torch.inference_mode()
def assert_same_detections(came: Detector, wanted: Detector, genotype: tuple[int, ...] | None) -> None:
    images = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(5)) * 255
    for ours, theirs in zip(came(images, genotype=genotype), wanted(images, genotype=genotype), strict=True):
        assert len(ours["boxes"]) > 10
        assert torch.equal(ours["labels"], theirs["labels"])
        torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_written_file_is_a_detector_file(form: str, tmp_path: Path) -> None:
    published(seeded(form, supernet=False), tmp_path / "model.pth")
    imported = import_checkpoint(tmp_path / "model.pth")

    digest = save_imported(imported, tmp_path / "model.safetensors")
    saved = load_detector(tmp_path / "model.safetensors")

    assert saved.digest == digest
    assert saved.class_names == COCO_CLASSES
    assert saved.input == imported.input
    assert saved.metadata["source"]["file"] == "model.pth"
    assert isinstance(imported.model, Detector)
    assert_same_state(saved.model, imported.model)


class TestConventions:
    def test_faster_rcnn_scores_the_background_first(self, tmp_path: Path) -> None:
        detector = seeded("faster-rcnn", supernet=False)
        state = detector_state(detector)
        state["roi_heads.box.predictor.cls_score.bias"] = torch.full((81,), -20.0)
        state["roi_heads.box.predictor.cls_score.bias"][1 + COCO_CLASSES.index("zebra")] = 20.0
        assert labels(self.imported(state, tmp_path)) == {"zebra"}

    def test_retinanet_has_no_background(self, tmp_path: Path) -> None:
        detector = seeded("retinanet", supernet=False)
        state = detector_state(detector)
        bias = torch.full((9, 80), -20.0)
        bias[:, COCO_CLASSES.index("zebra")] = 5.0
        state["rpn.head.cls_logits.bias"] = bias.flatten()
        assert labels(self.imported(state, tmp_path)) == {"zebra"}

    @pytest.mark.parametrize(("form", "nms_iou"), [("faster-rcnn", 0.5), ("retinanet", 0.4)])
    def test_test_settings_are_the_references(self, form: str, nms_iou: float, tmp_path: Path) -> None:
        imported = self.imported(detector_state(seeded(form, supernet=False)), tmp_path)
        assert isinstance(imported.model, Detector)
        settings = imported.model.space.head.settings
        assert (settings["nms_iou"], settings["score_threshold"], settings["detections"]) == (nms_iou, 0.05, 100)

    def test_what_the_geometry_costs_is_said(self, tmp_path: Path) -> None:
        (note,) = self.imported(detector_state(seeded("faster-rcnn", supernet=False)), tmp_path).notes
        assert "RoIAlign" in note
        assert self.imported(detector_state(seeded("retinanet", supernet=False)), tmp_path).notes == ()

    @torch.inference_mode()
    def test_retinanet_boxes_are_the_references(self, tmp_path: Path) -> None:
        """Its arithmetic, with the last pixel counted in, on the published offsets and anchors."""
        detector = seeded("retinanet", supernet=False)
        model = self.imported(detector_state(detector), tmp_path).model
        assert isinstance(model, Detector)
        head = model.head
        assert isinstance(head, RetinaNetHead)
        pyramid = model.features(torch.rand(1, 3, 128, 160) * 255)
        _, offsets = head(pyramid)
        ours = head._coder.decode_single(offsets[0], torch.cat(head._level_anchors(pyramid)))

        cells = []
        for level, stride in zip(head.levels, (8, 16, 32, 64, 128), strict=True):
            height, width = pyramid[level].shape[-2:]
            ys, xs = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
            shifts = torch.stack((xs, ys, xs, ys), dim=-1).reshape(-1, 1, 4)
            cells.append((shifts + reference_anchors("retinanet", stride)).reshape(-1, 4))
        anchors = torch.cat(cells)
        sides = anchors[:, 2:] - anchors[:, :2] + 1
        centres = anchors[:, :2] + 0.5 * sides
        centres = offsets[0, :, :2] * sides + centres
        sides = offsets[0, :, 2:].clamp(max=math.log(1000 / 16)).exp() * sides
        theirs = torch.cat((centres - 0.5 * sides, centres + 0.5 * sides - 1), dim=1)
        last_pixel = torch.tensor([0, 0, 1, 1])
        torch.testing.assert_close(ours.double(), theirs + last_pixel, rtol=1e-5, atol=1e-3)

    def imported(self, state: dict[str, Tensor], tmp_path: Path) -> Imported:
        torch.save({"model": state}, tmp_path / "model.pth")
        return import_checkpoint(tmp_path / "model.pth")


@torch.inference_mode()
def labels(imported: Imported) -> set[str]:
    assert isinstance(imported.model, Detector)
    (found,) = imported.model(torch.rand(1, 3, 96, 128) * 255)
    return {imported.class_names[label] for label in found["labels"].tolist()}


class TestClasses:
    def test_names_are_needed_where_it_is_not_coco(self, tmp_path: Path) -> None:
        published(seeded("faster-rcnn", supernet=False, classes=3), tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"names of the detector's 3 classes were expected.* none were given"):
            import_checkpoint(tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"3 classes were expected.* 2 were given"):
            import_checkpoint(tmp_path / "model.pth", class_names=["a", "b"])
        assert import_checkpoint(tmp_path / "model.pth", class_names=["a", "b", "c"]).class_names == ("a", "b", "c")

    def test_there_are_eighty_of_coco(self) -> None:
        assert len(set(COCO_CLASSES)) == len(COCO_CLASSES) == 80
        assert (COCO_CLASSES[0], COCO_CLASSES[22], COCO_CLASSES[79]) == ("person", "zebra", "toothbrush")


class TestStrictness:
    def test_all_differences_are_listed_at_once(self, tmp_path: Path) -> None:
        state = detector_state(seeded("faster-rcnn", supernet=False))
        del state["backbone.fpn.fpn_layer2.1.running_var"]
        state["roi_heads.mask.predictor.weight"] = torch.zeros(1)
        state["rpn.head.conv.bias"] = torch.zeros(31)
        torch.save({"model": state}, tmp_path / "model.pth")
        with pytest.raises(CheckpointError) as refusal:
            import_checkpoint(tmp_path / "model.pth")
        for difference in (
            "1 is missing (backbone.fpn.fpn_layer2.1.running_var)",
            "1 is unexpected (roi_heads.mask.predictor.weight)",
            "1 is of another shape or type (rpn.head.conv.bias (31,) instead of (32,))",
        ):
            assert difference in str(refusal.value)

    def test_detector_without_a_head_is_refused(self, tmp_path: Path) -> None:
        state = detector_state(seeded("retinanet", supernet=False))
        torch.save({name: state[name] for name in state if name.startswith("backbone.")}, tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"a Faster R-CNN .* or a RetinaNet .* was expected"):
            import_checkpoint(tmp_path / "model.pth")

    @pytest.mark.parametrize("form", FORMS)
    def test_anchors_of_another_kind_are_refused(self, form: str, tmp_path: Path) -> None:
        state = detector_state(seeded(form, supernet=False))
        state["rpn.anchor_generator.cell_anchors.1"] = torch.zeros(3, 4)
        torch.save({"model": state}, tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"anchors of a DetNAS .*cell_anchors\.1, but others came"):
            import_checkpoint(tmp_path / "model.pth")


class TestReferenceAnchors:
    def test_of_the_proposal_network(self) -> None:
        """The second is the well-known first row of Faster R-CNN's anchors (16 pixels of stride, 128 of size)."""
        assert reference_anchors("faster-rcnn", 4).tolist() == [
            [-22, -10, 25, 13],
            [-14, -14, 17, 17],
            [-10, -22, 13, 25],
        ]
        assert reference_anchors("faster-rcnn", 16)[0].tolist() == [-84, -40, 99, 55]

    def test_of_retinanet(self) -> None:
        cells = reference_anchors("retinanet", 8)
        assert cells.shape == (9, 4)
        assert cells[3].tolist() == [-12, -12, 19, 19]  # 32 x 32 around 4
        assert (cells[5, 2] - cells[5, 0] + 1).item() == pytest.approx(32 * 2 ** (2 / 3))
