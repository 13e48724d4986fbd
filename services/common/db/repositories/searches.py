"""Searches: what was asked for, and the stage it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import CursorResult, Update, bindparam, func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Dataset, Job, JsonDict, Search, SearchTally
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import Asked, take_turns
from services.common.db.settle import bump
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
    cloned_from: int | None = None
    wall_seconds: float | None = None  # the search ends so long after its submission at the latest


_REVISION = (
    select(SearchTally.revision)
    .join(Search, Search.id == SearchTally.search_id)
    .where(Search.id == bindparam("search_id"), Search.project_id == bindparam("project_id"))
)
_REVISIONS_OF_PAGE = (
    select(Search.id, SearchTally.revision)
    .join(SearchTally, SearchTally.search_id == Search.id)
    .where(Search.project_id == bindparam("project_id"), Search.id > bindparam("after"))
    .order_by(Search.id)
    .limit(bindparam("most"))
)


def revision_of(project_id: int, search_id: int) -> Asked:
    """How often a search has changed; no row where the project has no such search."""
    return Asked(_REVISION, {"project_id": project_id, "search_id": search_id})


def revisions_of_page(project_id: int, after: int, limit: int) -> Asked:
    """(id, revision) of the searches of a page."""
    return Asked(_REVISIONS_OF_PAGE, {"project_id": project_id, "after": after, "most": limit})


class SearchRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def create(self, owner: Owner, new: NewSearch) -> tuple[Search, bool]:
        """Submit a search; an idempotency key that came before returns that search, and False."""
        if new.idempotency_key is not None:
            take_turns(self.session, "search", owner.project_id, new.idempotency_key)
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
            deadline_at=None if new.wall_seconds is None else db_now() + new.wall_seconds,
        )
        self.session.add(search)
        self.session.flush()
        self.session.add(SearchTally(search_id=search.id, revision=0, share=self._least_share(owner.project_id)))
        self.session.flush()
        EventRepository(self.session).add(
            "search.submitted",
            owner,
            search_id=search.id,
            data={"name": new.name, "seed": new.seed, "cloned_from": new.cloned_from},
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

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> list[tuple[Search, str]]:
        """Searches in order of id, after the cursor, each with its dataset's name."""
        rows = self.session.execute(
            select(Search, Dataset.name)
            .join(Dataset, Dataset.id == Search.dataset_id)
            .where(Search.project_id == project_id, Search.id > after)
            .order_by(Search.id)
            .limit(limit)
        )
        return [(row[0], row[1]) for row in rows]

    def revisions(self, project_id: int, *, after: int = 0, limit: int = 100) -> list[tuple[int, int]]:
        """(id, revision) of a page."""
        rows = self.session.execute(*revisions_of_page(project_id, after, limit))
        return [(row[0], row[1]) for row in rows]

    def _least_share(self, project_id: int, *, without: int = 0) -> float:
        """Who joins begins level with who has had least: neither owed the past of the others, nor ahead of them."""
        least = self.session.scalar(
            select(func.min(SearchTally.share))
            .join(Search, Search.id == SearchTally.search_id)
            .where(
                Search.project_id == project_id,
                Search.id != without,
                Search.state == SearchState.RUNNING,
                Search.paused_at.is_(None),
            )
        )
        return float(least or 0.0)

    def pause(self, search_id: int, reason: str = "paused on request") -> Search:
        """Hand out nothing more of a running search; what is running goes on to its end. Again changes nothing."""
        changed = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING, Search.paused_at.is_(None))
            .values(paused_at=db_now(), reason=reason)
        )
        return self._held_or_not(search_id, changed, "search.paused", {"reason": reason})

    def resume(self, search_id: int) -> Search:
        """Go on with a paused search; its jobs are rung for again. Again changes nothing."""
        changed = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING, Search.paused_at.is_not(None))
            .values(paused_at=None, reason=None)
        )
        search = self._held_or_not(search_id, changed, "search.resumed", {})
        if changed:
            self._change(update(Job).where(Job.search_id == search_id).values(rung_at=None))
            self.level_share(search)
        return search

    def level_share(self, search: Search) -> None:
        """Who comes back may not make up for the time away."""
        least = self._least_share(search.project_id, without=search.id)
        self._change(
            update(SearchTally).where(SearchTally.search_id == search.id, SearchTally.share < least).values(share=least)
        )

    def _held_or_not(self, search_id: int, changed: int, kind: str, data: JsonDict) -> Search:
        search = self.get(search_id)
        if changed:
            EventRepository(self.session).add(kind, Owner.of(search), search_id=search_id, data=data)
        elif search.state is not SearchState.RUNNING:
            what = kind.partition(".")[2]
            raise ConflictError(f"search {search_id} is {search.state}; only a running search can be {what}")
        return search

    def set_priority(self, search_id: int, priority: int, jobs_of_one: int) -> Search:
        """Change what goes first, for the jobs that are queued already too (`PRIORITIES_OF_ONE_SEARCH`)."""
        # Held first: whoever changes it at the same moment waits, and reckons from our number.
        held = select(Search).where(Search.id == search_id).with_for_update(key_share=True)
        search = self.session.scalars(held, execution_options={"populate_existing": True}).one_or_none()
        if search is None:
            raise NotFoundError(f"there is no search {search_id}")
        by = (priority - search.priority) * jobs_of_one
        if by == 0:
            return search
        self._change(update(Search).where(Search.id == search_id).values(priority=priority))
        self._change(update(Job).where(Job.search_id == search_id).values(priority=Job.priority + by))
        data = {"from": search.priority, "to": priority}
        EventRepository(self.session).add("search.priority", Owner.of(search), search_id=search_id, data=data)
        return self.get(search_id)

    def bump(self, search_id: int) -> None:
        """Every visible change raises the revision: it is the ETag."""
        bump(self.session, search_id)

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
            .values(stage=stage, stage_times=times)
        )
        EventRepository(self.session).add(
            "stage.entered", Owner.of(search), search_id=search_id, data={"stage": stage.value}
        )
        self.session.flush()
        self.get(search_id)

    def set(self, search_id: int, **columns: object) -> None:
        """Set plain columns (dataset_version_id, supernet_id, baseline_supernet_id, exhausted)."""
        self._change(update(Search).where(Search.id == search_id).values(**columns))
        bump(self.session, search_id)
        self.get(search_id)

    def succeed(self, search_id: int) -> bool:
        """running → succeeded; False when it was not running. Other ends: JobRepository.end_search."""
        changed = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING)
            .values(state=SearchState.SUCCEEDED, finished_at=db_now())
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
