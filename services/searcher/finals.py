"""The finalists: winners, baseline and random control, each trained once per seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace
from services.common.db.models import Supernet
from services.common.db.states import FinalistRole, JobKind, WorkState
from services.common.ranking import ScoredTrial, best_trials, random_trials
from services.searcher.context import FINALIST_PRIORITY, StepContext
from services.searcher.payloads import baseline_space, finalist_space, train_detector_payload


@dataclass(frozen=True)
class Entry:
    """An architecture that is trained to the end, and the weights it starts from."""

    role: FinalistRole
    rank: int
    genotype: Genotype  # in the searched space
    space: DetectorSpace  # the architecture alone
    supernet: Supernet
    start: Genotype | None  # the path of `supernet` that it starts from
    trial_id: int | None = None


def enter_winners(step: StepContext, supernet: Supernet) -> None:
    """Queue the trainings of the best candidates and of the random control, once; all trials must have ended."""
    if step.finalists.of_search(step.search_id, FinalistRole.WINNER):
        return
    winners = best_trials(step.session, step.search_id, step.specification.final.recipe.top)
    for rank, scored in enumerate(winners):
        _enter(step, _entry(step, FinalistRole.WINNER, rank, scored, supernet))
    control = control_trial(random_trials(step.session, step.search_id, len(winners) + 1), winners)
    if step.specification.final.control and control is not None:
        _enter(step, _entry(step, FinalistRole.CONTROL, 0, control, supernet))


def control_trial(drawn: Sequence[ScoredTrial], winners: Sequence[ScoredTrial]) -> ScoredTrial | None:
    """The first candidate that was drawn at random, works, and has not won."""
    won = {scored.trial.number for scored in winners}
    return next((scored for scored in drawn if scored.trial.number not in won), None)


def enter_baseline(step: StepContext, supernet: Supernet) -> None:
    """Queue the trainings of the baseline, once.

    It always starts from its own supernet, a network of one path trained with the supernet's recipe: so it gets
    the winner's whole training budget, also where winners are trained from scratch.
    """
    if step.finalists.of_search(step.search_id, FinalistRole.BASELINE):
        return
    genotype = step.resolved.baseline
    space = baseline_space(step)
    _enter(step, Entry(FinalistRole.BASELINE, 0, genotype, space, supernet, start=()))


def all_ended(step: StepContext) -> bool:
    return all(finalist.state.ended for finalist in step.finalists.of_search(step.search_id))


def winners_failure(step: StepContext) -> str | None:
    """Why there is no winner, when not one training of a winner succeeded."""
    winners = step.finalists.of_search(step.search_id, FinalistRole.WINNER)
    if any(finalist.state is WorkState.SUCCEEDED for finalist in winners):
        return None
    first = next((finalist.reason for finalist in winners if finalist.reason), "no reason was given")
    return f"no training of a winner succeeded, {len(winners)} were tried: {first}"


def _entry(step: StepContext, role: FinalistRole, rank: int, scored: ScoredTrial, supernet: Supernet) -> Entry:
    genotype = tuple(scored.trial.genotype)
    from_scratch = step.specification.final.recipe.start == "scratch"
    return Entry(
        role=role,
        rank=rank,
        genotype=genotype,
        space=finalist_space(step, genotype, from_scratch=from_scratch),
        supernet=supernet,
        start=None if from_scratch else genotype,
        trial_id=scored.trial.id,
    )


def _seeds(step: StepContext) -> Iterator[int]:
    first = step.search.seed
    yield from range(first, first + step.specification.final.recipe.seeds)


def _enter(step: StepContext, entry: Entry) -> None:
    """One finalist and one job per seed."""
    cost = entry.space.cost((), step.resolved.image_size).total
    for seed in _seeds(step):
        finalist, _ = step.finalists.get_or_create(
            step.owner,
            step.search_id,
            entry.role,
            rank=entry.rank,
            seed=seed,
            genotype=list(entry.genotype),
            architecture_id=entry.space.architecture_id(()),
            macs=cost.macs,
            params=cost.params,
            trial_id=entry.trial_id,
        )
        job = step.jobs.create(
            step.search_id,
            JobKind.TRAIN_DETECTOR,
            f"final/{entry.role}/{entry.rank}/{seed}",
            train_detector_payload(
                step,
                role=entry.role,
                space=entry.space,
                seed=seed,
                supernet=entry.supernet,
                start=entry.start,
            ),
            priority=step.priority(FINALIST_PRIORITY),
            resident=entry.supernet.weights,
            supernet_id=entry.supernet.id,
        )
        step.finalists.set_job(finalist.id, job.id)
