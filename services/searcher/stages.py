"""One step of one search: from the rows as they are to the rows that follow from them.

A step runs in one write transaction that holds the search's row: killed anywhere it leaves nothing behind, and two
searchers take turns. It keeps nothing, so that any searcher may take the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from nasdet_core.supernet.recipe import LARGEST_REST, MIN_EXPONENTIAL_BATCHES
from services.common.db.models import Search
from services.common.db.states import JobKind, SearchState, Stage, WorkState
from services.common.db.types import db_now
from services.common.ranking import best_trials
from services.common.specification import SpecificationError
from services.searcher.context import CHECK_PRIORITY, StepContext
from services.searcher.dispatch import dispatch
from services.searcher.finals import all_ended, enter_baseline, enter_winners, winners_failure
from services.searcher.payloads import check_payload
from services.searcher.proposals import nothing_more, propose
from services.searcher.supernets import UnusableSupernetError, choose_supernets, ensure_trained

SECONDS_PER_HOUR = 3600.0


def step(session: Session, search_id: int, *, lease_seconds: float = 30.0) -> None:
    """Move one running search as far as its rows allow. The caller owns the (write) transaction."""
    search = _lock(session, search_id)
    if search is None:
        return
    context = StepContext(session, search, lease_seconds)
    _stop_when_late(context)
    while context.running and not context.paused and _STAGES[context.search.stage](context):
        pass
    if context.running:
        _stop_when_spent(context)


def _lock(session: Session, search_id: int) -> Search | None:
    """Hold the search's row until the end of the transaction; None when it has ended or another step holds it.

    SQLite has one writer, which has been us since the transaction began; elsewhere it is a row lock. `key_share`, here
    and wherever rows are locked, lets others write rows that point to this one: an event of the search is written by a
    transaction that holds the search's tally already, for which this one waits when it settles.
    """
    locked = (
        select(Search)
        .where(Search.id == search_id, Search.state == SearchState.RUNNING)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    )
    return session.scalars(locked).one_or_none()


def _check(step: StepContext) -> bool:
    """Have the data checked; from here on the number of classes is known, and every limit can be tested."""
    name = step.specification.dataset
    job = step.jobs.create(
        step.search_id,
        JobKind.CHECK_DATASET,
        "check",
        check_payload(step),
        priority=step.priority(CHECK_PRIORITY),
    )
    if not job.state.ended:
        return False
    if job.state is not WorkState.SUCCEEDED:
        step.fail(f"the check of dataset '{name}' ended as {job.state}: {job.reason}")
        return False
    step.searches.set(step.search_id, dataset_version_id=(job.result or {})["dataset_version_id"])
    try:
        _ = step.resolved
    except SpecificationError as error:
        classes = len(step.version.class_names)
        step.fail(f"the specification does not fit dataset '{name}' with {classes} classes: {error}")
        return False
    recalibration = step.specification.evaluation.recalibration
    pictures = step.version.splits["train"]
    if not recalibration.enough(pictures):
        step.fail(
            f"evaluation.recalibration: the train split of dataset '{name}' has {pictures} pictures, which are "
            f"{recalibration.batches(pictures)} batches of {recalibration.batch_size}, too few for an exponential "
            f"average with momentum {recalibration.momentum:g} (at least {MIN_EXPONENTIAL_BATCHES} batches, at most "
            f"{LARGEST_REST:.0%} of the reset values left); use average: exact or a smaller batch_size"
        )
        return False
    step.searches.begin_stage(step.search_id, Stage.SUPERNET)
    return True


def _supernet(step: StepContext) -> bool:
    """Have the supernet and, beside it, the baseline's single path trained; wait for the supernet alone."""
    try:
        choose_supernets(step)
    except UnusableSupernetError as error:
        step.fail(str(error))
        return False
    supernet = ensure_trained(step, "supernet")
    _advance_baseline(step)
    if not supernet.state.ended:
        return False
    if supernet.state is not WorkState.SUCCEEDED:
        step.fail(f"the training of the supernet ended as {supernet.state}: {supernet.reason}")
        return False
    step.searches.begin_stage(step.search_id, Stage.SEARCH)
    return True


def _search(step: StepContext) -> bool:
    """Propose what may be proposed, queue what has no job, go on when every trial has ended."""
    _advance_baseline(step)
    trials = propose(step)
    if not step.running:
        return False
    dispatch(step, ensure_trained(step, "supernet"))
    if not nothing_more(step, trials):
        return False
    if not best_trials(step.session, step.search_id, 1):
        first = next((trial.reason for trial in trials if trial.reason), "no reason was given")
        step.fail(f"none of the {len(trials)} candidates could be scored: {first}")
        return False
    step.searches.begin_stage(step.search_id, Stage.FINALISTS)
    return True


def _finalists(step: StepContext) -> bool:
    """Have winners, control and baseline trained; a baseline or control that fails is reported, not fatal."""
    enter_winners(step, ensure_trained(step, "supernet"))
    if not _advance_baseline(step) or not all_ended(step):
        return False
    failure = winners_failure(step)
    if failure is not None:
        step.fail(failure)
        return False
    step.searches.begin_stage(step.search_id, Stage.DONE)
    step.searches.succeed(step.search_id)
    return False


def _done(step: StepContext) -> bool:
    step.searches.succeed(step.search_id)
    return False


def _advance_baseline(step: StepContext) -> bool:
    """Train the baseline's single path, then its finalists as soon as it is ready; True when nothing is to come."""
    baseline = ensure_trained(step, "baseline")
    if baseline.state is WorkState.SUCCEEDED:
        enter_baseline(step, baseline)
    return baseline.state.ended


def _stop_when_late(step: StepContext) -> None:
    """Keep the deadline, by the database's clock; a paused search has one too."""
    if step.search.deadline_at is None:
        return
    late = step.session.scalar(select(db_now() > step.search.deadline_at))
    if late:
        hours = step.specification.wall_hours
        step.fail(
            f"the deadline has passed: budget.wall_hours is {hours:g}, and stage '{step.search.stage}' had not ended; "
            "retry the search with more hours, or clone it with fewer epochs or candidates"
        )


def _stop_when_spent(step: StepContext) -> None:
    """Keep the budget: when the device time is used up, nothing more is handed out and the search ends."""
    budget = step.specification.gpu_hours
    if budget is None:
        return
    used = step.jobs.device_seconds(step.search_id) / SECONDS_PER_HOUR
    if used >= budget:
        step.fail(
            f"the budget of {budget:g} device hours is spent: {used:.3f} were used by the end of stage "
            f"'{step.search.stage}' at the latest; retry the search with a larger budget.gpu_hours, or clone it with "
            "fewer epochs or candidates"
        )


_STAGES: Mapping[Stage, Callable[[StepContext], bool]] = {
    Stage.CHECK: _check,
    Stage.SUPERNET: _supernet,
    Stage.SEARCH: _search,
    Stage.FINALISTS: _finalists,
    Stage.DONE: _done,
}
