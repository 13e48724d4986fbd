"""The schema. The database is the queue of record (docs/adr): every claim, result and event is a row.

Every row names its project and its creator. All `*_at` columns are seconds since 1970-01-01 UTC by the
database's clock (`types.db_now`). JSON columns hold JSON values only; genotypes are lists of ints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    Boolean,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from services.common.db.states import FinalistRole, JobKind, SearchState, Stage, WorkerMode, WorkState
from services.common.db.types import Identifier, Seconds, db_now

JsonDict = dict[str, Any]
Json = JSON(none_as_null=True)  # None is SQL's NULL, not the JSON text null


def _enum(cls: type[Any], name: str, *, check: bool = True) -> Enum:
    """States are stored as their text with a CHECK. SQLite cannot add one to a column that came later."""
    return Enum(
        cls,
        name=name,
        native_enum=False,
        create_constraint=check,
        length=20,
        values_callable=lambda enum: [member.value for member in enum],
    )


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {JsonDict: Json, list[int]: Json, list[str]: Json, list[float]: Json}  # noqa: RUF012


class Project(Base):
    __tablename__ = "project"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[float] = mapped_column(Seconds, server_default=db_now())


class Account(Base):
    """A person or a machine that may do something in a project."""

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[float] = mapped_column(Seconds, server_default=db_now())


class Owned:
    """Columns of every row that belongs to a project."""

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    created_by: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[float] = mapped_column(Seconds, server_default=db_now())


class Token(Owned, Base):
    """`digest` is the SHA-256 of the token; the token itself is nowhere in the database."""

    __tablename__ = "token"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)  # read, write, worker, admin
    last_used_at: Mapped[float | None] = mapped_column(Seconds)
    revoked_at: Mapped[float | None] = mapped_column(Seconds)


class Dataset(Owned, Base):
    """A name; where the files lie is the installation's business (never a client's path)."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(200))
    archive: Mapped[str | None] = mapped_column(String(64))  # uploaded: the artifact; None: a folder of the server


class Upload(Owned, Base):
    """An archive on its way: `received` bytes of `size` are on the disk; whoever was cut off goes on from there."""

    __tablename__ = "upload"

    name: Mapped[str] = mapped_column(String(200))  # of the dataset it becomes
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 that the whole must have
    size: Mapped[int] = mapped_column(Identifier)
    received: Mapped[int] = mapped_column(Identifier, default=0)
    draft: Mapped[str] = mapped_column(String(64))  # name of the file that grows, chosen by us
    finished_at: Mapped[float | None] = mapped_column(Seconds)


class DatasetVersion(Owned, Base):
    """An immutable manifest: hash of each file, class map, split lists. `digest` is the manifest's hash."""

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset_id", "digest"),)

    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    digest: Mapped[str] = mapped_column(String(64))
    manifest: Mapped[str] = mapped_column(String(64))  # artifact that holds the manifest's JSON
    archive: Mapped[str | None] = mapped_column(String(64))  # artifact with the pictures, where they were uploaded
    class_names: Mapped[list[str]] = mapped_column(Json)
    splits: Mapped[JsonDict] = mapped_column(Json)  # {"train": images, "search": …, "report": …, "final": …}
    split_names: Mapped[JsonDict] = mapped_column(Json)  # {"search": "val", "report": "test", …}
    report: Mapped[JsonDict] = mapped_column(Json)  # what the check found


class Supernet(Owned, Base):
    """Trained weights known by `key` = hash of (spaces, dataset version, recipe, seed); a single path too."""

    __tablename__ = "supernet"
    __table_args__ = (UniqueConstraint("project_id", "key"),)

    key: Mapped[str] = mapped_column(String(64))
    state: Mapped[WorkState] = mapped_column(_enum(WorkState, "supernet_state"), default=WorkState.QUEUED)
    description: Mapped[JsonDict] = mapped_column(Json)  # what the key is the hash of
    dataset_version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id"))
    weights: Mapped[str | None] = mapped_column(String(64))  # artifact = the supernet digest
    result: Mapped[JsonDict | None] = mapped_column(Json)  # steps, losses, and AP where it was measured
    reason: Mapped[str | None] = mapped_column(Text)


class SearchTally(Base):
    """What is counted for a search. A row of its own, so that counting never waits for a step (settle.py)."""

    __tablename__ = "search_tally"

    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(Identifier, default=0)  # raised by every change that shows: the ETag
    share: Mapped[float] = mapped_column(Double, default=0.0)  # device seconds had, for a fair share between searches


class Search(Owned, Base):
    __tablename__ = "search"
    __table_args__ = (UniqueConstraint("project_id", "idempotency_key"), Index(None, "state"))

    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[JsonDict] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(Identifier)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    state: Mapped[SearchState] = mapped_column(_enum(SearchState, "search_state"), default=SearchState.RUNNING)
    stage: Mapped[Stage] = mapped_column(_enum(Stage, "search_stage"), default=Stage.CHECK)
    reason: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_digest: Mapped[str] = mapped_column(String(64))  # a key used again with another body is refused
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    dataset_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    supernet_id: Mapped[int | None] = mapped_column(ForeignKey("supernet.id"))
    baseline_supernet_id: Mapped[int | None] = mapped_column(ForeignKey("supernet.id"))
    exhausted: Mapped[bool] = mapped_column(Boolean, default=False)  # nothing more will be proposed
    stage_times: Mapped[JsonDict] = mapped_column(Json, default=dict)  # {"supernet": [start, end], …}
    paused_at: Mapped[float | None] = mapped_column(Seconds)  # running, but nothing of it is handed out
    deadline_at: Mapped[float | None] = mapped_column(Seconds)  # budget.wall_hours: ends then at the latest
    retries: Mapped[int] = mapped_column(Integer, default=0)  # how often what failed was begun anew
    finished_at: Mapped[float | None] = mapped_column(Seconds)

    if TYPE_CHECKING:
        revision: Mapped[int]


Search.revision = column_property(
    select(SearchTally.revision)
    .where(SearchTally.search_id == Search.id)
    .correlate_except(SearchTally)
    .scalar_subquery()
)


class Trial(Owned, Base):
    """One candidate of one search. `number` is the order in which it was proposed."""

    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("search_id", "number"),
        UniqueConstraint("search_id", "architecture_id"),
        Index(None, "search_id", "state"),
        Index(None, "job_id"),
        Index("ix_trial_ranking", "search_id", "protocol", "value"),
        Index(None, "finished_at"),
    )

    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"))
    number: Mapped[int] = mapped_column(Integer)
    genotype: Mapped[list[int]] = mapped_column(Json)
    architecture_id: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(20))  # random, mutation, crossover
    parents: Mapped[list[int]] = mapped_column(Json)  # trial numbers
    generation: Mapped[int] = mapped_column(Integer)
    macs: Mapped[int] = mapped_column(Identifier)  # whole detector at the supernet's image size
    params: Mapped[int] = mapped_column(Identifier)
    counted: Mapped[JsonDict] = mapped_column(Json)  # the number each limit was tested against
    state: Mapped[WorkState] = mapped_column(_enum(WorkState, "trial_state"), default=WorkState.QUEUED)
    reason: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))  # the job that holds or held it last
    crashes: Mapped[int] = mapped_column(Integer, default=0)  # charged: it was alone when its executor died
    value: Mapped[float | None] = mapped_column(Double)  # the objective, as told to the algorithm
    protocol: Mapped[str | None] = mapped_column(String(64))  # what `value` may be compared under (Standing)
    seconds: Mapped[JsonDict | None] = mapped_column(Json)  # how long each part of the evaluation took
    result_digest: Mapped[str | None] = mapped_column(String(64))  # of the accepted payload
    finished_at: Mapped[float | None] = mapped_column(Seconds)


class Standing(Base):
    """One protocol under which trials of a search were scored, and how many. Only one protocol is compared."""

    __tablename__ = "standing"

    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"), primary_key=True)
    protocol: Mapped[str] = mapped_column(String(64), primary_key=True)  # hash of protocol_hash and fidelity
    images: Mapped[int] = mapped_column(Identifier)  # of the fidelity: the fullest one counts
    trials: Mapped[int] = mapped_column(Identifier)


class FrontMember(Base):
    """A trial that no other of the same search and protocol beats in both AP and MACs; kept as results land."""

    __tablename__ = "front_member"
    __table_args__ = (Index(None, "search_id", "protocol"),)

    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id"), primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"))
    protocol: Mapped[str] = mapped_column(String(64))
    number: Mapped[int] = mapped_column(Integer)
    macs: Mapped[int] = mapped_column(Identifier)
    value: Mapped[float] = mapped_column(Double)


class Finalist(Owned, Base):
    """A detector trained at the end: the winner, the baseline or the random control, once per seed."""

    __tablename__ = "finalist"
    __table_args__ = (UniqueConstraint("search_id", "role", "rank", "seed"),)

    search_id: Mapped[int] = mapped_column(ForeignKey("search.id"))
    role: Mapped[FinalistRole] = mapped_column(_enum(FinalistRole, "finalist_role"))
    rank: Mapped[int] = mapped_column(Integer)  # 0 = best of its role
    seed: Mapped[int] = mapped_column(Identifier)
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trial.id"))
    genotype: Mapped[list[int]] = mapped_column(Json)
    architecture_id: Mapped[str] = mapped_column(String(64))
    macs: Mapped[int] = mapped_column(Identifier)
    params: Mapped[int] = mapped_column(Identifier)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    state: Mapped[WorkState] = mapped_column(_enum(WorkState, "finalist_state"), default=WorkState.QUEUED)
    reason: Mapped[str | None] = mapped_column(Text)
    weights: Mapped[str | None] = mapped_column(String(64))
    result: Mapped[JsonDict | None] = mapped_column(Json)
    finished_at: Mapped[float | None] = mapped_column(Seconds)


class Worker(Owned, Base):
    """One slot of one supervisor. A new start under the same name is another `incarnation`."""

    __tablename__ = "worker"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(200))
    incarnation: Mapped[str] = mapped_column(String(64))
    device_class: Mapped[str] = mapped_column(String(40))  # cpu, cuda
    device_name: Mapped[str] = mapped_column(String(200))
    facts: Mapped[JsonDict] = mapped_column(Json)  # versions, threads, memory
    resident: Mapped[list[str]] = mapped_column(Json, default=list)
    last_seen_at: Mapped[float] = mapped_column(Seconds, server_default=db_now())
    mode: Mapped[WorkerMode] = mapped_column(_enum(WorkerMode, "worker_mode", check=False), default=WorkerMode.ACTIVE)
    gone_at: Mapped[float | None] = mapped_column(Seconds)  # said goodbye, or was not seen for long: not listed


class Job(Owned, Base):
    """A unit of a worker's work, held by a lease. `attempt` is counted at claim and is the fencing token."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("search_id", "purpose"),
        Index(None, "state", "priority"),
        Index(None, "lease_expires_at"),
    )

    search_id: Mapped[int | None] = mapped_column(ForeignKey("search.id"))
    kind: Mapped[JobKind] = mapped_column(_enum(JobKind, "job_kind"))
    purpose: Mapped[str] = mapped_column(String(100))  # unique in its search: no step makes a job twice
    state: Mapped[WorkState] = mapped_column(_enum(WorkState, "job_state"), default=WorkState.QUEUED)
    reason: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    device_class: Mapped[str] = mapped_column(String(40), default="any")
    payload: Mapped[JsonDict] = mapped_column(Json)
    resident: Mapped[str | None] = mapped_column(String(64))  # a worker that holds this hash is preferred
    supernet_id: Mapped[int | None] = mapped_column(ForeignKey("supernet.id"))
    split_from: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    charged: Mapped[int] = mapped_column(Integer, default=0)  # crashes since a checkpoint advanced
    worker_id: Mapped[int | None] = mapped_column(ForeignKey("worker.id"))
    lease_expires_at: Mapped[float | None] = mapped_column(Seconds)
    progress: Mapped[JsonDict | None] = mapped_column(Json)
    checkpoint: Mapped[str | None] = mapped_column(String(64))  # artifact to resume from
    checkpoint_step: Mapped[int] = mapped_column(Identifier, default=0)
    result: Mapped[JsonDict | None] = mapped_column(Json)
    result_digest: Mapped[str | None] = mapped_column(String(64))
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    claimed_at: Mapped[float | None] = mapped_column(Seconds)
    rung_at: Mapped[float | None] = mapped_column(Seconds)  # when a doorbell was last sent for it
    finished_at: Mapped[float | None] = mapped_column(Seconds)


class JobAttempt(Owned, Base):
    """One claim of one job, and the end of its log (the last 64 kB)."""

    __tablename__ = "job_attempt"
    __table_args__ = (UniqueConstraint("job_id", "attempt"), Index(None, "outcome"))

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    worker_id: Mapped[int] = mapped_column(ForeignKey("worker.id"))
    # succeeded, failed, infeasible, cancelled, lost; crash, hang, timeout, graceful; lease_expired
    outcome: Mapped[str | None] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(Text)
    log: Mapped[str] = mapped_column(Text, default="")
    ended_at: Mapped[float | None] = mapped_column(Seconds)


class Measurement(Owned, Base):
    """One measured number, traceable to what it was measured with. Only one protocol compares."""

    __tablename__ = "measurement"
    __table_args__ = (
        Index(None, "search_id", "metric"),
        Index(None, "trial_id"),
        Index(None, "architecture_id"),
    )

    search_id: Mapped[int | None] = mapped_column(ForeignKey("search.id"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trial.id"))
    finalist_id: Mapped[int | None] = mapped_column(ForeignKey("finalist.id"))
    supernet_id: Mapped[int | None] = mapped_column(ForeignKey("supernet.id"))
    architecture_id: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str] = mapped_column(String(60))  # box_map, box_ap50, …
    split: Mapped[str] = mapped_column(String(40))  # the dataset's own name: val, test
    protocol_hash: Mapped[str] = mapped_column(String(64))
    fidelity: Mapped[JsonDict] = mapped_column(Json)  # {"images": …, "epochs": …}
    device_class: Mapped[str] = mapped_column(String(40))
    value: Mapped[float] = mapped_column(Double)
    standard_error: Mapped[float | None] = mapped_column(Double)
    jackknife: Mapped[list[float] | None] = mapped_column(Json)  # leave-one-group-out values
    dataset_version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id"))
    supernet_digest: Mapped[str | None] = mapped_column(String(64))  # weights measured or started from
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int] = mapped_column(Integer)


class Artifact(Base):
    """A file known by the SHA-256 of its bytes. The hash alone grants no access: a reference does."""

    __tablename__ = "artifact"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(Identifier)
    created_at: Mapped[float] = mapped_column(Seconds, server_default=db_now())


class ArtifactReference(Owned, Base):
    """Who needs an artifact: `owner` is e.g. "job:12:checkpoint". Without any reference the file may go."""

    __tablename__ = "artifact_reference"
    __table_args__ = (UniqueConstraint("project_id", "digest", "owner"), Index(None, "owner"))

    digest: Mapped[str] = mapped_column(ForeignKey("artifact.digest"))
    owner: Mapped[str] = mapped_column(String(120))


class Event(Owned, Base):
    """Append-only: the whole story of every search, job and trial, refused results included."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "search_id", "id"), Index(None, "job_id"), Index(None, "kind"))

    # "search.submitted", "job.claimed", "trial.succeeded", "result.refused", …
    kind: Mapped[str] = mapped_column(String(60))
    search_id: Mapped[int | None] = mapped_column(ForeignKey("search.id"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trial.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int | None] = mapped_column(Integer)
    data: Mapped[JsonDict] = mapped_column(Json, default=dict)


class Audit(Owned, Base):
    """One change that somebody asked for: `created_by` is who, `token_id` with what, `target` what was changed."""

    __tablename__ = "audit"

    token_id: Mapped[int] = mapped_column(ForeignKey("token.id"))
    action: Mapped[str] = mapped_column(String(60))  # "search.cancel", "token.create", …
    target: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[str] = mapped_column(String(64))
    data: Mapped[JsonDict] = mapped_column(Json, default=dict)
