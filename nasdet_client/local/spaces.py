"""Search spaces, from nasdet_core's torch-free descriptions."""

from __future__ import annotations

from typing import Any

from nasdet_client.errors import CommandError
from nasdet_core.errors import NasDetError
from nasdet_core.search_spaces.base import ROLES
from nasdet_core.search_spaces.parts import SPACES, build_named
from nasdet_core.search_spaces.published import PUBLISHED
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

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
    """Choice blocks with their candidates, the number of genotypes, settings; of a published network its figures."""
    try:
        part = build_named(name)
    except NasDetError as error:
        raise CommandError(str(error)) from error
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
        "published": PUBLISHED[name].figures_json() if name in PUBLISHED else None,
    }
