"""A search on an uploaded dataset: every job is told the archive, and a new upload changes nothing for it."""

from __future__ import annotations

from services.common.db.repositories import ArtifactRepository, DatasetRepository, TokenRepository
from services.common.db.repositories.datasets import version_archive_owner
from services.common.db.states import JobKind, SearchState
from tests.support.searches import Installation
from tests.support.stores import digest_of

OLD, NEW = digest_of("old archive"), digest_of("new archive")


def upload(installation: Installation, digest: str) -> None:
    with installation.database.write_session() as session:
        owner = TokenRepository(session).ensure_owner("operator")
        DatasetRepository(session).set_archive(owner, "cells", digest, 1000)


def check_job(installation: Installation) -> dict[str, object]:
    (job,) = installation.jobs(JobKind.CHECK_DATASET)
    return dict(job.payload)


def test_the_archive_of_the_check_stays_the_searchs_own(installation: Installation) -> None:
    upload(installation, OLD)
    installation.submit()
    installation.step()
    assert check_job(installation)["archive"] == OLD
    upload(installation, NEW)
    with installation.database.write_session() as session:
        assert DatasetRepository(session).drop_replaced_archives() == 0  # the check needs it
    installation.step()
    assert check_job(installation)["archive"] == OLD
    installation.run()
    assert installation.state() is SearchState.SUCCEEDED
    others = [job for job in installation.jobs() if job.kind is not JobKind.CHECK_DATASET]
    assert others
    assert {job.payload["archive"] for job in others} == {OLD}
    with installation.database.write_session() as session:
        assert DatasetRepository(session).drop_replaced_archives() == 1
        assert [name.split(":")[0] for name in ArtifactRepository(session).references(OLD)] == ["dataset_version"]
        version = DatasetRepository(session).get_version(1)
        assert version.archive == OLD
        assert ArtifactRepository(session).references(OLD) == [version_archive_owner(version.id)]


def test_a_folder_needs_no_archive(installation: Installation) -> None:
    installation.submit()
    installation.run()
    assert all("archive" not in job.payload for job in installation.jobs())
