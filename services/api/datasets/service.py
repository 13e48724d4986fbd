"""Rules of datasets: only names that the operator made known to the installation, or that were uploaded, exist."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.audit.change import change
from services.api.datasets.schemas import DatasetRead, DatasetVersionRead, SourceList, SourceRead
from services.api.state import ApiState
from services.common.dataset_sources import DatasetFolderError, folder_names, has_folder
from services.common.db.models import Dataset
from services.common.db.repositories import DatasetRepository, Owner
from services.common.errors import NotFoundError

MOST_NAMES = 20  # in one sentence


def register(api: ApiState, caller: Caller, name: str) -> tuple[DatasetRead, bool]:
    with change(api, caller, "dataset.register", f"dataset {name}") as made:
        dataset, new = ensure(api, made.session, caller.owner, name)
        if not new:
            made.nothing_changed()
        return read(made.session, dataset), new


def ensure(api: ApiState, session: Session, owner: Owner, name: str) -> tuple[Dataset, bool]:
    """The dataset of a name that the installation knows, or whose archive was uploaded."""
    datasets = DatasetRepository(session)
    uploaded = datasets.find(owner.project_id, name)
    if uploaded is not None and uploaded.archive is not None:
        return uploaded, False
    try:
        there = has_folder(api.settings, name)
    except DatasetFolderError as error:
        raise NotFoundError(str(error)) from error
    if not there:
        raise NotFoundError(
            f"this installation knows no dataset '{name}' (known: {_known(api, session, owner)}); make its folder "
            "known with `nasdet data register DIR` or `nasdet up --data DIR`, or send it with `nasdet data upload DIR`"
        )
    return datasets.get_or_create(owner, name)


def _known(api: ApiState, session: Session, owner: Owner) -> str:
    names = [source.name for source in _sources(api, session, owner.project_id)]
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "") or "none yet"


def sources(api: ApiState, caller: Caller) -> SourceList:
    with api.database.read_session() as session:
        return SourceList(items=_sources(api, session, caller.project_id))


def _sources(api: ApiState, session: Session, project_id: int) -> list[SourceRead]:
    """By name. An archive of a name wins over a folder."""
    kinds = {name: SourceRead(name=name, kind=kind) for name, kind in folder_names(api.settings).items()}
    for name in DatasetRepository(session).archived_names(project_id):
        kinds[name] = SourceRead(name=name, kind="archive")
    return [kinds[name] for name in sorted(kinds)]


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
            archive=version.archive,
            class_names=version.class_names,
            splits=version.splits,
            split_names=version.split_names,
            report=version.report,
        )
        for version in DatasetRepository(session).versions(dataset.id)
    ]
    return DatasetRead(
        id=dataset.id, name=dataset.name, created_at=dataset.created_at, archive=dataset.archive, versions=versions
    )
