"""The four real jobs through real processes, on a dozen generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.common.db.models import Measurement
from services.common.db.repositories.datasets import DatasetRepository
from services.common.db.repositories.finalists import FinalistRepository
from services.common.db.repositories.searches import SearchRepository
from services.common.db.repositories.supernets import SupernetRepository
from services.common.db.states import FinalistRole, JobKind
from tests.support import tiny_jobs
from tests.support.worker_platform import WorkerPlatform

pytestmark = pytest.mark.integration

GENOTYPES = tiny_jobs.GENOTYPES[:2]


class Run:
    """One search in a home of its own, whose steps are taken by hand."""

    def __init__(self, platform: WorkerPlatform) -> None:
        self.platform = platform
        with platform.database.write_session() as session:
            dataset, _ = DatasetRepository(session).get_or_create(platform.owner, tiny_jobs.NAME)
        platform.dataset_id = dataset.id
        self.search_id = platform.search()

    def result(self, job_id: int) -> dict[str, Any]:
        (job,) = self.platform.wait_ended([job_id], 60)
        assert job.state == "succeeded", (job.reason, [item.log for item in self.platform.attempts(job_id)])
        return dict(job.result or {})

    def check(self) -> dict[str, Any]:
        _, job_id = self.platform.job(JobKind.CHECK_DATASET, tiny_jobs.check_payload(), search_id=self.search_id)
        checked = self.result(job_id)
        self.version_id = checked["dataset_version_id"]
        with self.platform.database.write_session() as session:
            SearchRepository(session).set(self.search_id, dataset_version_id=self.version_id)
        return checked

    def supernet(self, payload: dict[str, Any]) -> int:
        """The job that trains it."""
        with self.platform.database.write_session() as session:
            supernet, _ = SupernetRepository(session).get_or_create(
                self.platform.owner, payload["role"], {}, self.version_id
            )
        more = {"search_id": self.search_id, "supernet_id": supernet.id}
        return self.platform.job(JobKind.TRAIN_SUPERNET, payload, **more)[1]

    def finalist(self, payload: dict[str, Any]) -> int:
        with self.platform.database.write_session() as session:
            finalists = FinalistRepository(session)
            finalist, _ = finalists.get_or_create(
                self.platform.owner, self.search_id, FinalistRole.WINNER,
                rank=0, seed=0, genotype=list(GENOTYPES[0]), architecture_id="f", macs=1, params=1,
            )  # fmt: skip
        _, job_id = self.platform.job(JobKind.TRAIN_DETECTOR, payload, search_id=self.search_id)
        with self.platform.database.write_session() as session:
            FinalistRepository(session).set_job(finalist.id, job_id)
        return job_id

    def measurements(self) -> list[Measurement]:
        with self.platform.database.read_session() as session:
            rows = session.scalars(select(Measurement).where(Measurement.search_id == self.search_id))
            return list(rows.all())


def test_from_a_folder_of_pictures_to_a_measured_finalist(tmp_path: Path) -> None:
    tiny_jobs.register_demo(tmp_path)
    with WorkerPlatform(tmp_path) as platform:
        run = Run(platform)
        worker = platform.start_worker(planted={"real": True})
        checked = run.check()
        supernet_job = run.supernet(tiny_jobs.supernet_payload(checked))
        baseline_job = run.supernet(tiny_jobs.baseline_payload(checked))
        weights = run.result(supernet_job)["weights"]
        run.result(baseline_job)
        platform.evaluate(GENOTYPES, search_id=run.search_id, payload=tiny_jobs.evaluate_payload(checked, weights))
        trials = platform.wait_all_ended(run.search_id, 60)
        run.result(run.finalist(tiny_jobs.detector_payload(checked, weights)))

        assert [trial.state.value for trial in trials] == ["succeeded", "succeeded"]
        rows = run.measurements()
        assert {(row.split, row.metric) for row in rows if row.finalist_id is not None} >= {
            ("test", "box_map"),
            ("test", "box_ap50"),
        }
        single_path = next(row for row in rows if row.supernet_id is not None and row.metric == "box_map")
        assert single_path.split == "val"
        for trial in trials:
            row = next(row for row in rows if row.trial_id == trial.id and row.metric == "box_map")
            assert row.value == trial.value
            assert row.supernet_digest == weights
            assert row.dataset_version_id == run.version_id
            assert row.attempt == 1
            assert row.protocol_hash != single_path.protocol_hash  # other BN statistics
        assert worker.terminate() < 5
