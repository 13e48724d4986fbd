"""The checker sees each kind of mistake in a story that is sound without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.checker import Event, Poison, check

POISON = Poison(search_id=1, number=1, attempts=2)
Story = list[Event]


def event(
    kind: str, *, trial: int | None = None, job: int | None = None, attempt: int | None = None, **data: Any
) -> Event:
    return {"kind": kind, "search_id": 1, "trial_id": trial, "job_id": job, "attempt": attempt, "data": data}


def sound() -> Story:
    """Two trials: one is scored, by a worker that was fenced before; the other kills whoever scores it, twice."""
    return [
        event("search.submitted"),
        event("trial.proposed", trial=10, number=0),
        event("trial.proposed", trial=11, number=1),
        event("job.claimed", job=5, attempt=1, trials=2, worker="a"),
        event("job.released", job=5, attempt=1, outcome="lease_expired"),
        event("job.claimed", job=5, attempt=2, trials=1, worker="b"),
        event("result.refused", trial=10, job=5, attempt=1, what="the result of trial 0"),
        event("trial.succeeded", trial=10, job=5, attempt=2, number=0, value=0.5),
        event("job.ended", job=5, attempt=2, outcome="succeeded"),
        event("job.claimed", job=6, attempt=1, trials=1, worker="a"),
        event("job.released", job=6, attempt=1, outcome="crash"),
        event("job.claimed", job=6, attempt=2, trials=1, worker="a"),
        event("job.released", job=6, attempt=2, outcome="graceful"),
        event("job.claimed", job=6, attempt=3, trials=1, worker="a"),
        event("job.released", job=6, attempt=3, outcome="crash"),
        event("job.ended", job=6, attempt=3, outcome="failed"),
        event("trial.failed", trial=11, job=6, number=1, reason="its executor died"),
        event("search.succeeded"),
    ]


def find(story: Story, kind: str, **columns: Any) -> int:
    return next(
        index
        for index, entry in enumerate(story)
        if entry["kind"] == kind and all(entry[name] == value for name, value in columns.items())
    )


def without(kind: str, **columns: Any) -> Callable[[Story], None]:
    return lambda story: story.__delitem__(find(story, kind, **columns))


def twice(kind: str, **columns: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        index = find(story, kind, **columns)
        story.insert(index, story[index])

    return change


def changed(kind: str, column: str, value: Any, **columns: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        index = find(story, kind, **columns)
        story[index] = {**story[index], column: value}

    return change


def with_data(kind: str, name: str, value: Any, **columns: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        index = find(story, kind, **columns)
        story[index] = {**story[index], "data": {**story[index]["data"], name: value}}

    return change


def proposed_again(story: Story) -> None:
    """Two searchers took the same step: the same number, another row."""
    story.insert(3, event("trial.proposed", trial=12, number=0))


def test_a_sound_story_is_counted() -> None:
    verdict = check(sound(), POISON)
    assert verdict.problems == []
    assert (verdict.trials, verdict.lost, verdict.counted_twice) == (2, 0, 0)
    assert (verdict.fenced, verdict.claims, verdict.poison_attempts) == (1, 5, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("trial.succeeded"), "trial 0 of search 1 never ended"),
        (twice("trial.succeeded"), "trial 0 of search 1 ended 2 times"),
        (proposed_again, "trial 0 of search 1 was proposed twice"),
        (changed("trial.proposed", "trial_id", 12, trial_id=10), "trial 0 of search 1 never ended"),
        (changed("trial.succeeded", "attempt", 1), "a result of attempt 1 counted although 2 held the job"),
        (changed("trial.succeeded", "kind", "trial.failed"), "trial 0 of search 1 ended as trial.failed"),
        (with_data("trial.succeeded", "value", None), "trial 0 of search 1 ended as trial.succeeded without a result"),
        (changed("result.refused", "attempt", 2), "attempt 2 held it, and was refused"),
        (changed("job.claimed", "attempt", 3, job_id=5, attempt=2), "attempts are not claims"),
        (without("job.released", job_id=5), "was handed out as attempt 2, but it was held by attempt 1"),
        (changed("job.released", "attempt", 2, job_id=5), "attempt 2 gave it back, but 1 held it"),
        (twice("job.ended", job_id=5), "job 5 ended twice"),
        (changed("job.ended", "attempt", 1, job_id=5), "was ended by attempt 1, but 2 held it"),
        (without("job.ended", job_id=6), "job 6 was claimed 3 times and never ended"),
        (without("search.succeeded"), "search 1 succeeded 0 times"),
        (changed("trial.failed", "kind", "trial.succeeded"), "the poison trial should fail"),
        (with_data("job.released", "outcome", "graceful", job_id=6, attempt=3), "alone with 1 crashes instead of 2"),
    ],
)
def test_a_mistake_is_seen(change: Callable[[Story], None], says: str) -> None:
    story = sound()
    change(story)
    problems = check(story, POISON).problems
    assert any(says in problem for problem in problems), problems
