"""Getting supernets trained, or finding them trained: the search's own, and the baseline's single path."""

from __future__ import annotations

from typing import Literal

from nasdet_core.search_spaces.detector_space import DetectorSpace
from services.common.db.models import JsonDict, Supernet
from services.common.db.states import JobKind, WorkState
from services.common.errors import NotFoundError
from services.common.specification import recipe_json
from services.searcher.context import BASELINE_PRIORITY, SUPERNET_PRIORITY, StepContext
from services.searcher.payloads import (
    baseline_space,
    supernet_description,
    supernet_key,
    train_supernet_payload,
)

Role = Literal["supernet", "baseline"]
DIFFERENCES_SHOWN = 3
PRIORITIES = {"supernet": SUPERNET_PRIORITY, "baseline": BASELINE_PRIORITY}


class UnusableSupernetError(Exception):
    """`supernet.reuse` names a supernet that does not fit the search; the message ends the search."""


def choose_supernets(step: StepContext) -> None:
    """Point the search to its two supernets, once; raises UnusableSupernetError."""
    if step.search.supernet_id is not None:
        return
    reuse = step.specification.reuse
    space = step.resolved.space
    recipe = recipe_json(step.specification.supernet)
    supernet = _named(step, reuse, space, recipe) if isinstance(reuse, int) else _by_key(step, space, recipe)
    baseline = _by_key(step, baseline_space(step), recipe)
    step.searches.set(step.search_id, supernet_id=supernet.id, baseline_supernet_id=baseline.id)


def _by_key(step: StepContext, space: DetectorSpace, recipe: JsonDict) -> Supernet:
    description = supernet_description(step, space, recipe)
    if step.specification.reuse == "never":
        description["search"] = step.search_id  # a key that no other search has
    key = supernet_key(description)
    return step.supernets.get_or_create(step.owner, key, description, step.version.id)[0]


def _named(step: StepContext, supernet_id: int, space: DetectorSpace, recipe: JsonDict) -> Supernet:
    try:
        supernet = step.supernets.get(supernet_id)
    except NotFoundError as error:
        raise UnusableSupernetError(f"supernet.reuse: {error}; use auto to train one") from error
    wanted = {
        "project": step.owner.project_id,
        "detector": space.to_description(),
        "dataset version": step.version.digest,
        "state": WorkState.SUCCEEDED.value,
    }
    has = {
        "project": supernet.project_id,
        "detector": supernet.description["space"],
        "dataset version": supernet.description["dataset_version"],
        "state": supernet.state.value,
    }
    for what, value in wanted.items():
        if has[what] != value:
            raise UnusableSupernetError(
                f"supernet.reuse: supernet {supernet_id} does not fit, its {what} is {has[what]} where this "
                f"search needs {value}; use auto to train one"
            )
    differences = _differences(supernet.description["recipe"], recipe)
    if differences:
        raise UnusableSupernetError(
            f"supernet.reuse: supernet {supernet_id} does not fit, {differences}; write the supernet's own recipe "
            f"or use auto"
        )
    return supernet


def _differences(has: JsonDict, wanted: JsonDict) -> str:
    """The first settings in which two recipes differ, in words; empty when they are equal."""
    keys = [key for key in {**wanted, **has} if has.get(key) != wanted.get(key)]
    return " and ".join(
        f"its {key} is {has.get(key, 'not set')} where this search says {wanted.get(key, 'not set')}"
        for key in keys[:DIFFERENCES_SHOWN]
    )


def ensure_trained(step: StepContext, role: Role) -> Supernet:
    """The supernet of a role, with a job on the way as long as it may still become trained.

    A supernet may be shared: whoever comes first trains it. Where that training ended without weights, another
    search tries it once with a job of its own.
    """
    supernet_id = step.search.supernet_id if role == "supernet" else step.search.baseline_supernet_id
    if supernet_id is None:
        raise LookupError(f"search {step.search_id} has no {role} yet")
    supernet = step.supernets.get(supernet_id)
    if supernet.state is WorkState.SUCCEEDED or step.supernets.open_job(supernet_id) is not None:
        return supernet
    own = step.job(role)
    if own is not None and own.state.ended:
        return supernet
    if supernet.state.ended:
        step.supernets.reopen(supernet_id)
    step.jobs.create(
        step.search_id,
        JobKind.TRAIN_SUPERNET,
        role,
        train_supernet_payload(step, supernet, role),
        priority=step.priority(PRIORITIES[role]),
        supernet_id=supernet_id,
    )
    return step.supernets.get(supernet_id)
