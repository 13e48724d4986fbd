"""The real job functions on a dozen generated pictures, in this process and without an API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.input_format import InputFormat
from nasdet_core.errors import CheckpointError, DatasetError
from nasdet_core.supernet.checkpoint import load_detector
from nasdet_core.training.determinism import set_deterministic
from services.worker.errors import JobStoppedError
from services.worker.jobs import check_dataset, evaluate, train_detector, train_supernet
from services.worker.resident import Resident
from services.worker.work import JobOutcome, TrialRequest
from tests.support import tiny_jobs
from tests.support.tiny_jobs import GENOTYPES
from tests.unit.services.worker.recording import RecordingApi, Reports, make_context, make_job


class Bench:
    """A home with the tiny dataset, an API that records, and what a job needs to run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.api = RecordingApi()
        self.resident = Resident()
        self.reports = Reports()

    def run(self, function: Any, payload: dict[str, Any], **changes: Any) -> JobOutcome:
        checkpoint_seconds = changes.pop("checkpoint_seconds", 1e9)
        job = replace(make_job("kind", **payload), **changes)
        context = make_context(
            job,
            self.api,
            home=self.home,
            resident=self.resident,
            reports=self.reports,
            checkpoint_seconds=checkpoint_seconds,
        )
        outcome: JobOutcome = function(job, context)
        return outcome

    def evaluate(self, payload: dict[str, Any], numbers: tuple[int, ...]) -> dict[int, dict[str, Any]]:
        """Results by the number of the candidate in GENOTYPES."""
        self.api.results.clear()
        trials = tuple(TrialRequest(id=number, number=number, genotype=GENOTYPES[number]) for number in numbers)
        self.run(evaluate.run, payload, trials=trials)
        return {result["trial"]: result for result in self.api.results}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    set_deterministic(1)
    home = tmp_path_factory.mktemp("home")
    tiny_jobs.register_demo(home)
    return Bench(home)


@pytest.fixture(scope="module")
def checked(bench: Bench) -> dict[str, Any]:
    return dict(bench.run(check_dataset.run, tiny_jobs.check_payload()).result)


@pytest.fixture(scope="module")
def supernet(bench: Bench, checked: dict[str, Any]) -> JobOutcome:
    return bench.run(train_supernet.run, tiny_jobs.supernet_payload(checked))


@pytest.fixture(scope="module")
def payload(checked: dict[str, Any], supernet: JobOutcome) -> dict[str, Any]:
    """Of an evaluate job."""
    return tiny_jobs.evaluate_payload(checked, supernet.result["weights"])


class TestCheckDataset:
    def test_the_manifest_is_an_artifact_and_the_splits_are_counted(
        self, bench: Bench, checked: dict[str, Any]
    ) -> None:
        assert checked["manifest"] in bench.api.artifacts
        assert checked["splits"] == {"train": 8, "search": 4, "report": 4, "final": 8}
        assert checked["split_names"]["search"] == "val"
        assert len(checked["class_names"]) == 3

    def test_an_unknown_name_says_where_it_was_expected(self, bench: Bench) -> None:
        with pytest.raises(DatasetError, match=r"dataset 'nothing' is not registered.*nothing\.json"):
            bench.run(check_dataset.run, {"dataset": "nothing"})


class TestTrainSupernet:
    def test_weights_are_an_artifact_that_describes_itself(
        self, bench: Bench, checked: dict[str, Any], supernet: JobOutcome
    ) -> None:
        saved = load_detector(bench.api.artifacts[supernet.result["weights"]])
        assert saved.space == tiny_jobs.space()
        assert saved.input == InputFormat((64, 96), "rgb_normalized")
        assert list(saved.class_names) == checked["class_names"]
        assert supernet.result["steps"] == 16
        assert supernet.measurements == ()

    def test_people_see_stage_step_loss_and_what_is_left(self, bench: Bench, supernet: JobOutcome) -> None:
        del supernet
        shown = next(shown for _, shown in bench.reports if shown.get("stage") == "supernet")
        assert {"step", "steps", "epoch", "epochs", "loss", "eta_s"} <= set(shown)

    def test_a_single_path_is_measured_on_the_search_split(self, bench: Bench, checked: dict[str, Any]) -> None:
        outcome = bench.run(train_supernet.run, tiny_jobs.baseline_payload(checked))
        measured = {row.metric: row for row in outcome.measurements}
        assert set(measured) == {"box_map", "box_ap50"}
        assert measured["box_map"].split == "val"
        assert measured["box_map"].supernet_digest == outcome.result["weights"]

    def test_resumed_from_a_checkpoint_it_ends_with_the_same_bytes(
        self, bench: Bench, checked: dict[str, Any], supernet: JobOutcome
    ) -> None:
        bench.api.checkpoints.clear()
        payload = tiny_jobs.supernet_payload(checked)
        again = bench.run(train_supernet.run, payload, checkpoint_seconds=1e-9)
        assert again.result["weights"] == supernet.result["weights"]
        step, digest = bench.api.checkpoints[0]
        assert 0 < step < 16
        fresh = Bench(bench.home)
        fresh.api.artifacts.update(bench.api.artifacts)
        resumed = fresh.run(train_supernet.run, payload, checkpoint=digest, checkpoint_step=step)
        first = next(shown["step"] for _, shown in fresh.reports if shown["stage"] == "supernet")
        assert first == step + 1
        assert resumed.result["weights"] == supernet.result["weights"]
        assert resumed.result["losses"] == supernet.result["losses"]

    def test_a_checkpoint_of_another_seed_is_refused(
        self, bench: Bench, checked: dict[str, Any], supernet: JobOutcome
    ) -> None:
        del supernet
        payload = tiny_jobs.supernet_payload(checked, seed=1)
        _, digest = bench.api.checkpoints[0]
        with pytest.raises(CheckpointError, match="seed"):
            bench.run(train_supernet.run, payload, checkpoint=digest, checkpoint_step=1)


class TestEvaluate:
    def test_a_score_hangs_neither_on_the_list_nor_on_what_came_before(
        self, bench: Bench, payload: dict[str, Any]
    ) -> None:
        together = bench.evaluate(payload, (0, 1, 2))
        alone = bench.evaluate(payload, (1,))
        elsewhere = Bench(bench.home)
        elsewhere.api.artifacts.update(bench.api.artifacts)
        other = elsewhere.evaluate(payload, (2, 1))
        values = {result["value"] for result in together.values()}
        assert len(values) == 3
        assert min(values) > 0
        for number, results in ((1, alone), (1, other), (2, other)):
            assert results[number]["measurements"] == together[number]["measurements"]
            assert results[number]["value"] == together[number]["value"]

    def test_a_measurement_says_what_it_was_made_with(
        self, bench: Bench, payload: dict[str, Any], supernet: JobOutcome
    ) -> None:
        result = bench.evaluate(payload, (0,))[0]
        row = next(row for row in result["measurements"] if row["metric"] == "box_map")
        assert row["value"] == result["value"]
        assert row["split"] == "val"
        assert row["supernet_digest"] == supernet.result["weights"]
        assert row["fidelity"] == {"images": 4}
        assert len(row["jackknife"]) == 4
        assert row["standard_error"] >= 0

    def test_the_supernet_is_not_loaded_again(self, bench: Bench, payload: dict[str, Any]) -> None:
        bench.evaluate(payload, (0,))
        loaded = bench.resident.supernets.get(payload["supernet_weights"], lambda: pytest.fail("was not kept"))
        before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
        bench.evaluate(payload, (0, 1))
        after = loaded.model.state_dict()
        assert all(before[name].equal(after[name]) for name in before)
        assert payload["supernet_weights"] in bench.resident.hashes()

    def test_progress_moves_with_every_batch(
        self, bench: Bench, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.worker.context.REPORT_SECONDS", 0.0)  # otherwise reports are held back
        bench.evaluate(payload, (0,))
        counter = bench.reports[-1][0]
        assert counter >= 1 + 2 + 2  # begin of the list, batches of recalibration and of detection

    def test_another_space_is_refused(self, bench: Bench, payload: dict[str, Any]) -> None:
        other = {**payload, "space": {**payload["space"], "head": {"model": "retinanet"}}}
        with pytest.raises(CheckpointError, match="another space"):
            bench.evaluate(other, (0,))


class TestTrainDetector:
    def test_a_finalist_is_measured_on_the_report_split_by_class(
        self, bench: Bench, checked: dict[str, Any], supernet: JobOutcome
    ) -> None:
        payload = tiny_jobs.detector_payload(checked, supernet.result["weights"])
        outcome = bench.run(train_detector.run, payload)
        metrics = {row.metric for row in outcome.measurements}
        assert {"box_map", "box_ap50"} <= metrics
        assert all(metric.removeprefix("box_map/") in checked["class_names"] for metric in metrics if "/" in metric)
        assert {row.split for row in outcome.measurements} == {"test"}
        saved = load_detector(bench.api.artifacts[outcome.result["weights"]])
        assert saved.space == tiny_jobs.space().fixed(GENOTYPES[0])
        assert saved.input == InputFormat((64, 96), "rgb_normalized")
        assert saved.metadata["started_from"] == supernet.result["weights"]

    def test_from_scratch_it_needs_no_weights(self, bench: Bench, checked: dict[str, Any]) -> None:
        outcome = bench.run(train_detector.run, tiny_jobs.detector_payload(checked, None))
        assert outcome.outcome == "succeeded"

    def test_a_baseline_starts_from_its_own_single_path(self, bench: Bench, checked: dict[str, Any]) -> None:
        baseline = tiny_jobs.baseline_payload(checked)
        weights = bench.run(train_supernet.run, baseline).result["weights"]
        payload = {
            **tiny_jobs.detector_payload(checked, None),
            "space": baseline["space"],
            "start": {"weights": weights, "space": baseline["space"], "genotype": []},
        }
        assert bench.run(train_detector.run, payload).outcome == "succeeded"


class TestStoppingAndDrift:
    def test_a_training_stops_at_its_next_step(self, bench: Bench, checked: dict[str, Any]) -> None:
        job = make_job("train_supernet", **tiny_jobs.supernet_payload(checked))
        context = make_context(job, bench.api, home=bench.home, resident=bench.resident)
        steps = []

        def stop_at_the_second(counter: int, shown: Any) -> None:
            steps.append(counter)
            if shown.get("stage") == "supernet":
                context.stop()

        context._send_progress = stop_at_the_second
        with pytest.raises(JobStoppedError):
            train_supernet.run(job, context)

    def test_a_changed_picture_is_named(self, tmp_path: Path) -> None:
        folder = tiny_jobs.register_demo(tmp_path)
        bench = Bench(tmp_path)
        checked = dict(bench.run(check_dataset.run, tiny_jobs.check_payload()).result)
        picture = sorted(folder.rglob("*.png"))[0]
        picture.write_bytes(picture.read_bytes() + b"\0")
        with pytest.raises(DatasetError, match=picture.name):
            bench.run(train_supernet.run, tiny_jobs.supernet_payload(checked))
