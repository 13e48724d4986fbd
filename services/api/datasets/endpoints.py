"""POST and GET of datasets."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.api.access import Reader, Writer
from services.api.datasets import service
from services.api.datasets.schemas import DatasetCreate, DatasetRead
from services.api.fields import Cursor, Limit, Page, PathName, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=201, responses=refusals(404))
def create_dataset(body: DatasetCreate, response: Response, api: Api, caller: Writer) -> DatasetRead:
    """Make a dataset of the installation known to the platform; 200 when it already was."""
    dataset, new = service.register(api, caller, body.name)
    if not new:
        response.status_code = 200
    return dataset


@router.get("", responses=refusals())
def list_datasets(api: Api, caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Page[DatasetRead]:
    """Datasets with their versions."""
    items = list(service.page(api, caller, position(cursor), limit))
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.get("/{name}", responses=refusals(404))
def get_dataset(name: PathName, api: Api, caller: Reader) -> DatasetRead:
    """One dataset with its versions and what their checks found."""
    return service.get(api, caller, name)
