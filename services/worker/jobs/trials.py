"""The loop over the candidates of an evaluate job. Imports no torch.

Each result lands when it is known. What goes wrong with one candidate is its own result, and the list goes
on; what kills or hangs the process is the supervisor's to judge, and the server finds the culprit by
halving the list.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from services.worker.context import JobContext
from services.worker.errors import ApiRefusedError, JobStoppedError, StaleAttemptError
from services.worker.memory import free_memory
from services.worker.reasons import failure_reason, is_out_of_memory, out_of_memory_reason
from services.worker.work import JobOutcome, JobRequest, TrialOutcome, TrialRequest

Scorer = Callable[[TrialRequest], TrialOutcome]


def score_trials(job: JobRequest, context: JobContext, score: Scorer) -> JobOutcome:
    """Score every trial in the order of its number."""
    trials = sorted(job.trials, key=lambda trial: trial.number)
    started = time.monotonic()
    for done, trial in enumerate(trials):
        left = (time.monotonic() - started) / done * (len(trials) - done) if done else None
        context.progress(stage="evaluate", trial=trial.number, trials_done=done, trials=len(trials), eta_s=left)
        context.log(f"trial {trial.number}: genotype {' '.join(map(str, trial.genotype))}")
        outcome = _score_one(trial, score)
        context.log(f"trial {trial.number}: {outcome.state} {_figure(outcome)}")
        try:
            context.land_result(trial, outcome)
        except StaleAttemptError:
            raise
        except ApiRefusedError as error:  # this one is lost, the others are not
            context.log(f"trial {trial.number}: the result was refused: {error}")
    context.progress(stage="evaluate", trials_done=len(trials), trials=len(trials), eta_s=0.0)
    return JobOutcome("succeeded", result={"trials": len(trials)})


def _score_one(trial: TrialRequest, score: Scorer) -> TrialOutcome:
    try:
        return score(trial)
    except (StaleAttemptError, JobStoppedError):
        raise
    except Exception as error:  # an answer about this candidate; its traceback is in the log
        traceback.print_exc()
        if is_out_of_memory(error):
            outcome = TrialOutcome("infeasible", out_of_memory_reason(error))
        else:
            outcome = TrialOutcome("failed", failure_reason(error))
    free_memory()  # by now the error is gone, and with it the frames that held the candidate's tensors
    return outcome


def _figure(outcome: TrialOutcome) -> str:
    return f"{outcome.value:.4f}" if outcome.value is not None else f"({outcome.reason})"
