"""Kind of job -> function. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.common.db.states import JobKind
from services.worker.context import JobContext
from services.worker.jobs import check_dataset, evaluate, train_detector, train_supernet
from services.worker.work import JobOutcome, JobRequest

JOBS: Mapping[str, Callable[[JobRequest, JobContext], JobOutcome]] = {
    JobKind.CHECK_DATASET.value: check_dataset.run,
    JobKind.TRAIN_SUPERNET.value: train_supernet.run,
    JobKind.EVALUATE.value: evaluate.run,
    JobKind.TRAIN_DETECTOR.value: train_detector.run,
}
