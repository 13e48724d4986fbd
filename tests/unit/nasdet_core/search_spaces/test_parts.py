"""The registry: names, keywords, roles."""

from __future__ import annotations

from typing import Any

import pytest

from nasdet_core.errors import SettingError, UnknownNameError
from nasdet_core.search_spaces import SPACES, DetNasBackbone, FpnNeck, build_named, build_part, list_spaces


def test_the_spaces_of_detnas_are_introduced_by_space_all_else_by_model() -> None:
    spaces = {name for name, entry in SPACES.items() if entry.keyword == "space"}
    assert spaces == {"detnas-300m", "detnas-1.3g", "detnas-3.8g"}
    assert {"fpn", "fcos", "retinanet", "faster-rcnn", "detnas-coco-fpn-300m"} <= set(list_spaces())


@pytest.mark.parametrize("name", list(SPACES))
def test_every_name_builds_with_its_defaults_and_round_trips(name: str) -> None:
    part = build_named(name)
    assert part.role == SPACES[name].role
    assert build_part(part.role, part.to_description()) == part


def test_a_name_alone_takes_settings() -> None:
    assert build_named("fpn", {"channels": 64}) == FpnNeck(channels=64)
    assert build_named("detnas-300m", {"genotype": "all-1"}) == DetNasBackbone(
        "detnas-300m", split="even_odd", genotype=(1,) * 20
    )


@pytest.mark.parametrize(
    ("role", "description", "message"),
    [
        ("backbone", {"space": "detnas-301m"}, "unknown backbone 'detnas-301m'; known names are detnas-300m, "),
        ("backbone", {"model": "fpn"}, "unknown backbone 'fpn'"),
        ("neck", {"model": "detnas-300m"}, "unknown neck 'detnas-300m'; known names are fpn"),
        ("backbone", {"model": "detnas-300m"}, r"write \{space: detnas-300m\}"),
        ("neck", {"space": "fpn"}, r"write \{model: fpn\}"),
        ("backbone", {}, "exactly one of .* but neither came"),
        ("backbone", {"space": "detnas-300m", "model": "fpn"}, "but space and model came"),
        ("backbone", {"space": ["detnas-300m"]}, "unknown backbone"),
        ("backbone", {"space": None}, "unknown backbone None"),
    ],
)
def test_unknown_names_are_refused(role: Any, description: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build_part(role, description)


@pytest.mark.parametrize("description", ["detnas-300m", None, [], {1: 2}])
def test_a_description_that_is_no_mapping_is_refused(description: Any) -> None:
    with pytest.raises(SettingError, match=r"a mapping such as \{space: detnas-300m\} was expected"):
        build_part("backbone", description)


def test_an_unknown_name_alone_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown space or model 'resnet'; known names are detnas-300m"):
        build_named("resnet")
