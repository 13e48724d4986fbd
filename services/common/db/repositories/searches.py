"""Searches: what was asked for, and the stage it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import CursorResult, Update, func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import JsonDict, Search
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.states import SearchState, Stage
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSearch:
    name: str
    spec: JsonDict
    seed: int
    dataset_id: int
    request_digest: str
    priority: int = 0
    idempotency_key: str | None = None


class SearchRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def create(self, owner: Owner, new: NewSearch) -> tuple[Search, bool]:
        """Submit a search; an idempotency key that came before returns that search, and False."""
        if new.idempotency_key is not None:
            earlier = self.session.scalars(
                select(Search).where(
                    Search.project_id == owner.project_id, Search.idempotency_key == new.idempotency_key
                )
            ).one_or_none()
            if earlier is not None:
                return self._same(earlier, new), False
        search = Search(
            **owner.columns(),
            name=new.name,
            spec=new.spec,
            seed=new.seed,
            priority=new.priority,
            dataset_id=new.dataset_id,
            idempotency_key=new.idempotency_key,
            request_digest=new.request_digest,
        )
        self.session.add(search)
        self.session.flush()
        EventRepository(self.session).add(
            "search.submitted", owner, search_id=search.id, data={"name": new.name, "seed": new.seed}
        )
        self.begin_stage(search.id, Stage.CHECK)
        return self.get(search.id), True

    def _same(self, earlier: Search, new: NewSearch) -> Search:
        if earlier.request_digest != new.request_digest:
            raise ConflictError(
                f"the idempotency key '{new.idempotency_key}' was used for search {earlier.id} with another "
                "body; send the same body again, or use another key"
            )
        return earlier

    def get(self, search_id: int) -> Search:
        """The search as it is in the database now."""
        search = self.session.get(Search, search_id, populate_existing=True)
        if search is None:
            raise NotFoundError(f"there is no search {search_id}")
        return search

    def running(self) -> Sequence[Search]:
        return self.session.scalars(
            select(Search).where(Search.state == SearchState.RUNNING).order_by(Search.priority.desc(), Search.id)
        ).all()

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> Sequence[Search]:
        return self.session.scalars(
            select(Search).where(Search.project_id == project_id, Search.id > after).order_by(Search.id).limit(limit)
        ).all()

    def bump(self, search_id: int) -> None:
        """Every visible change raises the revision: it is the ETag."""
        self._change(update(Search).where(Search.id == search_id).values(revision=Search.revision + 1))

    def begin_stage(self, search_id: int, stage: Stage) -> None:
        """Enter a stage: close the times of the one before, open its own, tell it."""
        search = self.get(search_id)
        now = float(self.session.scalar(select(db_now())) or 0.0)
        times = {name: list(pair) for name, pair in search.stage_times.items()}
        for pair in times.values():
            if pair[1] is None:
                pair[1] = now
        if stage is not Stage.DONE:
            times[stage.value] = [now, None]
        self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING)
            .values(stage=stage, stage_times=times, revision=Search.revision + 1)
        )
        EventRepository(self.session).add(
            "stage.entered", Owner.of(search), search_id=search_id, data={"stage": stage.value}
        )
        self.session.flush()
        self.get(search_id)

    def set(self, search_id: int, **columns: object) -> None:
        """Set plain columns (dataset_version_id, supernet_id, baseline_supernet_id, exhausted)."""
        self._change(update(Search).where(Search.id == search_id).values(**columns, revision=Search.revision + 1))
        self.get(search_id)

    def succeed(self, search_id: int) -> bool:
        """running → succeeded; False when it was not running. Other ends: JobRepository.end_search."""
        changed = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING)
            .values(state=SearchState.SUCCEEDED, finished_at=db_now(), revision=Search.revision + 1)
        )
        search = self.get(search_id)
        if changed == 1:
            EventRepository(self.session).add("search.succeeded", Owner.of(search), search_id=search_id)
        return changed == 1

    def count(self, project_id: int) -> int:
        return self.session.scalar(select(func.count()).select_from(Search).where(Search.project_id == project_id)) or 0

    def _change(self, statement: Update) -> int:
        self.session.flush()
        result = self.session.execute(statement.execution_options(synchronize_session=False))
        assert isinstance(result, CursorResult)  # an UPDATE without RETURNING
        return result.rowcount
