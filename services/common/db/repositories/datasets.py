"""Datasets and their immutable versions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, String, cast, delete, literal, select, update
from sqlalchemy.orm import Session

from services.common.db.models import ArtifactReference, Dataset, DatasetVersion, Job, JsonDict
from services.common.db.repositories.artifacts import ArtifactRepository
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.states import OPEN_STATES, JobKind
from services.common.errors import NotFoundError


def archive_owner(dataset_id: int) -> str:
    """The reference by which a dataset keeps its archive."""
    return f"dataset:{dataset_id}:archive"


def version_archive_owner(version_id: int) -> str:
    """The reference by which a version keeps the archive that it was read from."""
    return f"dataset_version:{version_id}:archive"


def _archive_owner_of_row() -> ColumnElement[str]:
    """`archive_owner` of a row of datasets."""
    return literal("dataset:") + cast(Dataset.id, String) + literal(":archive")


class DatasetRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get_or_create(self, owner: Owner, name: str) -> tuple[Dataset, bool]:
        """The dataset of this name, and whether it is new."""
        found = self.find(owner.project_id, name)
        if found is not None:
            return found, False
        take_turns(self.session, "dataset", owner.project_id, name)
        found = self.find(owner.project_id, name)
        if found is not None:
            return found, False
        dataset = Dataset(**owner.columns(), name=name)
        self.session.add(dataset)
        self.session.flush()
        EventRepository(self.session).add("dataset.registered", owner, data={"name": name})
        return dataset, True

    def find(self, project_id: int, name: str) -> Dataset | None:
        return self.session.scalars(
            select(Dataset).where(Dataset.project_id == project_id, Dataset.name == name)
        ).one_or_none()

    def archived_names(self, project_id: int) -> Sequence[str]:
        """Datasets that were uploaded."""
        return self.session.scalars(
            select(Dataset.name).where(Dataset.project_id == project_id, Dataset.archive.is_not(None))
        ).all()

    def by_name(self, project_id: int, name: str) -> Dataset:
        found = self.find(project_id, name)
        if found is None:
            raise NotFoundError(f"there is no dataset '{name}'; register it first")
        return found

    def get(self, dataset_id: int) -> Dataset:
        found = self.session.get(Dataset, dataset_id)
        if found is None:
            raise NotFoundError(f"there is no dataset {dataset_id}")
        return found

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> Sequence[Dataset]:
        return self.session.scalars(
            select(Dataset)
            .where(Dataset.project_id == project_id, Dataset.id > after)
            .order_by(Dataset.id)
            .limit(limit)
        ).all()

    def set_archive(self, owner: Owner, name: str, digest: str, size: int) -> bool:
        """An archive has arrived and been checked: searches that begin from now on use it. False when they did already.

        The one before it is let go by `drop_replaced_archives`, when no check needs it any more.
        """
        artifacts = ArtifactRepository(self.session)
        artifacts.arrived(digest, size)
        dataset, _ = self.get_or_create(owner, name)
        if dataset.archive == digest:
            return False
        artifacts.refer(digest, owner, archive_owner(dataset.id))
        self.session.execute(
            update(Dataset).where(Dataset.id == dataset.id).values(archive=digest),
            execution_options={"synchronize_session": False},
        )
        EventRepository(self.session).add("dataset.archived", owner, data={"name": name, "archive": digest})
        return True

    def archive_for_check(self, dataset_id: int) -> str | None:
        """The archive that a check made in this transaction works on; it is kept until that job has ended.

        Holds the row: whoever puts another archive in its place waits, and then sees the job.
        """
        return self.session.scalars(
            select(Dataset.archive).where(Dataset.id == dataset_id).with_for_update(read=True)
        ).one()

    def drop_replaced_archives(self) -> int:
        """Let go of archives that their dataset does not point to and no open check needs; returns how many.

        Versions made of them keep them by references of their own.
        """
        rows = self.session.execute(
            select(ArtifactReference, Dataset.archive)
            .join(Dataset, ArtifactReference.owner == _archive_owner_of_row())
            .where(ArtifactReference.digest != Dataset.archive)
            .order_by(Dataset.id)
            .with_for_update(key_share=True, of=Dataset)
        ).all()
        if not rows:
            return 0
        checks = self.session.scalars(
            select(Job.payload).where(Job.kind == JobKind.CHECK_DATASET, Job.state.in_(OPEN_STATES))
        )
        needed = {payload.get("archive") for payload in checks}
        dropped = [reference.id for reference, _ in rows if reference.digest not in needed]
        gone = self.session.execute(
            delete(ArtifactReference).where(ArtifactReference.id.in_(dropped)).returning(ArtifactReference.id),
            execution_options={"synchronize_session": False},
        )
        return len(gone.all())

    def versions(self, dataset_id: int) -> Sequence[DatasetVersion]:
        return self.session.scalars(
            select(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id).order_by(DatasetVersion.id)
        ).all()

    def get_version(self, version_id: int) -> DatasetVersion:
        found = self.session.get(DatasetVersion, version_id)
        if found is None:
            raise NotFoundError(f"there is no dataset version {version_id}")
        return found

    def add_version(self, owner: Owner, dataset_id: int, result: JsonDict) -> DatasetVersion:
        """The version of this digest, made of a check's result where it is new.

        A version that was read from an archive keeps it as long as there is the version.
        """
        take_turns(self.session, "dataset_version", dataset_id, result["digest"])
        found = self.session.scalars(
            select(DatasetVersion).where(
                DatasetVersion.dataset_id == dataset_id, DatasetVersion.digest == result["digest"]
            )
        ).one_or_none()
        archive: str | None = result.get("archive")
        if found is not None:
            return found if archive is None else self._with_archive(found, archive)
        version = DatasetVersion(
            **owner.columns(),
            dataset_id=dataset_id,
            digest=result["digest"],
            manifest=result["manifest"],
            archive=archive,
            class_names=result["class_names"],
            splits=result["splits"],
            split_names=result["split_names"],
            report=result["report"],
        )
        self.session.add(version)
        self.session.flush()
        if archive is not None:
            ArtifactRepository(self.session).take(archive, owner, version_archive_owner(version.id))
        EventRepository(self.session).add(
            "dataset_version.created", owner, data={"id": version.id, "digest": version.digest}
        )
        return version

    def _with_archive(self, version: DatasetVersion, archive: str) -> DatasetVersion:
        """The same files, read from a folder before: now there is an archive that holds them."""
        if version.archive is not None:
            return version
        ArtifactRepository(self.session).take(archive, Owner.of(version), version_archive_owner(version.id))
        self.session.execute(
            update(DatasetVersion).where(DatasetVersion.id == version.id).values(archive=archive),
            execution_options={"synchronize_session": False},
        )
        return self.get_version(version.id)
