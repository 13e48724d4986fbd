"""What the authors report of their networks, as their two repositories say it."""

from __future__ import annotations

import json

import pytest

from nasdet_core.errors import UnknownNameError
from nasdet_core.search_spaces import PUBLISHED, DetectorSpace, DetNasBackbone, build_named
from nasdet_core.search_spaces.published import COCO, PAPER, REIMPLEMENTATION, VOC

# name: "FLOPs" in millions, parameters in millions, top-1 and top-5 error in percent, AP of the paper's models and of
# the re-implementation in percent (COCO: IoU .50:.95; VOC: IoU .50)
REPORTED = {
    "detnas-voc-retinanet-300m": (300, 3.5, 25.4, 8.1, 80.1, None),
    "detnas-voc-fpn-300m": (300, 3.7, 25.9, 8.3, 81.5, None),
    "detnas-coco-retinanet-300m": (300, 3.7, 26.0, 8.4, 33.3, 34.1),
    "detnas-coco-fpn-300m": (300, 3.5, 26.2, 8.4, 36.4, 36.6),
    "detnas-coco-fpn-1.3g": (1300, 10.4, 22.8, 6.5, 40.0, 40.3),
    "detnas-coco-fpn-3.8g": (3800, 29.5, 21.6, 6.3, 42.0, 42.0),
}


def test_every_published_network_has_figures() -> None:
    assert set(PUBLISHED) == set(REPORTED)


@pytest.mark.parametrize("name", REPORTED)
def test_figures_and_sources(name: str) -> None:
    figures = PUBLISHED[name].figures
    macs, params, top1, top5, paper, reimplementation = REPORTED[name]
    assert (figures.macs, figures.params) == (macs * 1e6, params * 1e6)
    assert (figures.top1_error_percent, figures.top5_error_percent) == (top1, top5)
    assert figures.source == PAPER
    metric, data = ("box_ap50", VOC) if "voc" in name else ("box_map", COCO)
    expected = [(metric, paper, data, PAPER)]
    if reimplementation is not None:
        expected.append((metric, reimplementation, data, REIMPLEMENTATION))
    assert [(ap.metric, round(100 * ap.value, 6), ap.data, ap.source) for ap in figures.ap] == expected


@pytest.mark.parametrize("name", REPORTED)
def test_reported_parameters_are_ours_rounded(name: str) -> None:
    """Of the 3.8G network with the last convolution of 1024 that its remark names."""
    found = PUBLISHED[name]
    last_conv = 1024 if found.remark else None
    part = DetNasBackbone(found.space, genotype=found.genotype)
    assert round(part.classifier_cost((), last_conv=last_conv).params / 1e6, 1) * 1e6 == found.figures.params


@pytest.mark.parametrize("name", REPORTED)
def test_figures_are_json(name: str) -> None:
    figures = PUBLISHED[name].figures_json()
    assert json.loads(json.dumps(figures)) == figures
    assert all(ap["source"] for ap in figures["ap"])


def test_only_the_3_8g_network_has_a_remark() -> None:
    remarks = {name: found.remark for name, found in PUBLISHED.items() if found.remark}
    assert list(remarks) == ["detnas-coco-fpn-3.8g"]
    assert "1024" in remarks["detnas-coco-fpn-3.8g"]
    assert "1728" in remarks["detnas-coco-fpn-3.8g"]


def test_the_last_convolution_is_no_setting_of_a_part() -> None:
    """A detector has none, so it may change neither a description nor an architecture's id."""
    with pytest.raises(UnknownNameError, match="unknown key 'last_conv'"):
        build_named("detnas-coco-fpn-3.8g", {"last_conv": 1024})
    neck_and_head = {"neck": {"model": "fpn"}, "head": {"model": "fcos"}}
    space = DetectorSpace.from_description({"backbone": {"model": "detnas-coco-fpn-3.8g"}, **neck_and_head}, 80)
    assert "last_conv" not in space.to_description()["backbone"]
