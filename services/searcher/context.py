"""What every part of a step works with: one locked search, its session, and what follows from its specification."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from services.common.db.models import DatasetVersion, Job, Search
from services.common.db.repositories import (
    DatasetRepository,
    EventRepository,
    FinalistRepository,
    JobRepository,
    Owner,
    SearchRepository,
    SupernetRepository,
    TrialRepository,
    WorkerRepository,
)
from services.common.db.repositories.jobs import PRIORITIES_OF_ONE_SEARCH
from services.common.db.states import SearchState
from services.common.specification import ResolvedSearch, Specification, parse_specification, resolve_stored

# Jobs that others wait for go first. Evaluations come before a baseline that nobody has begun; the baseline's
# own training comes before all finalists, since some of them need it.
CHECK_PRIORITY = 60
SUPERNET_PRIORITY = 50
EVALUATE_PRIORITY = 40
BASELINE_PRIORITY = 35
FINALIST_PRIORITY = 30


@dataclass(frozen=True)
class StepContext:
    """One search inside one write transaction. Nothing in here outlives the step."""

    session: Session
    search: Search  # held here so that the session keeps it; repositories load it anew after each change
    lease_seconds: float = 30.0

    @property
    def search_id(self) -> int:
        return self.search.id

    @property
    def running(self) -> bool:
        return self.search.state is SearchState.RUNNING

    @property
    def paused(self) -> bool:
        return self.search.paused_at is not None

    @cached_property
    def owner(self) -> Owner:
        return Owner.of(self.search)

    @cached_property
    def searches(self) -> SearchRepository:
        return SearchRepository(self.session)

    @cached_property
    def jobs(self) -> JobRepository:
        return JobRepository(self.session, lease_seconds=self.lease_seconds)

    @cached_property
    def trials(self) -> TrialRepository:
        return TrialRepository(self.session)

    @cached_property
    def supernets(self) -> SupernetRepository:
        return SupernetRepository(self.session)

    @cached_property
    def finalists(self) -> FinalistRepository:
        return FinalistRepository(self.session)

    @cached_property
    def datasets(self) -> DatasetRepository:
        return DatasetRepository(self.session)

    @cached_property
    def workers(self) -> WorkerRepository:
        return WorkerRepository(self.session)

    @cached_property
    def specification(self) -> Specification:
        return parse_specification(self.search.spec)

    @cached_property
    def version(self) -> DatasetVersion:
        """Known from the end of the check on."""
        version_id = self.search.dataset_version_id
        if version_id is None:
            raise LookupError(f"search {self.search_id} has no dataset version before its data are checked")
        return self.datasets.get_version(version_id)

    @cached_property
    def resolved(self) -> ResolvedSearch:
        return resolve_stored(self.search.spec, len(self.version.class_names))

    def job(self, purpose: str) -> Job | None:
        """This search's own job of a purpose."""
        return next((job for job in self.jobs.of_search(self.search_id) if job.purpose == purpose), None)

    def priority(self, of_kind: int) -> int:
        return self.search.priority * PRIORITIES_OF_ONE_SEARCH + of_kind

    def fail(self, reason: str) -> None:
        """End the search; its open jobs end or are asked to stop."""
        self.jobs.end_search(self.search_id, SearchState.FAILED, reason)

    def event(self, kind: str, data: dict[str, object]) -> None:
        EventRepository(self.session).add(kind, self.owner, search_id=self.search_id, data=data)
