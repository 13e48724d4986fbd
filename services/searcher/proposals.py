"""Ask and tell: from the rows of a search to its next trials.

The algorithm is built anew and told the history each time; nothing of it is kept. Before trial n is asked, exactly
the trials 0..visible(n)-1 have been told, never more, so that what is proposed does not hang on when somebody asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from nasdet_core.algorithms.base import Algorithm, CompletedTrial, Proposal, TrialState
from nasdet_core.errors import SearchSpaceExhaustedError
from nasdet_core.search_spaces.base import Genotype
from services.common.db.models import Trial
from services.common.db.repositories.trials import NewTrial
from services.common.db.states import WorkState
from services.common.specification import ResolvedSearch
from services.searcher.context import StepContext

MOST_PER_STEP = 256  # a step is one transaction: it must not hold the database for long

_TOLD_AS: dict[WorkState, TrialState] = {
    WorkState.SUCCEEDED: "succeeded",
    WorkState.FAILED: "failed",
    WorkState.LOST: "failed",
    WorkState.INFEASIBLE: "infeasible",
    WorkState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class Proposals:
    """`exhausted` is the algorithm's sentence when it has nothing more to propose."""

    proposals: tuple[Proposal, ...]
    exhausted: str | None = None


def next_proposals(algorithm: Algorithm, trials: Sequence[Trial], most: int = MOST_PER_STEP) -> Proposals:
    """The trials that may be proposed now, after `trials` (all there are, by number). Pure."""
    ended = list(itertools.takewhile(lambda trial: trial.state.ended, trials))
    genotypes: list[Genotype] = [tuple(trial.genotype) for trial in trials]
    found: list[Proposal] = []
    told = 0
    for number in range(len(trials), min(algorithm.total_trials, len(trials) + most)):
        visible = algorithm.visible(number)
        if visible > len(ended):
            break
        for trial in ended[told:visible]:
            algorithm.tell(_completed(trial))
        told = max(told, visible)
        try:
            proposal = algorithm.ask(number, genotypes)
        except SearchSpaceExhaustedError as error:
            return Proposals(tuple(found), str(error))
        found.append(proposal)
        genotypes.append(proposal.genotype)
    return Proposals(tuple(found))


def propose(step: StepContext) -> Sequence[Trial]:
    """Add the trials that may be proposed now; returns all trials of the search."""
    trials = list(step.trials.of_search(step.search_id))
    if step.search.exhausted or len(trials) >= step.resolved.total_trials:
        return trials
    proposed = next_proposals(step.resolved.algorithm(), trials)
    for number, proposal in enumerate(proposed.proposals, start=len(trials)):
        trials.append(step.trials.add(step.owner, step.search_id, _new_trial(step.resolved, number, proposal)))
    if proposed.proposals:
        step.searches.bump(step.search_id)
    if proposed.exhausted is not None:
        step.searches.set(step.search_id, exhausted=True)
        step.event("search.exhausted", {"trials": len(trials), "reason": proposed.exhausted})
        if not trials:
            step.fail(f"there is no candidate to begin with: {proposed.exhausted}")
    return trials


def nothing_more(step: StepContext, trials: Sequence[Trial]) -> bool:
    """Whether every trial that will ever be proposed has ended."""
    complete = step.search.exhausted or len(trials) >= step.resolved.total_trials
    return complete and all(trial.state.ended for trial in trials)


def _completed(trial: Trial) -> CompletedTrial:
    return CompletedTrial(
        number=trial.number,
        genotype=tuple(trial.genotype),
        state=_TOLD_AS[trial.state],
        value=trial.value,
    )


def _new_trial(resolved: ResolvedSearch, number: int, proposal: Proposal) -> NewTrial:
    cost = resolved.cost(proposal.genotype)
    return NewTrial(
        number=number,
        genotype=list(proposal.genotype),
        architecture_id=resolved.space.architecture_id(proposal.genotype),
        origin=proposal.origin,
        parents=list(proposal.parents),
        generation=proposal.generation,
        macs=cost.macs,
        params=cost.params,
        counted=resolved.counted(proposal.genotype),
    )
