"""From pending trials to jobs: each evaluate job holds a list of trials that lasts minutes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from services.common.db.models import Supernet, Trial
from services.common.db.states import JobKind
from services.searcher.context import EVALUATE_PRIORITY, StepContext
from services.searcher.payloads import evaluate_payload

FEWEST_LISTS = 8  # of a whole search: searches that share a device take turns by lists
LONGEST_LIST = 600.0  # seconds of work for one worker
UNMEASURED_LIST = 25  # trials, as long as nobody knows how long one takes
RECENT = 20  # trials that tell how long one takes
LIVE_LEASES = 2  # a worker that was not seen for so many leases is not counted


def list_length(pending: int, workers: int, seconds_per_trial: float | None) -> int:
    """How many trials go into one job.

    Pending trials are shared by the live workers. A share that lasts longer than 10 minutes is cut into equal
    lists, which then last 5 to 10: a worker that joins later finds something, and a lost one loses little.
    """
    share = math.ceil(pending / max(1, workers))
    longest = UNMEASURED_LIST
    if seconds_per_trial is not None and seconds_per_trial > 0:
        longest = max(1, math.floor(LONGEST_LIST / seconds_per_trial))
    lists = math.ceil(share / longest)
    return math.ceil(share / lists)


def dispatch(step: StepContext, supernet: Supernet) -> None:
    """Queue a job for every trial that has none."""
    pending = step.trials.without_job(step.search_id)
    if not pending:
        return
    workers = step.workers.count_live(step.owner.project_id, LIVE_LEASES * step.lease_seconds)
    length = list_length(len(pending), workers, seconds_per_trial(step.trials.ended_last(step.search_id, RECENT)))
    length = min(length, math.ceil(step.resolved.total_trials / FEWEST_LISTS))
    payload = evaluate_payload(step, supernet)
    for start in range(0, len(pending), length):
        trials = pending[start : start + length]
        step.jobs.create(
            step.search_id,
            JobKind.EVALUATE,
            _purpose(step, trials[0].number),
            payload,
            priority=step.priority(EVALUATE_PRIORITY),
            resident=supernet.weights,
            supernet_id=supernet.id,
            trials=[trial.id for trial in trials],
        )


def _purpose(step: StepContext, number: int) -> str:
    """A trial that is tried anew gets a new job: the old one is part of the story."""
    return f"evaluate/{number}" + (f"/retry-{step.search.retries}" if step.search.retries else "")


def seconds_per_trial(trials: Sequence[Trial]) -> float | None:
    """The median over these trials; None where none says how long it took."""
    totals = [sum(map(float, trial.seconds.values())) for trial in trials if trial.seconds]
    return statistics.median(totals) if totals else None
