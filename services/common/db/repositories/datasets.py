"""Datasets and their immutable versions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.db.models import Dataset, DatasetVersion, JsonDict
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.errors import NotFoundError


class DatasetRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get_or_create(self, owner: Owner, name: str) -> tuple[Dataset, bool]:
        """The dataset of this name, and whether it is new."""
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
        """The version of this digest, made of a check's result where it is new."""
        found = self.session.scalars(
            select(DatasetVersion).where(
                DatasetVersion.dataset_id == dataset_id, DatasetVersion.digest == result["digest"]
            )
        ).one_or_none()
        if found is not None:
            return found
        version = DatasetVersion(
            **owner.columns(),
            dataset_id=dataset_id,
            digest=result["digest"],
            manifest=result["manifest"],
            class_names=result["class_names"],
            splits=result["splits"],
            split_names=result["split_names"],
            report=result["report"],
        )
        self.session.add(version)
        self.session.flush()
        EventRepository(self.session).add(
            "dataset_version.created", owner, data={"id": version.id, "digest": version.digest}
        )
        return version
