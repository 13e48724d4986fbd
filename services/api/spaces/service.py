"""Spaces come from the code, not from the database."""

from __future__ import annotations

import math

from nasdet_core.errors import UnknownNameError
from nasdet_core.search_spaces.parts import SPACES, build_named
from services.api.spaces.schemas import BlockRead, SpaceRead, SpaceSummary
from services.common.errors import NotFoundError


def summaries() -> list[SpaceSummary]:
    return [
        SpaceSummary(name=name, role=entry.role, kind=entry.keyword, summary=entry.summary)
        for name, entry in SPACES.items()
    ]


def get(name: str) -> SpaceRead:
    try:
        part = build_named(name)
    except UnknownNameError as error:
        raise NotFoundError(str(error)) from error
    entry = SPACES[name]
    return SpaceRead(
        name=name,
        role=entry.role,
        kind=entry.keyword,
        summary=entry.summary,
        version=part.version,
        settings={key: list(value) if isinstance(value, tuple) else value for key, value in part.settings.items()},
        size=float(math.prod(len(block.candidates) for block in part.blocks)),
        blocks=[
            BlockRead(name=block.name, stride=block.stride, candidates=list(block.candidates)) for block in part.blocks
        ],
    )
