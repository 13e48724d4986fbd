"""The algorithms by their public names, and the way from a search specification to one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasdet_core.algorithms.base import Algorithm
from nasdet_core.algorithms.detnas_evolution import DetNasEvolution
from nasdet_core.algorithms.random_search import RandomSearch
from nasdet_core.errors import SettingError, UnknownNameError
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.limits import Limit
from nasdet_core.search_spaces.settings import refuse_unknown_keys, whole_number

# The names are public API (search specifications, POST /v1/searches).
ALGORITHMS: Mapping[str, Callable[..., Algorithm]] = {"random": RandomSearch, "detnas": DetNasEvolution}


def algorithm_options(name: str) -> dict[str, Any]:
    """The options an algorithm takes, with their defaults (`inspect.Parameter.empty`: must be given)."""
    parameters = inspect.signature(find_algorithm(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def find_algorithm(name: str) -> Callable[..., Algorithm]:
    if name not in ALGORITHMS:
        raise UnknownNameError(f"unknown algorithm {name!r}; known algorithms are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def build_algorithm(
    name: str, space: DetectorSpace, limits: Sequence[Limit], seed: int, options: Mapping[str, Any]
) -> Algorithm:
    """Build an algorithm; an option it does not have is refused by name."""
    build = find_algorithm(name)
    known = algorithm_options(name)
    refuse_unknown_keys(f"algorithm {name!r}", options, tuple(known))
    required = [key for key, default in known.items() if default is inspect.Parameter.empty]
    missing = [key for key in required if key not in options]
    if missing:
        raise SettingError(
            f"algorithm {name!r}: {', '.join(missing)} was expected among the options, but it is missing"
        )
    whole_number("seed", seed, 0, 2**63 - 1)
    return build(space, limits, seed, **options)
