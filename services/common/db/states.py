"""States of searches, jobs, trials and finalists. The values are stored and are part of the REST API."""

from __future__ import annotations

from enum import StrEnum


class SearchState(StrEnum):
    """A search as a whole. `failed` and `cancelled` carry a reason.

    A running search may be on hold (`paused_at`); clients are shown "paused" for that.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a running search is; the order is the order of this enum."""

    CHECK = "check"
    SUPERNET = "supernet"
    SEARCH = "search"
    FINALISTS = "finalists"
    DONE = "done"


class WorkState(StrEnum):
    """A job, a trial, a supernet or a finalist.

    failed      the work itself ended in an error (the reason says which)
    infeasible  over a limit, or out of memory: an answer, not an error
    lost        whoever held it disappeared more often than allowed, and nobody knows why
    cancelled   somebody asked for that
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    LOST = "lost"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (WorkState.QUEUED, WorkState.RUNNING)


OPEN_STATES = (WorkState.QUEUED, WorkState.RUNNING)


class JobKind(StrEnum):
    """Kinds of work that a worker of this version can do."""

    CHECK_DATASET = "check_dataset"
    TRAIN_SUPERNET = "train_supernet"
    EVALUATE = "evaluate"
    TRAIN_DETECTOR = "train_detector"


class WorkerMode(StrEnum):
    """What a worker may do next; set by people, forgotten when the worker is started anew."""

    ACTIVE = "active"
    PAUSED = "paused"  # finishes what it holds, then holds still
    DRAINING = "draining"  # finishes what it holds, then ends
    LEAVING = "leaving"  # gives back what it holds, and ends


class FinalistRole(StrEnum):
    """Why a detector is trained at the end."""

    WINNER = "winner"
    BASELINE = "baseline"
    CONTROL = "control"


class ReleaseKind(StrEnum):
    """Why a worker gives a job back before it is done."""

    GRACEFUL = "graceful"  # asked to stop: nobody is charged
    CRASH = "crash"  # the executor died
    HANG = "hang"  # no progress for too long: the supervisor killed the executor
    TIMEOUT = "timeout"  # the job's time limit
