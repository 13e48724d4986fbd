"""What a search found, as JSON: the answer of `GET /v1/searches/{id}` and of `nasdet run --json`.

Everything except `timing_s` and `progress` follows from specification, seed and data alone: no dates, no ids
of workers, jobs or attempts. So two runs of one search can be compared byte by byte.
"""

from __future__ import annotations

import statistics
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.common.db.models import Dataset, DatasetVersion, Job, Search, Supernet, Trial
from services.common.db.repositories.measurements import MeasurementRepository
from services.common.db.repositories.trials import TrialRepository
from services.common.db.standings import OBJECTIVE
from services.common.db.states import OPEN_STATES, FinalistRole, SearchState, Stage, WorkState
from services.common.finalists import Contender, best_winner, contenders, of_role
from services.common.ranking import ScoredTrial, best_trials, front_trials, random_trials, tied_with_best
from services.common.specification import ResolvedSearch, SpecificationError, limit_name, resolve_stored
from services.common.status import search_status, shown_state
from services.common.verdict import compare, sentence

# A supernet whose random paths reach less than this share of one path's AP ranks by luck: 60 epochs without a
# warm start gave about half of it, and an order that agreed with a good supernet's no better than chance.
SOUND_SUPERNET = 0.75
RANDOM_PATHS = 500  # so many tell a supernet's mean well enough
SHOWN_JOBS = 200


def build_summary(session: Session, search: Search) -> dict[str, Any]:
    """The summary of one search, as far as it has come."""
    version = session.get(DatasetVersion, search.dataset_version_id) if search.dataset_version_id else None
    resolved = _resolved(search, version)
    found = contenders(session, search.id)
    final = best_winner(found)
    baseline = of_role(found, FinalistRole.BASELINE)
    control = of_role(found, FinalistRole.CONTROL)
    winners = [contender for contender in found if contender.role is FinalistRole.WINNER]
    done = search.state is SearchState.SUCCEEDED
    summary: dict[str, Any] = {
        "search": _search_json(search),
        "dataset": _dataset_json(session, search, version),
        "trials": _trial_counts(session, search, resolved),
        "image_size": list(resolved.image_size) if resolved else None,  # (height, width) of every MACs below
        "limits": _limits_json(resolved),
        "acceptance_rate": resolved.acceptance_rate if resolved else None,
        "best": _best_json(session, search.id),
        "front": [_trial_json(scored) for scored in front_trials(session, search.id)],
        "final": final.to_json() if final else None,
        "finalists": [contender.to_json() for contender in winners],
        "baseline": baseline.to_json() if baseline else None,
        "control": control.to_json() if control else None,
        "supernet": _supernet_json(session, search),
        "verdict": _verdict(final, baseline, len(winners), _baseline_failure(session, search)) if done else None,
        "control_verdict": _control_verdict(final, control) if done else None,
        "timing_s": _timing_json(session, search),
    }
    if search.state is SearchState.RUNNING:
        summary["progress"] = _progress_json(session, search)
    return summary


def _resolved(search: Search, version: DatasetVersion | None) -> ResolvedSearch | None:
    """None as long as the data are unknown, and when a limit turned out to be out of reach."""
    if version is None:
        return None
    try:
        return resolve_stored(search.spec, len(version.class_names))
    except SpecificationError:
        return None  # the search ended with this error as its reason


def _search_json(search: Search) -> dict[str, Any]:
    return {
        "id": search.id,
        "name": search.name,
        "state": shown_state(search),
        "stage": search.stage.value,
        "reason": search.reason,
    }


def _dataset_json(session: Session, search: Search, version: DatasetVersion | None) -> dict[str, Any]:
    dataset = session.get_one(Dataset, search.dataset_id)
    return {
        "name": dataset.name,
        "version": version.digest if version else None,
        "classes": list(version.class_names) if version else None,
        "split_names": dict(version.split_names) if version else None,
    }


def _trial_counts(session: Session, search: Search, resolved: ResolvedSearch | None) -> dict[str, Any]:
    counted = TrialRepository(session).count_by_state(search.id)
    counts = {state.value: counted.get(state, 0) for state in WorkState}
    planned = resolved.total_trials if resolved else None
    return {**counts, "planned": planned, "exhausted": search.exhausted}


def _limits_json(resolved: ResolvedSearch | None) -> list[dict[str, Any]]:
    limits = resolved.limits if resolved else ()
    return [{"name": limit_name(limit), "max": limit.max} for limit in limits]


def _trial_json(scored: ScoredTrial) -> dict[str, Any]:
    trial = scored.trial
    return {
        "trial": trial.number,
        "genotype": list(trial.genotype),
        "architecture_id": trial.architecture_id,
        "box_map": scored.box_map,
        "standard_error": scored.measurement.standard_error,
        "macs": trial.macs,
        "params": trial.params,
        "counted": dict(trial.counted),
        "split": scored.measurement.split,
    }


def _best_json(session: Session, search_id: int) -> dict[str, Any] | None:
    best = next(iter(best_trials(session, search_id, 1)), None)
    if best is None:
        return None
    trial = best.trial
    origin = {"origin": trial.origin, "parents": list(trial.parents), "generation": trial.generation}
    return {**_trial_json(best), **origin, "tied_with": tied_with_best(session, search_id)}


def _supernet_json(session: Session, search: Search) -> dict[str, Any] | None:
    """The mean over the (first) random candidates, beside the AP of one path trained alone, on the same split."""
    random_paths = random_trials(session, search.id, RANDOM_PATHS)
    mean = statistics.fmean(scored.box_map for scored in random_paths) if random_paths else None
    split = random_paths[0].measurement.split if random_paths else None
    alone = _single_path(session, search, split)
    return {
        "mean_box_map": mean,
        "baseline_box_map": alone,
        "split": split,
        "warning": _supernet_warning(mean, alone),
    }


def _single_path(session: Session, search: Search, split: str | None) -> float | None:
    """AP of the baseline's own supernet, a network of one path."""
    if search.baseline_supernet_id is None or split is None:
        return None
    measured = MeasurementRepository(session).of_supernet(search.baseline_supernet_id)
    values = [item.value for item in measured if item.metric == OBJECTIVE and item.split == split]
    return values[-1] if values else None


def _supernet_warning(mean: float | None, alone: float | None) -> str | None:
    if mean is None or alone is None or mean >= SOUND_SUPERNET * alone:
        return None
    return (
        f"The supernet's random paths reach AP {mean:.3f} on average, far below the {alone:.3f} of one path "
        "trained alone: its order of candidates may say little; train it longer or with a warm start."
    )


def _baseline_failure(session: Session, search: Search) -> str | None:
    """Why the baseline never got as far as a finalist: its single path could not be trained."""
    if search.baseline_supernet_id is None:
        return None
    return session.get_one(Supernet, search.baseline_supernet_id).reason


def _verdict(final: Contender | None, baseline: Contender | None, winners: int, failure: str | None) -> str | None:
    if final is None or final.box_map is None:
        return None
    name = _side(final, "the winner")
    if baseline is None or baseline.box_map is None:
        reasons = [run.reason for run in baseline.runs if run.reason] if baseline else []
        reason = next(iter(reasons), failure)
        why = f" ({reason})" if reason else ""
        return f"The baseline could not be trained{why}, so {name} is compared with nothing."
    text = sentence(compare(final.by_seed, baseline.by_seed), first=name, second=_side(baseline, "the baseline"))
    chosen = f" It is the best of {winners} on {final.split}, which flatters it a little." if winners > 1 else ""
    return text + chosen


def _control_verdict(final: Contender | None, control: Contender | None) -> str | None:
    if final is None or control is None or final.box_map is None or control.box_map is None:
        return None
    second = _side(control, "a random candidate that got the same training")
    return sentence(compare(final.by_seed, control.by_seed), first=_side(final, "the winner"), second=second)


def _side(contender: Contender, name: str) -> str:
    seeds = len(contender.by_seed)
    of_seeds = f", median of {seeds} seeds" if seeds > 1 else ""
    return f"{name} (AP {contender.box_map:.4f} on {contender.split}{of_seeds})"


def _timing_json(session: Session, search: Search) -> dict[str, Any]:
    """Seconds of each stage that has ended, and candidates scored per hour of the search stage."""
    times = {stage: span for stage, span in search.stage_times.items() if span[1] is not None}
    timing: dict[str, Any] = {stage: span[1] - span[0] for stage, span in times.items()}
    timing["total"] = search.finished_at - search.created_at if search.finished_at is not None else None
    timing["candidates_per_hour"] = _candidates_per_hour(session, search)
    return timing


def _candidates_per_hour(session: Session, search: Search) -> float | None:
    started = search.stage_times.get(Stage.SEARCH.value)
    count, last = session.execute(
        select(func.count(), func.max(Trial.finished_at)).where(
            Trial.search_id == search.id, Trial.state == WorkState.SUCCEEDED
        )
    ).one()
    if not started or last is None or last <= started[0]:
        return None
    return float(3600.0 * count / (last - started[0]))


def _progress_json(session: Session, search: Search) -> dict[str, Any]:
    # "running" comes after "queued" in the alphabet: what runs is shown first.
    jobs = session.scalars(
        select(Job)
        .where(Job.search_id == search.id, Job.state.in_(OPEN_STATES))
        .order_by(Job.state.desc(), Job.id)
        .limit(SHOWN_JOBS)
    )
    return {
        "stage": search.stage.value,
        **search_status(session, search).to_json(),
        "jobs": [
            {
                "id": job.id,
                "kind": job.kind.value,
                "purpose": job.purpose,
                "state": job.state.value,
                "attempt": job.attempt,
                "progress": job.progress,
            }
            for job in jobs
        ],
    }
