"""Rules of datasets: only names that the operator made known to the installation exist."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.datasets.schemas import DatasetRead, DatasetVersionRead
from services.api.state import ApiState
from services.common.db.models import Dataset
from services.common.db.repositories import DatasetRepository, Owner
from services.common.errors import NotFoundError


def register(api: ApiState, caller: Caller, name: str) -> tuple[DatasetRead, bool]:
    with api.database.write_session() as session:
        dataset, new = ensure(api, session, caller.owner, name)
        return read(session, dataset), new


def ensure(api: ApiState, session: Session, owner: Owner, name: str) -> tuple[Dataset, bool]:
    """The dataset of a name that the installation knows."""
    if not (api.settings.datasets / f"{name}.json").is_file():
        known = ", ".join(installed(api)) or "none yet"
        raise NotFoundError(
            f"this installation knows no dataset '{name}' (known: {known}); make its folder known with "
            "`nasdet data register DIR` or `nasdet up --data DIR`"
        )
    return DatasetRepository(session).get_or_create(owner, name)


def installed(api: ApiState) -> list[str]:
    """Names the operator registered; their paths are nobody's business here."""
    if not api.settings.datasets.is_dir():
        return []
    return sorted(path.stem for path in api.settings.datasets.glob("*.json") if not path.name.startswith("."))


def get(api: ApiState, caller: Caller, name: str) -> DatasetRead:
    with api.database.read_session() as session:
        return read(session, DatasetRepository(session).by_name(caller.project_id, name))


def page(api: ApiState, caller: Caller, after: int, limit: int) -> Sequence[DatasetRead]:
    with api.database.read_session() as session:
        rows = DatasetRepository(session).page(caller.project_id, after=after, limit=limit)
        return [read(session, dataset) for dataset in rows]


def read(session: Session, dataset: Dataset) -> DatasetRead:
    versions = [
        DatasetVersionRead(
            id=version.id,
            digest=version.digest,
            created_at=version.created_at,
            class_names=version.class_names,
            splits=version.splits,
            split_names=version.split_names,
            report=version.report,
        )
        for version in DatasetRepository(session).versions(dataset.id)
    ]
    return DatasetRead(id=dataset.id, name=dataset.name, created_at=dataset.created_at, versions=versions)
