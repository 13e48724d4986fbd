"""What a worker is told with a job: everything that decides the result, nothing that it could look up later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from nasdet_core.search_spaces.base import ROLES, Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace
from services.common.db.models import JsonDict, Supernet
from services.common.db.states import FinalistRole
from services.common.specification import recipe_json
from services.searcher.context import StepContext

KEY_SCHEMA = 1


def supernet_description(step: StepContext, space: DetectorSpace, recipe: JsonDict) -> JsonDict:
    """What a supernet is known again by: spaces, dataset version, recipe and seed."""
    return {
        "schema": KEY_SCHEMA,
        "space": space.to_description(),
        "parts": {role: f"{space.parts[role].name}@{space.parts[role].version}" for role in ROLES},
        "dataset_version": step.version.digest,
        "recipe": recipe,
        "seed": step.search.seed,
    }


def supernet_key(description: JsonDict) -> str:
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_payload(step: StepContext) -> JsonDict:
    """An uploaded dataset is checked, and from then on read, in the archive that it has now."""
    archive = step.datasets.archive_for_check(step.search.dataset_id)
    payload: JsonDict = {"dataset": step.specification.dataset, "seed": step.search.seed}
    return payload if archive is None else {**payload, "archive": archive}


def train_supernet_payload(step: StepContext, supernet: Supernet, role: str) -> JsonDict:
    """`architecture_id` is given for a single path, which is an architecture; a supernet is none."""
    payload = _common(step, supernet.description["space"], supernet.description["recipe"])
    payload |= {"role": role, "seed": supernet.description["seed"]}
    space = DetectorSpace.from_description(supernet.description["space"], len(step.version.class_names))
    if not space.blocks:
        payload["architecture_id"] = space.architecture_id(())
    return payload


def evaluate_payload(step: StepContext, supernet: Supernet) -> JsonDict:
    payload = _common(step, step.resolved.space.to_description(), supernet.description["recipe"])
    payload |= {
        "supernet_weights": supernet.weights,
        "evaluation": recipe_json(step.specification.evaluation),
    }
    return payload


def train_detector_payload(
    step: StepContext,
    *,
    role: FinalistRole,
    space: DetectorSpace,
    seed: int,
    supernet: Supernet,
    start: Sequence[int] | None,
) -> JsonDict:
    """`start`: the genotype whose weights are taken from `supernet`; None trains from scratch."""
    payload = _common(step, space.to_description(), supernet.description["recipe"])
    payload |= {
        "role": role.value,
        "seed": seed,
        "recipe": recipe_json(step.specification.final.recipe),
        "start": None if start is None else _start(supernet, start),
    }
    return payload


def _start(supernet: Supernet, genotype: Sequence[int]) -> JsonDict:
    space = supernet.description["space"]
    return {"weights": supernet.weights, "space": space, "genotype": list(genotype)}


def _common(step: StepContext, space: Any, recipe: Any) -> JsonDict:
    version = step.version
    archive = {} if version.archive is None else {"archive": version.archive}
    return {
        **archive,
        "dataset": step.specification.dataset,
        "dataset_version": version.digest,
        "manifest": version.manifest,
        "class_names": list(version.class_names),
        "space": space,
        "supernet_recipe": recipe,
        "seed": step.search.seed,
    }


def baseline_space(step: StepContext) -> DetectorSpace:
    """The baseline as a space of its own, with nothing left to choose."""
    return step.resolved.space.fixed(step.resolved.baseline)


def finalist_space(step: StepContext, genotype: Genotype, *, from_scratch: bool) -> DetectorSpace:
    return step.resolved.space.fixed(genotype, from_scratch=from_scratch)
