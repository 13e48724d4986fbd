"""A detector as a search space: backbone x neck x head, each fixed or searched, over one genotype."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nasdet_core.errors import GenotypeError, IncompatiblePartsError, SettingError, UnknownNameError
from nasdet_core.search_spaces.base import (
    DEFAULT_MUTATION_PROBABILITY,
    ROLES,
    BackbonePart,
    ChoiceBlock,
    Cost,
    CostFactors,
    Genotype,
    HeadPart,
    ImageSize,
    LevelSpec,
    NeckPart,
    Part,
    Role,
    total_cost,
    validate_genotype,
)
from nasdet_core.search_spaces.parts import build_backbone, build_head, build_neck
from nasdet_core.search_spaces.settings import refuse_unknown_keys, whole_number

SCHEMA = 1  # of architecture ids
ARCHITECTURE_ID_LENGTH = 16  # hex digits
MAX_IMAGE_SIDE = 16_384


@dataclass(frozen=True, slots=True)
class DetectorCost:
    total: Cost
    parts: Mapping[Role, Cost]


@dataclass(frozen=True)
class DetectorSpace:
    """All detectors that can be made of three parts.

    A genotype is the concatenation of the parts' genotypes in the order backbone, neck, head. `num_classes`
    counts object classes without background; None where the data are not known yet (then heads have no cost).
    """

    backbone: BackbonePart
    neck: NeckPart
    head: HeadPart
    num_classes: int | None = None

    def __post_init__(self) -> None:
        for role, part in self.parts.items():
            if part.role != role:
                raise IncompatiblePartsError(f"a {role} was expected, but {part.name!r} is a {part.role}")
        if self.num_classes is not None:
            whole_number("num_classes", self.num_classes, 1, 100_000)
        self.head.check_levels(self.neck.out_levels(self.backbone.feature_levels()))

    @classmethod
    def from_description(cls, description: Mapping[str, Any], num_classes: int | None = None) -> DetectorSpace:
        """Read `{backbone: ..., neck: ..., head: ...}`; neck settings left out are those the head prefers."""
        if not isinstance(description, Mapping):
            raise SettingError(f"detector: a mapping with {', '.join(ROLES)} was expected, but {description!r} came")
        refuse_unknown_keys("detector", description, ROLES)
        for role in ROLES:
            if role not in description:
                raise UnknownNameError(f"detector: {', '.join(ROLES)} were expected, but {role!r} is missing")
        head = build_head(description["head"])
        return cls(
            backbone=build_backbone(description["backbone"]),
            neck=build_neck(description["neck"], head),
            head=head,
            num_classes=num_classes,
        )

    def to_description(self) -> dict[str, Any]:
        """Canonical JSON with every setting written out; `from_description` makes an equal space of it."""
        return {role: part.to_description() for role, part in self.parts.items()}

    @property
    def parts(self) -> Mapping[Role, Part]:
        return {"backbone": self.backbone, "neck": self.neck, "head": self.head}

    @property
    def levels(self) -> Mapping[Role, tuple[LevelSpec, ...]]:
        """What the backbone and the neck hand on."""
        features = self.backbone.feature_levels()
        return {"backbone": features, "neck": self.neck.out_levels(features)}

    # --- genotypes ------------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        """Every searched block, its name prefixed with its part's role."""
        return tuple(
            replace(block, name=f"{role}.{block.name}") for role, part in self.parts.items() for block in part.blocks
        )

    @property
    def size(self) -> int:
        """Number of genotypes (of architectures, where all genotypes are canonical)."""
        return math.prod(len(block.candidates) for block in self.blocks)

    def split(self, genotype: Genotype) -> dict[Role, Genotype]:
        """The slice of each part."""
        if len(genotype) != len(self.blocks):
            raise GenotypeError(f"a genotype of {len(self.blocks)} choices was expected, but {len(genotype)} came")
        slices: dict[Role, Genotype] = {}
        start = 0
        for role, part in self.parts.items():
            end = start + len(part.blocks)
            slices[role] = tuple(genotype[start:end])
            start = end
        return slices

    def validate(self, genotype: Genotype) -> None:
        validate_genotype(self.blocks, genotype)
        for role, genes in self.split(genotype).items():
            self.parts[role].validate(genes)

    def canonical(self, genotype: Genotype) -> Genotype:
        validate_genotype(self.blocks, genotype)
        genes = self.split(genotype)
        return _joined(part.canonical(genes[role]) for role, part in self.parts.items())

    def sample(self, rng: random.Random) -> Genotype:
        return _joined(part.sample(rng) for part in self.parts.values())

    def mutate(
        self, parent: Genotype, rng: random.Random, probability: float = DEFAULT_MUTATION_PROBABILITY
    ) -> Genotype:
        genes = self.split(parent)
        return _joined(part.mutate(genes[role], rng, probability) for role, part in self.parts.items())

    def crossover(self, a: Genotype, b: Genotype, rng: random.Random) -> Genotype:
        ours, theirs = self.split(a), self.split(b)
        return _joined(part.crossover(ours[role], theirs[role], rng) for role, part in self.parts.items())

    def fixed(self, genotype: Genotype, *, from_scratch: bool = False) -> DetectorSpace:
        """The detector with every choice made (finalists, baselines); its only genotype is the empty tuple.

        `from_scratch`: in the form that is trained without a supernet (a DetNAS backbone then splits by
        method 2).
        """
        genes = self.split(genotype)
        fixed = {role: part.fixed(genes[role], from_scratch=from_scratch) for role, part in self.parts.items()}
        return replace(self, **fixed)  # type: ignore[arg-type]  # a part's fixed form keeps its role

    # --- identity and cost ----------------------------------------------------------------------------------

    def architecture_id(self, genotype: Genotype) -> str:
        """Hash of schema, name, version and settings of every part, and every choice, searched or fixed.

        So `space.architecture_id(g)` equals `space.fixed(g).architecture_id(())`.
        """
        genes = self.split(self.canonical(genotype))
        identity = {
            "schema": SCHEMA,
            "parts": {
                role: {
                    "name": f"{part.name}@{part.version}",
                    "settings": dict(part.settings),
                    "choices": part.encoding(genes[role]),
                }
                for role, part in self.parts.items()
            },
        }
        canonical_json = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical_json.encode()).hexdigest()[:ARCHITECTURE_ID_LENGTH]

    def cost(self, genotype: Genotype, image_size: ImageSize) -> DetectorCost:
        """Cost for one image of (height, width) pixels."""
        self.validate(genotype)
        check_image_size(image_size)
        genes = self.split(genotype)
        levels = self.levels
        parts: dict[Role, Cost] = {
            "backbone": self.backbone.cost(genes["backbone"], image_size),
            "neck": self.neck.cost(genes["neck"], image_size, levels["backbone"]),
            "head": self.head.cost(genes["head"], image_size, levels["neck"], self._known_classes()),
        }
        return DetectorCost(total_cost(parts.values()), parts)

    def part_cost_factors(self, role: Role, image_size: ImageSize) -> CostFactors | None:
        """The cost of one part as a sum over its blocks; None when it is none."""
        check_image_size(image_size)
        if role == "backbone":
            return self.backbone.cost_factors(image_size)
        levels = self.levels
        if role == "neck":
            return self.neck.cost_factors(image_size, levels["backbone"])
        return self.head.cost_factors(image_size, levels["neck"], self._known_classes())

    def _known_classes(self) -> int:
        if self.num_classes is None:
            raise SettingError("the cost of a head needs num_classes, but it is not known; give the number of classes")
        return self.num_classes


def check_image_size(image_size: object) -> None:
    """Raise SettingError unless it is (height, width) in pixels."""
    if not isinstance(image_size, Sequence) or len(image_size) != 2:
        raise SettingError(f"image_size: (height, width) was expected, but {image_size!r} came")
    for side in image_size:
        whole_number("image_size: height and width", side, 1, MAX_IMAGE_SIDE)


def _joined(genes: Iterable[Genotype]) -> Genotype:
    return tuple(choice for part in genes for choice in part)
