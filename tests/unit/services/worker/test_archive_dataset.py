"""A dataset that comes as an archive: read from the cache, mended there, and let go of when it is not needed."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.demo import write_demo_dataset
from services.worker.artifact_cache import ArtifactCache, CacheFullError
from services.worker.errors import WorkerError
from services.worker.jobs import check_dataset
from services.worker.jobs.dataset import load_dataset
from services.worker.resident import Resident
from tests.unit.services.worker.recording import RecordingApi, make_context, make_job


class Bench:
    """A worker's home without any dataset, and archives at the API."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.api = RecordingApi()
        self.cache = ArtifactCache(home / "cache", 1 << 30)
        self.resident = Resident()

    def archive(self, name: str, *, test: int = 3) -> str:
        folder = write_demo_dataset(self.home.parent / name, train=6, val=3, test=test)
        with tarfile.open(self.home.parent / f"{name}.tar", "w") as tar:
            tar.add(folder, ".")
        return self.api.put_artifact((self.home.parent / f"{name}.tar").read_bytes())

    def context(self, cache: ArtifactCache | None) -> Any:
        return make_context(make_job(), self.api, home=self.home, resident=self.resident, cache=cache)

    def check(self, archive: str) -> dict[str, Any]:
        job = make_job("check_dataset", dataset="tiny", archive=archive)
        outcome = check_dataset.run(job, self.context(self.cache))
        assert outcome.outcome == "succeeded"
        assert outcome.result["archive"] == archive
        return dict(outcome.result)

    def payload(self, archive: str) -> dict[str, Any]:
        checked = self.check(archive)
        return {
            "dataset": "tiny",
            "dataset_version": checked["digest"],
            "manifest": checked["manifest"],
            "archive": archive,
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "home").mkdir()
    return Bench(tmp_path / "home")


def test_it_is_fetched_once_for_all_jobs(bench: Bench) -> None:
    archive = bench.archive("one")
    payload = bench.payload(archive)
    version = load_dataset(payload, bench.context(bench.cache))
    assert version.dataset.root.is_relative_to(bench.home / "cache" / "folders" / archive)
    assert len(version.records("train")) == 6
    assert bench.api.downloads == [archive]


@pytest.mark.parametrize("damage", ["annotations", "picture"])
def test_what_is_damaged_between_two_jobs_is_mended(bench: Bench, damage: str) -> None:
    archive = bench.archive("one")
    payload = bench.payload(archive)
    suffixes = (".json", ".xml") if damage == "annotations" else (".png", ".jpg")
    files = sorted((bench.home / "cache" / "folders" / archive / "data").rglob("*"))
    file = next(path for path in files if path.suffix in suffixes)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    version = load_dataset(payload, bench.context(bench.cache))
    assert len(version.records("train")) == 6
    assert file.read_bytes() == whole
    assert bench.api.downloads == [archive, archive]


def test_what_earlier_jobs_keep_in_memory_makes_way(bench: Bench) -> None:
    """An archive that an executor only remembers does not stand in the way of the one that its job needs."""
    first = bench.archive("one")
    second = bench.archive("two", test=4)
    load_dataset(bench.payload(first), bench.context(bench.cache))
    taken = int((bench.home / "cache" / "folders" / first / "bytes").read_text())
    bench.cache.limit = int(2.4 * taken)  # room for one, its archive and the folder
    payload = bench.payload(second)
    load_dataset(payload, bench.context(bench.cache))
    assert [path.name for path in (bench.home / "cache" / "folders").iterdir()] == [second]
    bench.cache.limit = taken
    bench.resident.clear()
    with pytest.raises(CacheFullError, match="raise NASDET_CACHE_BYTES"):
        bench.check(first)


def test_without_a_cache_it_is_a_sentence(bench: Bench) -> None:
    archive = bench.archive("one")
    payload = bench.payload(archive)
    with pytest.raises(WorkerError, match="no cache"):
        load_dataset(payload, bench.context(None))
