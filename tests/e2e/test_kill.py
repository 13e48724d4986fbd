"""Kill test: kill -9 anything at any moment, and the search ends with the result it would have had.

The short form runs one tiny search undisturbed and once more under faults. `make kill-test` runs the long form: more
seeds, more points, a search that learns something.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.demo import write_demo_dataset
from tests.support.platform import (
    Fault,
    Outcome,
    at_results,
    at_second_attempt,
    at_step,
    end_as_zombie,
    freeze_workers,
    in_evaluation,
    kill_executors,
    kill_process,
    kill_searcher_repeatedly,
    kill_workers,
    run_search,
)

pytestmark = [pytest.mark.e2e, pytest.mark.integration]

LEASE_S = 3.0
CHECKPOINT_S = 1.0

TINY: dict[str, Any] = {
    "schema": 1,
    "name": "kill test",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.25},
        "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
        "head": {"model": "fcos", "convs": 1, "norm_groups": 4},
    },
    "limits": [{"metric": "macs", "part": "backbone", "image_size": [224, 224], "max": 24e6}],
    "supernet": {"epochs": 8, "warm_start": 0.5, "image_size": [64, 80], "batch_size": 4, "learning_rate": 5e-3},
    "search": {"algorithm": "detnas", "population": 5, "generations": 3},
    "evaluation": {"recalibration": {"average": "exact", "images": 32}},
    "final": {"top": 1, "epochs": 8, "start": "supernet", "seeds": 1},
    "seed": 0,
}


@pytest.fixture(autouse=True)
def _quick_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASDET_LEASE_SECONDS", str(LEASE_S))
    monkeypatch.setenv("NASDET_CHECKPOINT_SECONDS", str(CHECKPOINT_S))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_dataset(tmp_path_factory.mktemp("data") / "scenes", train=48, val=24, test=16)


def plan(seed: int) -> list[Fault]:
    """Every process at least once, at moments that the seed varies within their stage."""
    rng = random.Random(seed)
    return [
        Fault(
            "executors in mid-epoch of the supernet", at_step("train_supernet", rng.uniform(0.2, 0.4)), kill_executors
        ),
        Fault("the late end of an older attempt", at_second_attempt("train_supernet"), end_as_zombie),
        Fault(
            "API in mid-epoch of the supernet", at_step("train_supernet", rng.uniform(0.5, 0.7)), kill_process("api")
        ),
        Fault("frozen workers that come back too late", in_evaluation(), freeze_workers(2.5 * LEASE_S)),
        Fault("supervisors in mid-evaluation", in_evaluation(rng.randint(1, 3)), kill_workers),
        Fault("API between results", at_results(rng.randint(4, 6)), kill_process("api")),
        Fault("searcher in mid-step", at_results(rng.randint(7, 9)), kill_searcher_repeatedly(rng)),
        Fault("executors in mid-finalist", at_step("train_detector", rng.uniform(0.2, 0.6)), kill_executors),
    ]


def check(disturbed: Outcome, undisturbed: Outcome, faults: Sequence[Fault]) -> None:
    assert undisturbed.comparable["search"]["state"] == "succeeded", undisturbed.comparable["search"]
    check_late_results_are_refused(disturbed)
    check_counted_once(disturbed)
    assert disturbed.comparable == undisturbed.comparable
    assert disturbed.weights == undisturbed.weights
    assert disturbed.struck == [fault.name for fault in faults]
    check_repeated_work(disturbed)


def check_counted_once(outcome: Outcome) -> None:
    """Every trial has one accepted result, by the event table alone."""
    accepted = Counter(
        event["data"]["number"]
        for event in outcome.events
        if event["kind"] in ("trial.succeeded", "trial.failed", "trial.infeasible")
    )
    assert accepted == {trial["number"]: 1 for trial in outcome.trials}
    assert len(outcome.trials) == outcome.summary["trials"]["planned"]


def check_late_results_are_refused(outcome: Outcome) -> None:
    """Workers that were frozen past their leases are told so, and the refusal stands in the event table."""
    kinds = Counter(event["kind"] for event in outcome.events)
    assert kinds["result.refused"] >= 1, kinds


def check_repeated_work(outcome: Outcome) -> None:
    """What is done again starts at the last checkpoint, and checkpoints come as often as they should.

    Checkpoints are due by the clock, so the steps between two of them vary with the machine's load: twice the longest
    distance seen is allowed.
    """
    steps: dict[int, list[int]] = {}
    for event in outcome.events:
        if event["kind"] == "checkpoint":
            steps.setdefault(event["job"], [0]).append(event["data"]["step"])
    longest = max(after - before for taken in steps.values() for before, after in pairwise(taken))
    released = [event["data"] for event in outcome.events if event["kind"] == "job.released" and event["data"]["step"]]
    assert any(data["checkpoint_step"] > 0 for data in released), released
    for data in released:
        assert data["step"] - data["checkpoint_step"] <= 2 * longest, (data, longest)


LEARNING: dict[str, Any] = {
    **TINY,
    "name": "long kill test",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.25},
        "neck": {"model": "fpn", "channels": 32, "extra_levels": 0},
        "head": {"model": "fcos", "convs": 2, "norm_groups": 8},
    },
    "supernet": {"epochs": 10, "warm_start": 0.5, "image_size": [128, 160], "batch_size": 4, "learning_rate": 5e-3},
    "search": {"algorithm": "detnas", "population": 6, "generations": 3},
    "final": {"top": 1, "epochs": 3, "start": "supernet", "seeds": 2},
}


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A search that learns something, undisturbed."""
    folder = tmp_path_factory.mktemp("long")
    scenes = write_demo_dataset(folder / "scenes", train=160, val=48, test=48)
    return scenes, run_search(folder / "undisturbed", scenes, LEARNING)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_search_that_learns_survives_kills(learning: tuple[Path, Outcome], tmp_path: Path, seed: int) -> None:
    scenes, undisturbed = learning
    faults = plan(seed)
    assert undisturbed.summary["best"]["box_map"] > 0.05

    check(run_search(tmp_path / "disturbed", scenes, LEARNING, faults=faults), undisturbed, faults)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_another_seed_is_another_search(learning: tuple[Path, Outcome], tmp_path: Path) -> None:
    scenes, undisturbed = learning
    other = run_search(tmp_path / "other", scenes, {**LEARNING, "seed": 1})

    ours, theirs = ([tuple(trial["genotype"]) for trial in run.trials] for run in (undisturbed, other))
    assert not set(ours) & set(theirs)
    assert undisturbed.weights["supernet"] != other.weights["supernet"]


@pytest.mark.timeout(600)
def test_a_search_under_kills_ends_as_if_nothing_had_happened(dataset: Path, tmp_path: Path) -> None:
    """The undisturbed run has one worker and the other one two: that must not matter either."""
    undisturbed = run_search(tmp_path / "undisturbed", dataset, TINY, workers=1)
    faults = plan(seed=0)
    disturbed = run_search(tmp_path / "disturbed", dataset, TINY, workers=2, faults=faults)

    check(disturbed, undisturbed, faults)
