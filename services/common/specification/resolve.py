"""A specification with the core's objects in place: space, limits, algorithm, baseline."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from nasdet_core.algorithms.base import Algorithm
from nasdet_core.algorithms.build import build_algorithm
from nasdet_core.errors import NasDetError
from nasdet_core.search_spaces.base import ROLES, Cost, Genotype, ImageSize
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.limits import FeasibleSampler, Limit, check_reachable
from services.common.specification.errors import SpecificationError, field_error
from services.common.specification.parse import Specification, parse_specification

MAX_TRIALS = 100_000
FEWEST_CLASSES = 1


@dataclass(frozen=True)
class ResolvedSearch:
    """Everything about a search that follows from its specification and the number of object classes."""

    specification: Specification
    space: DetectorSpace
    limits: tuple[Limit, ...]
    baseline: Genotype  # the fixed path that the winner is compared with

    @property
    def image_size(self) -> ImageSize:
        return self.specification.supernet.image_size

    def algorithm(self) -> Algorithm:
        """A fresh algorithm that has been told nothing."""
        spec = self.specification
        return build_algorithm(spec.algorithm, self.space, self.limits, spec.seed, spec.options)

    @cached_property
    def total_trials(self) -> int:
        return self.algorithm().total_trials

    def cost(self, genotype: Genotype) -> Cost:
        """Of the whole detector at the supernet's image size."""
        return self.space.cost(genotype, self.image_size).total

    def counted(self, genotype: Genotype) -> dict[str, int]:
        """The number that each limit is tested against, by the limit's name."""
        return {limit_name(limit): limit.value(self.space, genotype) for limit in self.limits}

    @cached_property
    def acceptance_rate(self) -> float:
        """The share of uniform samples within all limits, by a fixed set of samples."""
        if not self.limits:
            return 1.0
        return FeasibleSampler(self.space, self.limits).acceptance_rate(random.Random("acceptance"))


def limit_name(limit: Limit) -> str:
    """`backbone.macs@224x224`, `detector.params`."""
    name = f"{limit.part or 'detector'}.{limit.metric}"
    return f"{name}@{limit.image_size[0]}x{limit.image_size[1]}" if limit.image_size else name


def resolve(specification: Specification, num_classes: int) -> ResolvedSearch:
    """Build and check everything that hangs on the search space; SpecificationError names the field."""
    with _field("detector"):
        space = DetectorSpace.from_description(specification.detector, num_classes)
    if not space.blocks:
        raise field_error(
            "detector",
            "at least one searched part was expected, but all are fixed; give a part as `space: NAME`",
        )
    limits = tuple(_limits(specification))
    for index, limit in enumerate(limits):
        with _field(f"limits.{index}"):
            check_reachable(space, [limit])
    resolved = ResolvedSearch(specification, space, limits, _baseline(specification, space))
    with _field("search"):
        total = resolved.total_trials
    if total > MAX_TRIALS:
        message = f"at most {MAX_TRIALS:,} candidates are possible, but {total:,} are asked for"
        raise field_error("search", message)
    return resolved


def check_at_submit(specification: Specification) -> None:
    """All that can be checked before the data are known.

    The number of classes is not: one class, the cheapest head, is assumed, so that a limit is refused only
    when no dataset could satisfy it. The check of the data is followed by the exact test.
    """
    total = resolve(specification, FEWEST_CLASSES).total_trials
    top = specification.final.recipe.top
    if top > total:
        raise field_error("final.top", f"expected at most {total}, the number of candidates, got {top}")


def resolve_stored(spec: Mapping[str, Any], num_classes: int) -> ResolvedSearch:
    """`resolve` for a stored specification; the result is a frozen value and remembered."""
    return _resolve_text(json.dumps(spec, sort_keys=True), num_classes)


@lru_cache(maxsize=64)
def _resolve_text(text: str, num_classes: int) -> ResolvedSearch:
    return resolve(parse_specification(json.loads(text)), num_classes)


@contextmanager
def _field(loc: str) -> Iterator[None]:
    """The core's sentence, with the path of the field it is about."""
    try:
        yield
    except SpecificationError:
        raise
    except NasDetError as error:
        raise field_error(loc, str(error)) from error


def _limits(specification: Specification) -> Iterator[Limit]:
    for index, body in enumerate(specification.limits):
        image_size = body.image_size or specification.supernet.image_size
        with _field(f"limits.{index}"):
            yield Limit(
                metric=body.metric,
                max=body.max,
                part=body.part,
                image_size=image_size if body.metric == "macs" else None,
            )


def _baseline(specification: Specification, space: DetectorSpace) -> Genotype:
    """The genotype of the baseline: a fixed path of the searched space, with the same fixed parts."""
    if specification.final.baseline is None:
        return space.canonical((0,) * len(space.blocks))
    with _field("final.baseline"):
        given = DetectorSpace.from_description(
            {**specification.detector, **specification.final.baseline}, space.num_classes
        )
    for role in ROLES:
        if given.parts[role].blocks:
            message = "a fixed path was expected; give its genotype, e.g. `genotype: all-0`"
            raise field_error(f"final.baseline.{role}", message)
        if given.parts[role].name != space.parts[role].name:
            raise _other_part(role, given.parts[role].name, space.parts[role].name)
    searched = [given.parts[role].encoding(()) for role in ROLES if space.parts[role].blocks]
    genotype = space.canonical(tuple(choice for genes in searched for choice in genes))
    forms = [space.fixed(genotype), space.fixed(genotype, from_scratch=True)]
    for role in ROLES:
        part = given.parts[role]
        if part not in [form.parts[role] for form in forms]:
            wanted = forms[0].parts[role].to_description()
            raise _other_part(role, str(part.to_description()), str(wanted))
    return genotype


def _other_part(role: str, given: str, wanted: str) -> SpecificationError:
    message = f"the baseline must be a path of the searched space, else the same: expected {wanted}, got {given}"
    return field_error(f"final.baseline.{role}", message)
