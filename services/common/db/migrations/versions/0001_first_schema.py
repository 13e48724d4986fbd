"""First schema: jobs as leases over trials, measurements as rows, owners on every row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.common.db.types import Identifier, db_now

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifact")),
    )
    op.create_table(
        "project",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("name", name=op.f("uq_project_name")),
    )
    op.create_table(
        "account",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_account_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_account_project_id_name")),
    )
    op.create_table(
        "artifact_reference",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_artifact_reference_created_by")),
        sa.ForeignKeyConstraint(["digest"], ["artifact.digest"], name=op.f("fk_artifact_reference_digest")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_artifact_reference_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_reference")),
        sa.UniqueConstraint(
            "project_id", "digest", "owner", name=op.f("uq_artifact_reference_project_id_digest_owner")
        ),
    )
    op.create_index(op.f("ix_artifact_reference_owner"), "artifact_reference", ["owner"], unique=False)

    op.create_table(
        "dataset",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_dataset_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_dataset_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_dataset_project_id_name")),
    )
    op.create_table(
        "token",
        sa.Column("account_id", Identifier, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_token_account_id")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_token_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_token_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_token_digest")),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("device_class", sa.String(length=40), nullable=False),
        sa.Column("device_name", sa.String(length=200), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("resident", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("last_seen_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_worker_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_worker_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_worker_project_id_name")),
    )
    op.create_table(
        "dataset_version",
        sa.Column("dataset_id", Identifier, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("class_names", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("splits", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("split_names", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_dataset_version_created_by")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_version_dataset_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_dataset_version_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
        sa.UniqueConstraint("dataset_id", "digest", name=op.f("uq_dataset_version_dataset_id_digest")),
    )
    op.create_table(
        "supernet",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "infeasible",
                "lost",
                "cancelled",
                name="supernet_state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("description", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("dataset_version_id", Identifier, nullable=False),
        sa.Column("weights", sa.String(length=64), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_supernet_created_by")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_supernet_dataset_version_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_supernet_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_supernet")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_supernet_project_id_key")),
    )
    op.create_table(
        "search",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seed", Identifier, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "succeeded",
                "failed",
                "cancelled",
                name="search_state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column(
            "stage",
            sa.Enum(
                "check",
                "supernet",
                "search",
                "finalists",
                "done",
                name="search_stage",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("dataset_id", Identifier, nullable=False),
        sa.Column("dataset_version_id", Identifier, nullable=True),
        sa.Column("supernet_id", Identifier, nullable=True),
        sa.Column("baseline_supernet_id", Identifier, nullable=True),
        sa.Column("exhausted", sa.Boolean(), nullable=False),
        sa.Column("stage_times", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("revision", Identifier, nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_supernet_id"], ["supernet.id"], name=op.f("fk_search_baseline_supernet_id")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_search_created_by")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_search_dataset_id")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_search_dataset_version_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_search_project_id")),
        sa.ForeignKeyConstraint(["supernet_id"], ["supernet.id"], name=op.f("fk_search_supernet_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
        sa.UniqueConstraint("project_id", "idempotency_key", name=op.f("uq_search_project_id_idempotency_key")),
    )
    op.create_index(op.f("ix_search_state"), "search", ["state"], unique=False)

    op.create_table(
        "job",
        sa.Column("search_id", Identifier, nullable=True),
        sa.Column(
            "kind",
            sa.Enum(
                "check_dataset",
                "train_supernet",
                "evaluate",
                "train_detector",
                name="job_kind",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("purpose", sa.String(length=100), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "infeasible",
                "lost",
                "cancelled",
                name="job_state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("device_class", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("resident", sa.String(length=64), nullable=True),
        sa.Column("supernet_id", Identifier, nullable=True),
        sa.Column("split_from", Identifier, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("charged", sa.Integer(), nullable=False),
        sa.Column("worker_id", Identifier, nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("checkpoint", sa.String(length=64), nullable=True),
        sa.Column("checkpoint_step", Identifier, nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("result_digest", sa.String(length=64), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_job_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_job_project_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_job_search_id")),
        sa.ForeignKeyConstraint(["split_from"], ["job.id"], name=op.f("fk_job_split_from")),
        sa.ForeignKeyConstraint(["supernet_id"], ["supernet.id"], name=op.f("fk_job_supernet_id")),
        sa.ForeignKeyConstraint(["worker_id"], ["worker.id"], name=op.f("fk_job_worker_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("search_id", "purpose", name=op.f("uq_job_search_id_purpose")),
    )
    op.create_index(op.f("ix_job_lease_expires_at"), "job", ["lease_expires_at"], unique=False)
    op.create_index(op.f("ix_job_state_job_priority"), "job", ["state", "priority"], unique=False)

    op.create_table(
        "job_attempt",
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", Identifier, nullable=False),
        sa.Column("outcome", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_job_attempt_created_by")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_attempt_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_job_attempt_project_id")),
        sa.ForeignKeyConstraint(["worker_id"], ["worker.id"], name=op.f("fk_job_attempt_worker_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_attempt")),
        sa.UniqueConstraint("job_id", "attempt", name=op.f("uq_job_attempt_job_id_attempt")),
    )
    op.create_table(
        "trial",
        sa.Column("search_id", Identifier, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("genotype", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("architecture_id", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=20), nullable=False),
        sa.Column("parents", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("macs", Identifier, nullable=False),
        sa.Column("params", Identifier, nullable=False),
        sa.Column("counted", sa.JSON(none_as_null=True), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "infeasible",
                "lost",
                "cancelled",
                name="trial_state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", Identifier, nullable=True),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("seconds", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("result_digest", sa.String(length=64), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_trial_created_by")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_trial_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_trial_project_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_trial_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trial")),
        sa.UniqueConstraint("search_id", "architecture_id", name=op.f("uq_trial_search_id_architecture_id")),
        sa.UniqueConstraint("search_id", "number", name=op.f("uq_trial_search_id_number")),
    )
    op.create_index(op.f("ix_trial_job_id"), "trial", ["job_id"], unique=False)
    op.create_index(op.f("ix_trial_search_id_trial_state"), "trial", ["search_id", "state"], unique=False)

    op.create_table(
        "event",
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("search_id", Identifier, nullable=True),
        sa.Column("trial_id", Identifier, nullable=True),
        sa.Column("job_id", Identifier, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_event_created_by")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_event_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_event_project_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_event_search_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_event_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_job_id"), "event", ["job_id"], unique=False)
    op.create_index(op.f("ix_event_search_id_event_id"), "event", ["search_id", "id"], unique=False)

    op.create_table(
        "finalist",
        sa.Column("search_id", Identifier, nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "winner",
                "baseline",
                "control",
                name="finalist_role",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("seed", Identifier, nullable=False),
        sa.Column("trial_id", Identifier, nullable=True),
        sa.Column("genotype", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("architecture_id", sa.String(length=64), nullable=False),
        sa.Column("macs", Identifier, nullable=False),
        sa.Column("params", Identifier, nullable=False),
        sa.Column("job_id", Identifier, nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "infeasible",
                "lost",
                "cancelled",
                name="finalist_state",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("weights", sa.String(length=64), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_finalist_created_by")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_finalist_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_finalist_project_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_finalist_search_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_finalist_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finalist")),
        sa.UniqueConstraint("search_id", "role", "rank", "seed", name=op.f("uq_finalist_search_id_role_rank_seed")),
    )
    op.create_table(
        "measurement",
        sa.Column("search_id", Identifier, nullable=True),
        sa.Column("trial_id", Identifier, nullable=True),
        sa.Column("finalist_id", Identifier, nullable=True),
        sa.Column("supernet_id", Identifier, nullable=True),
        sa.Column("architecture_id", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.String(length=60), nullable=False),
        sa.Column("split", sa.String(length=40), nullable=False),
        sa.Column("protocol_hash", sa.String(length=64), nullable=False),
        sa.Column("fidelity", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("device_class", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("standard_error", sa.Double(), nullable=True),
        sa.Column("jackknife", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("dataset_version_id", Identifier, nullable=False),
        sa.Column("supernet_digest", sa.String(length=64), nullable=True),
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_measurement_created_by")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_measurement_dataset_version_id")
        ),
        sa.ForeignKeyConstraint(["finalist_id"], ["finalist.id"], name=op.f("fk_measurement_finalist_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_measurement_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_measurement_project_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_measurement_search_id")),
        sa.ForeignKeyConstraint(["supernet_id"], ["supernet.id"], name=op.f("fk_measurement_supernet_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_measurement_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
    )
    op.create_index(op.f("ix_measurement_architecture_id"), "measurement", ["architecture_id"], unique=False)
    op.create_index(
        op.f("ix_measurement_search_id_measurement_metric"), "measurement", ["search_id", "metric"], unique=False
    )
    op.create_index(op.f("ix_measurement_trial_id"), "measurement", ["trial_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_measurement_trial_id"), "measurement")
    op.drop_index(op.f("ix_measurement_search_id_measurement_metric"), "measurement")
    op.drop_index(op.f("ix_measurement_architecture_id"), "measurement")

    op.drop_table("measurement")
    op.drop_table("finalist")
    op.drop_index(op.f("ix_event_search_id_event_id"), "event")
    op.drop_index(op.f("ix_event_job_id"), "event")

    op.drop_table("event")
    op.drop_index(op.f("ix_trial_search_id_trial_state"), "trial")
    op.drop_index(op.f("ix_trial_job_id"), "trial")

    op.drop_table("trial")
    op.drop_table("job_attempt")
    op.drop_index(op.f("ix_job_state_job_priority"), "job")
    op.drop_index(op.f("ix_job_lease_expires_at"), "job")

    op.drop_table("job")
    op.drop_index(op.f("ix_search_state"), "search")

    op.drop_table("search")
    op.drop_table("supernet")
    op.drop_table("dataset_version")
    op.drop_table("worker")
    op.drop_table("token")
    op.drop_table("dataset")
    op.drop_index(op.f("ix_artifact_reference_owner"), "artifact_reference")

    op.drop_table("artifact_reference")
    op.drop_table("account")
    op.drop_table("project")
    op.drop_table("artifact")
