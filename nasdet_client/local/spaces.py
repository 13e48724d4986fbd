"""Search spaces and costs, from nasdet_core's torch-free descriptions."""

from __future__ import annotations

from typing import Any

from nasdet_client.errors import CommandError
from nasdet_core.errors import NasDetError
from nasdet_core.search_spaces.base import ROLES, BackbonePart, Genotype, ImageSize, Part
from nasdet_core.search_spaces.parts import SPACES, build_named, find_part
from nasdet_core.search_spaces.settings import parse_genotype
from nasdet_core.search_spaces.shufflenet_chain import CLASSIFIER_IMAGE_SIZE, DetNasBackbone

Json = dict[str, Any]


def list_spaces() -> list[Json]:
    """Name, role, whether it is searched, and one line about it."""
    return [
        {"name": name, "role": entry.role, "kind": entry.keyword, "summary": entry.summary}
        for name, entry in sorted(
            SPACES.items(), key=lambda item: (ROLES.index(item[1].role), item[1].keyword != "space")
        )
    ]


def show_space(name: str) -> Json:
    """Choice blocks with their candidates, the number of genotypes, settings."""
    part = _build(name, {})
    size = 1
    for block in part.blocks:
        size *= len(block.candidates)
    return {
        "name": name,
        "role": part.role,
        "summary": SPACES[name].summary,
        "version": part.version,
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in part.settings.items()},
        "genotypes": size,
        "blocks": [
            {"name": block.name, "stride": block.stride, "candidates": list(block.candidates)} for block in part.blocks
        ],
        "genotype": list(part.genotype or ()) if isinstance(part, DetNasBackbone) else [],
    }


def backbone_cost(name: str, genotype: str | None, image_size: ImageSize | None, width: float | None) -> Json:
    """MACs and parameters of a backbone alone, at 224x224 unless told otherwise; `classifier` always at 224x224."""
    part = _build(name, {} if width is None else {"width": width})
    if not isinstance(part, BackbonePart):
        raise CommandError(
            f"expected a backbone, but {name!r} is a {part.role}: what it costs hangs on the levels it gets; known "
            f"backbones are {', '.join(known for known, entry in SPACES.items() if entry.role == 'backbone')}"
        )
    genes = _genotype(name, part, genotype)
    size = image_size or CLASSIFIER_IMAGE_SIZE
    try:
        cost = part.cost(genes, size)
        backbone: Json = cost.to_json()
        if isinstance(part, DetNasBackbone):
            backbone["classifier"] = part.classifier_cost(genes).to_json()
    except NasDetError as error:
        raise CommandError(str(error)) from error
    return {**cost.to_json(), "image_size": list(size), "parts": {"backbone": backbone}}


def _genotype(name: str, part: BackbonePart, text: str | None) -> Genotype:
    if not part.blocks:
        if text is not None:
            raise CommandError(f"{name!r} is a fixed network and takes no genotype; leave --genotype out")
        return ()
    if text is None:
        raise CommandError(
            f"expected a genotype of {len(part.blocks)} choices for the space {name!r}; "
            f'give one, e.g. --genotype all-0, or --genotype "{" ".join(["0"] * len(part.blocks))}"'
        )
    try:
        genes = parse_genotype(text, len(part.blocks))
        part.validate(genes)
    except NasDetError as error:
        raise CommandError(f"--genotype: {error}") from error
    return genes


def _build(name: str, settings: Json) -> Part:
    try:
        find_part(name)
        return build_named(name, settings)
    except NasDetError as error:
        raise CommandError(str(error)) from error
