"""Whether the events of a run tell a story in which nothing was lost and nothing counted twice.

It reads a copy of the event table and knows no other table: what the platform says elsewhere may be wrong in the same
way as its code. `python -m tests.chaos.checker EVENTS.json SEARCH:NUMBER MAX_CRASHES` checks a saved copy.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]  # id, kind, search_id, trial_id, job_id, attempt, data
UNCHARGED = ("graceful",)
TRIAL_ENDS = frozenset(f"trial.{state}" for state in ("succeeded", "failed", "infeasible", "lost", "cancelled"))


@dataclass(frozen=True)
class Poison:
    """The one candidate that kills whoever scores it, and how often it may."""

    search_id: int
    number: int
    attempts: int


@dataclass
class Job:
    """What the events say of one job."""

    holder: int | None = None  # the attempt that holds it now
    last: int = 0  # attempt
    ended: bool = False
    claimed: int = 0  # trials that the holder got
    landed: int = 0  # of these, what has a result
    charged: list[int] = field(default_factory=list)  # attempts that died with one trial left


@dataclass
class Verdict:
    """`problems` is empty when all is well."""

    trials: int = 0
    lost: int = 0
    counted_twice: int = 0
    fenced: int = 0
    claims: int = 0
    poison_attempts: int = 0
    problems: list[str] = field(default_factory=list)


class Checker:
    """Told every event in order; `verdict` at the end."""

    def __init__(self, poison: Poison) -> None:
        self.poison = poison
        self.found = Verdict()
        self.jobs: dict[int, Job] = {}
        self.proposed: dict[int, tuple[int, int]] = {}  # trial → search, number
        self.ends: dict[int, list[Event]] = {}
        self.submitted: set[int] = set()
        self.succeeded: Counter[int] = Counter()

    def tell(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "trial.proposed":
            self.proposed[event["trial_id"]] = (event["search_id"], event["data"]["number"])
        elif kind in TRIAL_ENDS:
            self._trial_ended(event)
        elif kind == "job.claimed":
            self._claimed(event)
        elif kind == "job.released":
            self._released(event)
        elif kind == "job.ended":
            self._job_ended(event)
        elif kind == "result.refused":
            self._refused(event)
        elif kind == "search.submitted":
            self.submitted.add(event["search_id"])
        elif kind == "search.succeeded":
            self.succeeded[event["search_id"]] += 1

    def verdict(self) -> Verdict:
        """What all events together come to."""
        twice = [pair for pair, count in Counter(self.proposed.values()).items() if count > 1]
        for search, number in twice:
            self._problem(f"trial {number} of search {search} was proposed twice")
        for trial, (search, number) in self.proposed.items():
            self._check_trial(trial, search, number)
        self.found.counted_twice += len(twice)
        self.found.trials = len(self.proposed)
        for search in self.submitted:
            if self.succeeded[search] != 1:
                self._problem(f"search {search} succeeded {self.succeeded[search]} times instead of once")
        for number, job in self.jobs.items():
            if not job.ended:
                self._problem(f"job {number} was claimed {job.last} times and never ended")
        self._check_poison()
        return self.found

    def _problem(self, sentence: str) -> None:
        self.found.problems.append(sentence)

    def _job(self, event: Event) -> Job:
        return self.jobs.setdefault(event["job_id"], Job())

    def _claimed(self, event: Event) -> None:
        job, attempt = self._job(event), event["attempt"]
        self.found.claims += 1
        if attempt != job.last + 1:
            self._problem(f"job {event['job_id']}: claim {attempt} follows claim {job.last}: attempts are not claims")
        if job.holder is not None or job.ended:
            state = "had ended" if job.ended else f"was held by attempt {job.holder}"
            self._problem(f"job {event['job_id']} was handed out as attempt {attempt}, but it {state}")
        job.holder, job.last = attempt, attempt
        job.claimed, job.landed = event["data"].get("trials", 0), 0

    def _released(self, event: Event) -> None:
        job, attempt = self._job(event), event["attempt"]
        if job.holder != attempt:
            self._problem(f"job {event['job_id']}: attempt {attempt} gave it back, but {job.holder} held it")
        if event["data"]["outcome"] not in UNCHARGED and job.claimed - job.landed == 1:
            job.charged.append(attempt)
        job.holder = None

    def _job_ended(self, event: Event) -> None:
        job = self._job(event)
        if job.ended:
            self._problem(f"job {event['job_id']} ended twice")
        if job.holder is not None and job.holder != event["attempt"]:
            self._problem(f"job {event['job_id']} was ended by attempt {event['attempt']}, but {job.holder} held it")
        job.ended, job.holder = True, None

    def _trial_ended(self, event: Event) -> None:
        self.ends.setdefault(event["trial_id"], []).append(event)
        job, attempt = self._job(event), event["attempt"]
        if attempt is None:
            return  # it ended with its job, not by a result; `verdict` says whether it was allowed to
        if job.holder != attempt:
            self.found.counted_twice += 1
            self._problem(
                f"job {event['job_id']}: a result of attempt {attempt} counted although {job.holder} held the job"
            )
        job.landed += 1

    def _refused(self, event: Event) -> None:
        self.found.fenced += 1
        if self._job(event).holder == event["attempt"] and "another" not in event["data"]["what"]:
            self._problem(f"job {event['job_id']}: attempt {event['attempt']} held it, and was refused")

    def _check_trial(self, trial: int, search: int, number: int) -> None:
        what = f"trial {number} of search {search}"
        ends = self.ends.get(trial, [])
        if not ends:
            self.found.lost += 1
            self._problem(f"{what} never ended: it is lost")
            return
        if len(ends) > 1:
            self.found.counted_twice += 1
            self._problem(f"{what} ended {len(ends)} times: {[event['kind'] for event in ends]}")
        if (search, number) == (self.poison.search_id, self.poison.number):
            return
        data = ends[0]["data"]
        if ends[0]["kind"] != "trial.succeeded" or data.get("value") is None:
            self.found.lost += 1
            self._problem(f"{what} ended as {ends[0]['kind']} without a result: {data.get('reason')}")

    def _check_poison(self) -> None:
        wanted = (self.poison.search_id, self.poison.number)
        ends = [self.ends.get(trial, []) for trial, place in self.proposed.items() if place == wanted]
        kinds = [event["kind"] for events in ends for event in events]
        if kinds not in (["trial.failed"], ["trial.lost"]):  # lost: its last attempt also lost its supervisor
            self._problem(f"the poison trial should fail and nothing else, but its ends are {kinds}")
            return
        job = self.jobs[ends[0][0]["job_id"]]
        self.found.poison_attempts = len(job.charged)
        if len(job.charged) != self.poison.attempts:
            self._problem(
                f"the poison trial was alone with {len(job.charged)} crashes instead of {self.poison.attempts}"
            )


def check(events: Iterable[Event], poison: Poison) -> Verdict:
    """Check a whole story."""
    checker = Checker(poison)
    for event in events:
        checker.tell(event)
    return checker.verdict()


def main(arguments: Sequence[str]) -> int:
    path, place, attempts = arguments
    search, _, number = place.partition(":")
    verdict = check(json.loads(Path(path).read_text()), Poison(int(search), int(number), int(attempts)))
    sys.stdout.write("\n".join([*verdict.problems, str(verdict)]) + "\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
