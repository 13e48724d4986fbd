"""The parts this version knows, by their public names, and the way from a description to a part.

The names are public API (search specifications, POST /v1/searches). A description is what a specification
holds: `{space: NAME, ...}` for a space that can be searched, `{model: NAME, ...}` for a fixed part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from nasdet_core.errors import SettingError, UnknownNameError
from nasdet_core.search_spaces.base import BackbonePart, HeadPart, NeckPart, Part, Role
from nasdet_core.search_spaces.fpn_neck import fpn_from_description
from nasdet_core.search_spaces.heads_fixed import (
    faster_rcnn_from_description,
    fcos_from_description,
    retinanet_from_description,
)
from nasdet_core.search_spaces.published import PUBLISHED
from nasdet_core.search_spaces.settings import refuse_unknown_keys
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone, backbone_from_description

PartBuilder = Callable[[str, Mapping[str, Any]], Part]  # (name, description without its name)
Keyword = Literal["space", "model"]


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One public name: its role, the keyword that introduces it, how to build it, and one line about it."""

    role: Role
    keyword: Keyword
    build: PartBuilder
    summary: str


def _published_backbone(name: str, description: Mapping[str, Any]) -> DetNasBackbone:
    refuse_unknown_keys(f"backbone {name!r}", description, ("width", "split"))
    found = PUBLISHED[name]
    return backbone_from_description(found.space, {**description, "genotype": found.genotype})


SPACES: Mapping[str, PartEntry] = {
    "detnas-300m": PartEntry("backbone", "space", backbone_from_description, "DetNAS, small: 20 blocks x 4 candidates"),
    "detnas-1.3g": PartEntry("backbone", "space", backbone_from_description, "DetNAS, large: 40 blocks x 4 candidates"),
    "detnas-3.8g": PartEntry("backbone", "space", backbone_from_description, "DetNAS, large and about 1.8 times wider"),
    **{
        name: PartEntry("backbone", "model", _published_backbone, f"published, found for {found.found_for}")
        for name, found in PUBLISHED.items()
    },
    "fpn": PartEntry("neck", "model", fpn_from_description, "feature pyramid network"),
    "fcos": PartEntry("head", "model", fcos_from_description, "FCOS, anchor-free"),
    "retinanet": PartEntry("head", "model", retinanet_from_description, "RetinaNet, 9 anchors per position"),
    "faster-rcnn": PartEntry("head", "model", faster_rcnn_from_description, "Faster R-CNN with DetNAS's box head"),
}


_TAKES_PREFERENCES = ("fpn",)  # necks that have the settings `levels` and `extra_levels`


def list_spaces() -> tuple[str, ...]:
    """Every public name, in the order of the registry."""
    return tuple(SPACES)


def known_names(role: Role | None = None) -> str:
    return ", ".join(name for name, entry in SPACES.items() if role in (None, entry.role))


def find_part(name: str) -> PartEntry:
    """The registry's entry of a name; UnknownNameError lists the known ones."""
    if name not in SPACES:
        raise UnknownNameError(f"unknown space or model {name!r}; known names are {known_names()}")
    return SPACES[name]


def build_named(name: str, settings: Mapping[str, Any] | None = None) -> Part:
    """The part of a public name, with the settings of its description."""
    return find_part(name).build(name, dict(settings or {}))


def build_part(role: Role, description: Mapping[str, Any]) -> Part:
    """Build the part of a description, e.g. `{space: detnas-300m, width: 0.5}`, `{model: fpn}`."""
    name = part_name(role, description)
    settings = {key: value for key, value in description.items() if key not in ("space", "model")}
    return SPACES[name].build(name, settings)


def part_name(role: Role, description: Mapping[str, Any]) -> str:
    """The name a description gives, checked to be known and of this role, under the right keyword."""
    if not _is_description(description):
        raise SettingError(
            f"{role}: a mapping such as {_example(role)} was expected, but {str(description)[:80]!r} came"
        )
    keywords = [keyword for keyword in ("space", "model") if keyword in description]
    if len(keywords) != 1:
        raise UnknownNameError(
            f"{role}: exactly one of `space: NAME` (searched) and `model: NAME` (fixed) was expected, but "
            f"{' and '.join(keywords) or 'neither'} came; known names are {known_names(role)}"
        )
    name = description[keywords[0]]
    if not isinstance(name, str) or name not in SPACES or SPACES[name].role != role:
        raise UnknownNameError(f"unknown {role} {name!r}; known names are {known_names(role)}")
    if SPACES[name].keyword != keywords[0]:
        raise UnknownNameError(
            f"{role} {name!r} is introduced by `{SPACES[name].keyword}:`, but came as `{keywords[0]}:`; "
            f"write {{{SPACES[name].keyword}: {name}}}"
        )
    return name


def _is_description(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _example(role: Role) -> str:
    examples: Mapping[Role, str] = {
        "backbone": "{space: detnas-300m}",
        "neck": "{model: fpn}",
        "head": "{model: fcos}",
    }
    return examples[role]


def build_backbone(description: Mapping[str, Any]) -> BackbonePart:
    return cast(BackbonePart, build_part("backbone", description))


def build_head(description: Mapping[str, Any]) -> HeadPart:
    return cast(HeadPart, build_part("head", description))


def build_neck(description: Mapping[str, Any], head: HeadPart) -> NeckPart:
    """Settings that the description leaves out are those the head prefers, e.g. levels from stride 4 on."""
    name = part_name("neck", description)
    preferred = head.preferred_neck if name in _TAKES_PREFERENCES else {}
    return cast(NeckPart, build_part("neck", {**preferred, **description}))
