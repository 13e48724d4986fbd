"""Limits on counted costs: what can be reached, and uniform samples under all limits by bounded rejection."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nasdet_core.errors import LimitError, SearchSpaceExhaustedError, SettingError
from nasdet_core.search_spaces.base import ROLES, Cost, CostFactors, Genotype, ImageSize, Role
from nasdet_core.search_spaces.detector_space import DetectorSpace, check_image_size
from nasdet_core.search_spaces.settings import refuse_unknown_keys

Metric = Literal["macs", "params"]
METRICS: tuple[Metric, ...] = ("macs", "params")
DEFAULT_ATTEMPTS = 10_000
ESTIMATE_SAMPLES = 1000  # for parts whose cost is not a sum over blocks
ANY_IMAGE_SIZE: ImageSize = (224, 224)  # parameters do not depend on it


@dataclass(frozen=True, slots=True)
class Limit:
    """`metric` of one part, or of the whole detector (`part` None), may be at most `max`."""

    metric: Metric
    max: float
    part: Role | None = None
    image_size: ImageSize | None = None  # (height, width); needed for MACs

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise LimitError(f"limit: metric {' or '.join(METRICS)} was expected, but {self.metric!r} came")
        if self.part is not None and self.part not in ROLES:
            raise LimitError(f"limit: part {', '.join(ROLES)} or none was expected, but {self.part!r} came")
        if not _is_positive_number(self.max):
            raise LimitError(f"limit on {self.metric}: max must be a positive number, but {self.max!r} came")
        if self.image_size is not None:
            try:
                check_image_size(self.image_size)
            except SettingError as error:
                raise LimitError(f"limit on {self.metric}: {error}") from error
            object.__setattr__(self, "image_size", tuple(self.image_size))

    @classmethod
    def from_json(cls, description: Mapping[str, Any], default_image_size: ImageSize | None = None) -> Limit:
        """Read `{metric, max, part, image_size}`; without image_size MACs are counted at the default."""
        refuse_unknown_keys("limit", description, ("metric", "max", "part", "image_size"))
        for key in ("metric", "max"):
            if key not in description:
                raise LimitError(f"limit: metric and max were expected, but {key!r} is missing")
        given = {"part": None, "image_size": None, **description}
        if given["image_size"] is None:
            given["image_size"] = default_image_size
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        size = None if self.image_size is None else list(self.image_size)
        return {"metric": self.metric, "max": self.max, "part": self.part, "image_size": size}

    def value(self, space: DetectorSpace, genotype: Genotype) -> int:
        """The limited quantity of one candidate."""
        space.validate(genotype)
        return _counter(space, self)(genotype)

    def allows(self, value: int) -> bool:
        return value <= self.max

    def counted_size(self) -> ImageSize:
        if self.image_size is not None:
            return self.image_size
        if self.metric == "macs":
            raise LimitError("a limit on macs needs an image_size [height, width], but none came")
        return ANY_IMAGE_SIZE

    def __str__(self) -> str:
        where = self.part or "the whole detector"
        at = f" at {self.image_size[0]}x{self.image_size[1]}" if self.metric == "macs" and self.image_size else ""
        return f"{self.metric} of {where} <= {self.max:,.0f}{at}"


def reachable(space: DetectorSpace, limit: Limit) -> tuple[int, int]:
    """Smallest and largest value in the space.

    Exact where the cost is a sum over blocks; elsewhere what 1000 seeded samples show.
    """
    factors = _factors(space, limit)
    if factors is None:
        count = _counter(space, limit)
        rng = random.Random("reachable")
        seen = [count(space.sample(rng)) for _ in range(ESTIMATE_SAMPLES)]
        return min(seen), max(seen)
    constant = _metric_of(factors.constant, limit.metric)
    tables = [[_metric_of(cost, limit.metric) for cost in table] for table in factors.choices]
    return constant + sum(map(min, tables)), constant + sum(map(max, tables))


def check_reachable(space: DetectorSpace, limits: Sequence[Limit]) -> None:
    """Raise LimitError, with the smallest and largest value, for a limit that nothing satisfies."""
    for limit in limits:
        smallest, largest = reachable(space, limit)
        if _factors(space, limit) is not None and not limit.allows(smallest):
            raise LimitError(
                f"nothing satisfies the limit {limit}: the space reaches from {smallest:,} to {largest:,} "
                f"{limit.metric}; raise max to at least {smallest:,}"
            )


class FeasibleSampler:
    """Uniform samples among the genotypes that satisfy every limit, by bounded rejection."""

    def __init__(self, space: DetectorSpace, limits: Sequence[Limit]) -> None:
        self.space = space
        self.limits = tuple(limits)
        self._counters = [(limit, _counter(space, limit)) for limit in self.limits]

    def allows(self, genotype: Genotype) -> bool:
        """True when the genotype satisfies every limit."""
        return all(limit.allows(count(genotype)) for limit, count in self._counters)

    def sample(
        self, rng: random.Random, attempts: int = DEFAULT_ATTEMPTS, exclude: Container[Genotype] = ()
    ) -> Genotype:
        """A canonical genotype under all limits, not in `exclude`.

        SearchSpaceExhaustedError, with the numbers, after `attempts` draws.
        """
        smallest: dict[Limit, int] = {}
        repeated = 0
        for _ in range(attempts):
            genotype = self.space.canonical(self.space.sample(rng))
            broken = False
            for limit, count in self._counters:
                value = count(genotype)
                smallest[limit] = min(value, smallest.get(limit, value))
                broken = broken or not limit.allows(value)
            if broken:
                continue
            if genotype not in exclude:
                return genotype
            repeated += 1
        raise SearchSpaceExhaustedError(self._exhausted_message(attempts, repeated, smallest))

    def acceptance_rate(self, rng: random.Random, n: int = 1000) -> float:
        """The share of `n` uniform samples that satisfies every limit."""
        return sum(self.allows(self.space.sample(rng)) for _ in range(n)) / n

    def _exhausted_message(self, attempts: int, repeated: int, smallest: dict[Limit, int]) -> str:
        within = f"{repeated} of {attempts} samples are within the limits"
        if repeated:
            within += ", and all of them were proposed before"
        seen = "; ".join(f"{limit}, smallest seen: {value:,}" for limit, value in smallest.items())
        numbers = f" ({seen})" if seen else ""
        return (
            f"no new candidate was found: {within}{numbers}; the space has {self.space.size:,} genotypes: "
            "ask for fewer candidates, or raise the limits"
        )


def _is_positive_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _metric_of(cost: Cost, metric: Metric) -> int:
    return cost.macs if metric == "macs" else cost.params


def _factors(space: DetectorSpace, limit: Limit) -> CostFactors | None:
    """The limited quantity as a sum over all blocks of the detector; None when some part's is not a sum."""
    image_size = limit.counted_size()
    constant = Cost(0, 0)
    choices: list[tuple[Cost, ...]] = []
    for role, part in space.parts.items():
        if limit.part not in (None, role):
            choices += [(Cost(0, 0),) * len(block.candidates) for block in part.blocks]
            continue
        factors = space.part_cost_factors(role, image_size)
        if factors is None:
            return None
        constant += factors.constant
        choices += factors.choices
    return CostFactors(constant, tuple(choices))


def _counter(space: DetectorSpace, limit: Limit) -> Callable[[Genotype], int]:
    """A function from genotype to the limited quantity; by table look-up where the cost is a sum."""
    factors = _factors(space, limit)
    if factors is None:
        return lambda genotype: _slow_count(space, limit, genotype)
    constant = _metric_of(factors.constant, limit.metric)
    tables = [[_metric_of(cost, limit.metric) for cost in table] for table in factors.choices]
    return lambda genotype: constant + sum(table[choice] for table, choice in zip(tables, genotype, strict=True))


def _slow_count(space: DetectorSpace, limit: Limit, genotype: Genotype) -> int:
    cost = space.cost(genotype, limit.counted_size())
    return _metric_of(cost.total if limit.part is None else cost.parts[limit.part], limit.metric)
