"""From `nasdet data upload` to a scored candidate: the worker has no folder of the dataset, only what it unpacked."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_core.data.demo import write_demo_dataset
from services.common.db.models import Job
from services.common.db.states import JobKind
from tests.integration.worker.test_real_jobs import Run
from tests.support import tiny_jobs
from tests.support.worker_platform import WorkerPlatform

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_dataset(tmp_path_factory.mktemp("pictures") / "demo", train=8, val=4, test=4)


@pytest.fixture(scope="module")
def uploading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPlatform]:
    """A platform whose workers see one folder of datasets, with nothing but a few pictures in it."""
    home = tmp_path_factory.mktemp("home")
    root = home / "data"
    write_demo_dataset(root / "scenes", train=8, val=4, test=4)
    with WorkerPlatform(home, NASDET_DATA_ROOT=str(root), NASDET_COLLECT_SECONDS="0.3") as platform:
        platform.start_worker(planted={"real": True})
        yield platform


def upload(platform: WorkerPlatform, source: Path, name: str) -> dict[str, Any]:
    token = (platform.home / "token").read_text().strip()
    arguments = ["data", "upload", str(source), "--name", name, "--url", platform.url, "--token", token, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    body: dict[str, Any] = json.loads(result.stdout)
    return body


def ended(platform: WorkerPlatform, kind: JobKind, payload: dict[str, Any], run: Run) -> Job:
    _, job_id = platform.job(kind, payload, search_id=run.search_id)
    (job,) = platform.wait_ended([job_id], 90)
    return job


def test_a_search_runs_from_the_archive(uploading: WorkerPlatform, pictures: Path) -> None:
    archive = upload(uploading, pictures, tiny_jobs.NAME)["archive"]
    run = Run(uploading)
    job = ended(uploading, JobKind.CHECK_DATASET, {**tiny_jobs.check_payload(), "archive": archive}, run)
    assert job.state == "succeeded", job.reason
    checked = dict(job.result or {})
    run.version_id = checked["dataset_version_id"]
    weights = run.result(run.supernet({**tiny_jobs.supernet_payload(checked), "archive": archive}))["weights"]
    payload = {**tiny_jobs.evaluate_payload(checked, weights), "archive": archive}
    _, evaluation = uploading.evaluate(tiny_jobs.GENOTYPES[:1], search_id=run.search_id, payload=payload)
    uploading.wait_ended([evaluation], 90)
    (trial,) = uploading.trials(run.search_id)
    assert trial.state == "succeeded", trial.reason
    cache = uploading.home / "cache"
    assert [path.name for path in (cache / "folders").iterdir()] == [archive]
    assert weights in {path.name for path in (cache / "files").iterdir()}


def test_a_damaged_copy_on_the_workers_disk_is_fetched_again(uploading: WorkerPlatform, pictures: Path) -> None:
    archive = upload(uploading, pictures, "again")["archive"]
    run, payload = Run(uploading), {"dataset": "again", "seed": 0, "archive": archive}
    unpacked = ended(uploading, JobKind.CHECK_DATASET, payload, run)
    assert unpacked.state == "succeeded", unpacked.reason
    folder = uploading.home / "cache" / "folders" / archive / "data"
    picture = next(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-1] + b"?")
    job = ended(uploading, JobKind.CHECK_DATASET, payload, run)
    assert job.state == "succeeded", job.reason
    assert picture.read_bytes() == whole


def test_a_hostile_archive_fails_the_job_with_a_sentence(uploading: WorkerPlatform, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        info = tarfile.TarInfo("../../evil")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    archive = upload(uploading, tmp_path / "evil.tar", "evil")["archive"]
    job = ended(uploading, JobKind.CHECK_DATASET, {"dataset": "evil", "archive": archive}, Run(uploading))
    assert job.state == "failed"
    assert "only ordinary files are unpacked" in (job.reason or "")
    assert list(uploading.home.rglob("evil")) == []


def test_a_folder_of_the_data_root_is_read_where_it_lies(uploading: WorkerPlatform) -> None:
    job = ended(uploading, JobKind.CHECK_DATASET, {"dataset": "scenes", "seed": 0}, Run(uploading))
    assert job.state == "succeeded", job.reason
    assert (job.result or {})["archive"] is None


def test_a_worker_without_the_folder_says_so(uploading: WorkerPlatform) -> None:
    job = ended(uploading, JobKind.CHECK_DATASET, {"dataset": "elsewhere", "seed": 0}, Run(uploading))
    assert job.state == "failed"
    assert "mount the same folder of datasets in every worker" in (job.reason or "")
