"""A job table with planted faults, for NASDET_JOB_PLUGIN=tests.support.planted_jobs.

NASDET_PLANTED holds JSON: {"real": false, "faults": [{"genotype": [...], "fault": "die"}], "seconds": 0.01,
...}.

Without "real" the jobs compute next to nothing, without torch, and always the same for the same payload;
the loop over the trials, the landing of results and checkpoints are the worker's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from services.worker.checkpoints import CheckpointUploader
from services.worker.context import JobContext
from services.worker.executor import JobTable
from services.worker.jobs.trials import score_trials
from services.worker.protocol import protocol_hash
from services.worker.work import JobOutcome, JobRequest, MeasuredValue, TrialOutcome, TrialRequest

PLAN: dict[str, Any] = json.loads(os.environ.get("NASDET_PLANTED", "{}"))
SECONDS: float = PLAN.get("seconds", 0.01)  # of one trial or one step
STEPS: int = PLAN.get("steps", 20)
CLASSES = ["circle", "square"]


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's."""


def plant(genotype: tuple[int, ...]) -> None:
    """Do to this process what the plan says about a candidate."""
    for entry in PLAN.get("faults", []):
        if tuple(entry["genotype"]) == genotype:
            commit(entry["fault"])


def commit(fault: str) -> None:
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "hang":
        while True:
            time.sleep(60)
    elif fault == "memory":
        raise MemoryError("no room for a planted tensor")
    elif fault == "oom":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB (planted)")
    elif fault == "error":
        raise ValueError("planted mistake")
    else:
        raise ValueError(f"unknown fault {fault!r}")


def quick_value(genotype: tuple[int, ...]) -> float:
    """A made-up AP."""
    return random.Random(repr(genotype)).random()


def _measured(job: JobRequest, value: float, split: str, metric: str = "box_map") -> MeasuredValue:
    return MeasuredValue(
        metric=metric,
        split=split,
        value=value,
        protocol_hash=protocol_hash(
            dataset_version=job.payload["dataset_version"], split=split, image_size=(64, 64), pixel_format="none",
            precision="fp32", batch_size=1, recalibration=None,
        ),
        fidelity={"images": 2},
        device_class="cpu",
        standard_error=0.01,
        jackknife=(value, value),
        supernet_digest=job.payload.get("supernet_weights"),
    )  # fmt: skip


def quick_evaluate(job: JobRequest, context: JobContext) -> JobOutcome:
    def score(trial: TrialRequest) -> TrialOutcome:
        plant(trial.genotype)
        for _ in range(5):
            time.sleep(SECONDS / 5)
            context.tick()
        value = quick_value(trial.genotype)
        return TrialOutcome(
            "succeeded", value=value, measurements=(_measured(job, value, "val"),), seconds={"score": SECONDS}
        )

    context.resident.note(job.payload["supernet_weights"])
    return score_trials(job, context, score)


def _quick_training(job: JobRequest, context: JobContext, stage: str) -> str:
    """Steps with checkpoints; the digest of the weights. A resumed one says so in its log."""
    first = 0
    if job.checkpoint is not None:
        first = json.loads(context.get_artifact(job.checkpoint))["step"]
        context.log(f"resumed after step {first}")
    saved_at = time.monotonic()
    with CheckpointUploader(context) as uploader:
        for step in range(first, STEPS):
            time.sleep(SECONDS)
            if step == PLAN.get("die_at_step") and job.attempt == 1:
                commit("die")
            context.progress(stage=stage, step=step + 1, steps=STEPS, loss=1 / (step + 1))
            if time.monotonic() - saved_at > context.facts.checkpoint_seconds:
                uploader.offer(json.dumps({"step": step + 1}).encode(), step + 1)
                saved_at = time.monotonic()
    payload = {key: value for key, value in job.payload.items() if key != "name"}
    return context.put_artifact(json.dumps({"weights of": payload}, sort_keys=True).encode())


def quick_train_supernet(job: JobRequest, context: JobContext) -> JobOutcome:
    weights = _quick_training(job, context, job.payload["role"])
    baseline = job.payload["role"] == "baseline"
    return JobOutcome(
        "succeeded",
        result={"weights": weights, "steps": STEPS, "epochs": 1.0, "losses": [], "seconds": STEPS * SECONDS},
        measurements=(_measured(job, 0.25, "val"),) if baseline else (),
    )


def quick_train_detector(job: JobRequest, context: JobContext) -> JobOutcome:
    weights = _quick_training(job, context, "finalist")
    value = quick_value((job.payload["seed"], *json.dumps(job.payload["start"], sort_keys=True).encode()))
    measurements = (_measured(job, value, "test"), _measured(job, value, "test", "box_ap50"))
    return JobOutcome(
        "succeeded",
        result={"weights": weights, "steps": STEPS, "seconds": STEPS * SECONDS},
        measurements=measurements,
    )


def quick_check_dataset(job: JobRequest, context: JobContext) -> JobOutcome:
    body = json.dumps({"planted": job.payload["dataset"]}).encode()
    return JobOutcome(
        "succeeded",
        result={
            "digest": hashlib.sha256(body).hexdigest(),
            "manifest": context.put_artifact(body),
            "class_names": CLASSES,
            "splits": {"train": 4, "search": 2, "report": 2, "final": 4},
            "split_names": {"train": "train", "search": "val", "report": "test", "final": "train"},
            "report": {"defects": []},
        },
    )


QUICK: JobTable = {
    "check_dataset": quick_check_dataset,
    "train_supernet": quick_train_supernet,
    "evaluate": quick_evaluate,
    "train_detector": quick_train_detector,
}


def job_table(real: Callable[[], JobTable]) -> JobTable:
    """The quick jobs, or the real ones with the faults planted into the scoring of their candidates."""
    return {**real(), "evaluate": real_evaluate} if PLAN.get("real", False) else QUICK


def real_evaluate(job: JobRequest, context: JobContext) -> JobOutcome:
    from services.worker.jobs.evaluate import build_scorer

    scorer = build_scorer(job, context)

    def score(trial: TrialRequest) -> TrialOutcome:
        plant(trial.genotype)
        return scorer(trial)

    return score_trials(job, context, score)
