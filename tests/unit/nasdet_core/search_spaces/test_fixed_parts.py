"""FPN and the fixed heads: closed-form costs against torchvision's own modules, fits and misfits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from nasdet_core.errors import IncompatiblePartsError, SettingError, UnknownNameError
from nasdet_core.search_spaces import (
    Cost,
    DetNasBackbone,
    FasterRcnnHeadSpec,
    FcosHeadSpec,
    FpnNeck,
    LevelSpec,
    RetinaNetHeadSpec,
    build_part,
)

FEATURES = DetNasBackbone("detnas-300m", width=0.5).feature_levels()
SIZES = [(192, 256), (201, 333)]


def level_shapes(levels: tuple[LevelSpec, ...], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Shapes by repeated halving, as padded stride-2 convolutions do it."""
    shapes = []
    for level in levels:
        height, width = size
        for _ in range(level.stride.bit_length() - 1):
            height, width = (height + 1) // 2, (width + 1) // 2
        shapes.append((1, level.channels, height, width))
    return shapes


def counted(module: Any, run: Callable[[Any], Any]) -> Cost:
    """MACs of a forward on the meta device by hooks, and the parameters."""
    torch = pytest.importorskip("torch")
    macs = 0

    def count(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal macs
        del inputs
        macs += output.numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    with torch.device("meta"):
        run(module)
    return Cost(macs, sum(parameter.numel() for parameter in module.parameters()))


def zeros(shape: tuple[int, ...]) -> Any:
    torch = pytest.importorskip("torch")
    return torch.zeros(shape, device="meta")


@pytest.fixture
def meta() -> Any:
    """Modules built inside hold no memory; skips where torch is not installed."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    return lambda: torch.device("meta")


class TestFpnCost:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("extra_levels", [0, 1, 2])
    def test_equals_torchvision(self, meta: Any, size: tuple[int, int], extra_levels: int) -> None:
        from torchvision.ops.feature_pyramid_network import (
            FeaturePyramidNetwork,
            LastLevelMaxPool,
            LastLevelP6P7,
        )

        neck = FpnNeck(channels=64, extra_levels=extra_levels)
        with meta():
            extra = [None, LastLevelMaxPool(), LastLevelP6P7(64, 64)][extra_levels]
            module = FeaturePyramidNetwork([level.channels for level in FEATURES[1:]], 64, extra)
        inputs = OrderedDict((str(i), zeros(shape)) for i, shape in enumerate(level_shapes(FEATURES[1:], size)))
        expected = counted(module, lambda fpn: fpn(inputs))
        assert neck.cost((), size, FEATURES) == expected
        outputs = [tuple(output.shape) for output in module(inputs).values()]
        assert level_shapes(neck.out_levels(FEATURES), size) == outputs

    def test_batch_norm_adds_its_affine_parameters_and_keeps_the_bias(self) -> None:
        plain, normed = FpnNeck(channels=64), FpnNeck(channels=64, norm="batch")
        difference = normed.cost((), (192, 256), FEATURES).params - plain.cost((), (192, 256), FEATURES).params
        assert difference == 3 * 2 * (2 * 64)  # 3 levels, lateral and output convolution, weight and bias
        assert normed.cost((), (192, 256), FEATURES).macs == plain.cost((), (192, 256), FEATURES).macs

    def test_levels_are_named_by_their_stride(self) -> None:
        assert [level.name for level in FpnNeck().out_levels(FEATURES)] == ["p3", "p4", "p5", "p6", "p7"]
        assert [level.stride for level in FpnNeck().out_levels(FEATURES)] == [8, 16, 32, 64, 128]


class TestHeadCost:
    levels = FpnNeck(channels=64).out_levels(FEATURES)

    @pytest.mark.parametrize("size", SIZES)
    def test_fcos_equals_torchvision(self, meta: Any, size: tuple[int, int]) -> None:
        from torchvision.models.detection.fcos import FCOSHead

        with meta():
            module = FCOSHead(64, num_anchors=1, num_classes=3, num_convs=2)
        inputs = [zeros(shape) for shape in level_shapes(self.levels, size)]
        expected = counted(module, lambda head: head(inputs))
        assert FcosHeadSpec(convs=2).cost((), size, self.levels, 3) == expected

    @pytest.mark.parametrize("size", SIZES)
    def test_retinanet_equals_torchvision(self, meta: Any, size: tuple[int, int]) -> None:
        from torchvision.models.detection.retinanet import RetinaNetHead

        with meta():
            module = RetinaNetHead(64, num_anchors=9, num_classes=20)
        inputs = [zeros(shape) for shape in level_shapes(self.levels, size)]
        expected = counted(module, lambda head: head(inputs))
        assert RetinaNetHeadSpec().cost((), size, self.levels, 20) == expected

    @pytest.mark.parametrize("box_head", ["4conv1fc", "2fc"])
    def test_faster_rcnn_equals_torchvision(self, meta: Any, box_head: str) -> None:
        import torch
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.rpn import RPNHead

        neck = FpnNeck(channels=64, levels=("c2", "c3", "c4", "c5"), extra_levels=1)
        levels, size, proposals = neck.out_levels(FEATURES), (192, 256), 7
        with meta():
            proposal_head = RPNHead(64, 3)
            if box_head == "2fc":
                features: Any = TwoMLPHead(64 * 49, 1024)
            else:  # DetNAS's: bias, batch norm and ReLU, unlike torchvision's, which has no bias beside a norm
                convs = [
                    layer
                    for _ in range(4)
                    for layer in (torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.BatchNorm2d(64))
                ]
                features = torch.nn.Sequential(*convs, torch.nn.Flatten(), torch.nn.Linear(64 * 49, 1024))
            box = torch.nn.Sequential(features, FastRCNNPredictor(1024, 3 + 1))
        inputs = [zeros(shape) for shape in level_shapes(levels, size)]
        expected = counted(proposal_head, lambda head: head(inputs)) + counted(
            box, lambda head: head(zeros((proposals, 64, 7, 7)))
        )
        head = FasterRcnnHeadSpec(proposals=proposals, box_head=box_head)
        assert head.cost((), size, levels, 3) == expected

    def test_detnas_predicts_81_classes_and_324_deltas_on_coco(self) -> None:
        one, two = (
            FasterRcnnHeadSpec(proposals=1).cost((), (64, 64), (LevelSpec("p2", 256, 4),), classes).params
            for classes in (80, 79)
        )
        assert one - two == (1024 + 1) * 5  # one class more: one score and four deltas


class TestFit:
    def test_fpn_needs_levels_the_backbone_has(self) -> None:
        with pytest.raises(IncompatiblePartsError, match=r"needs level 'c6', but the backbone gives c2 \(stride"):
            FpnNeck(levels=("c5", "c6")).out_levels(FEATURES)

    @pytest.mark.parametrize("levels", [("c3", "c5"), ("c4", "c3"), ("c3", "c3")])
    def test_fpn_needs_consecutive_levels(self, levels: tuple[str, ...]) -> None:
        with pytest.raises(IncompatiblePartsError, match="needs levels whose strides double"):
            FpnNeck(levels=levels).out_levels(FEATURES)

    def test_faster_rcnn_needs_stride_four(self) -> None:
        with pytest.raises(IncompatiblePartsError, match=r"levels from stride 4 on, but the neck gives p3"):
            FasterRcnnHeadSpec().check_levels(FpnNeck().out_levels(FEATURES))

    def test_fcos_needs_channels_its_groups_divide(self) -> None:
        with pytest.raises(IncompatiblePartsError, match="32 norm groups divide, but its levels have 48"):
            FcosHeadSpec().check_levels(FpnNeck(channels=48).out_levels(FEATURES))

    def test_heads_need_equal_channels(self) -> None:
        with pytest.raises(IncompatiblePartsError, match="same channels on every level, but c2 has 32"):
            RetinaNetHeadSpec().check_levels(FEATURES)

    def test_a_head_needs_a_level(self) -> None:
        with pytest.raises(IncompatiblePartsError, match="needs at least one level"):
            RetinaNetHeadSpec().check_levels(())


class TestSettings:
    @pytest.mark.parametrize(
        ("role", "description", "message"),
        [
            ("neck", {"model": "fpn", "channels": 0}, "channels: a whole number from 1"),
            ("neck", {"model": "fpn", "channels": 64.0}, "but 64.0 came"),
            ("neck", {"model": "fpn", "levels": []}, "a list of level names was expected"),
            ("neck", {"model": "fpn", "levels": "c3"}, "a list of level names was expected"),
            ("neck", {"model": "fpn", "extra_levels": 3}, "extra_levels: a whole number from 0 to 2"),
            ("neck", {"model": "fpn", "norm": "group"}, "norm: one of none, batch"),
            ("head", {"model": "fcos", "convs": -1}, "convs: a whole number"),
            ("head", {"model": "fcos", "norm_groups": True}, "norm_groups: a whole number"),
            ("head", {"model": "retinanet", "convs": "4"}, "but '4' came"),
            ("head", {"model": "faster-rcnn", "box_head": "3fc"}, "one of 4conv1fc, 2fc"),
            ("head", {"model": "faster-rcnn", "proposals": 0}, "proposals: a whole number"),
        ],
    )
    def test_bad_values_are_refused(self, role: Any, description: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingError, match=message):
            build_part(role, description)

    @pytest.mark.parametrize(
        ("role", "name"), [("neck", "fpn"), ("head", "fcos"), ("head", "retinanet"), ("head", "faster-rcnn")]
    )
    def test_unknown_keys_are_refused_by_name(self, role: Any, name: str) -> None:
        with pytest.raises(UnknownNameError, match=rf"{role} '{name}': unknown key 'anchors'"):
            build_part(role, {"model": name, "anchors": 9})
