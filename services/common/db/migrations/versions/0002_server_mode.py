"""Server mode: revisions and fronts as rows of their own, paused searches, workers with a mode, uploads, audit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic import op

from services.common.db.types import Identifier, db_now

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _new_tables()
    _new_columns()
    _copy_revisions()
    _rank_what_was_scored()


def _new_tables() -> None:
    op.create_table(
        "search_tally",
        sa.Column("search_id", Identifier, nullable=False),
        sa.Column("revision", Identifier, nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_search_tally_search_id")),
        sa.PrimaryKeyConstraint("search_id", name=op.f("pk_search_tally")),
    )
    op.create_table(
        "standing",
        sa.Column("search_id", Identifier, nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("images", Identifier, nullable=False),
        sa.Column("trials", Identifier, nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_standing_search_id")),
        sa.PrimaryKeyConstraint("search_id", "protocol", name=op.f("pk_standing")),
    )
    op.create_table(
        "front_member",
        sa.Column("trial_id", Identifier, nullable=False),
        sa.Column("search_id", Identifier, nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("macs", Identifier, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_front_member_search_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_front_member_trial_id")),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_front_member")),
    )
    op.create_index(op.f("ix_front_member_search_id_front_member_protocol"), "front_member", ["search_id", "protocol"])
    op.create_table(
        "upload",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", Identifier, nullable=False),
        sa.Column("received", Identifier, nullable=False),
        sa.Column("draft", sa.String(length=64), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        *_owner_columns("upload"),
    )
    op.create_table(
        "audit",
        sa.Column("token_id", Identifier, nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        *_owner_columns("audit"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], name=op.f("fk_audit_token_id")),
    )


def _owner_columns(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", Identifier, nullable=False),
        sa.Column("project_id", Identifier, nullable=False),
        sa.Column("created_by", Identifier, nullable=False),
        sa.Column("created_at", sa.Double(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f(f"fk_{table}_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f(f"fk_{table}_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def _new_columns() -> None:
    op.add_column("dataset", sa.Column("archive", sa.String(length=64), nullable=True))
    op.add_column("dataset_version", sa.Column("archive", sa.String(length=64), nullable=True))
    op.add_column("job", sa.Column("rung_at", sa.Double(), nullable=True))
    op.add_column("search", sa.Column("paused_at", sa.Double(), nullable=True))
    op.add_column("search", sa.Column("deadline_at", sa.Double(), nullable=True))
    op.add_column("search", sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("trial", sa.Column("protocol", sa.String(length=64), nullable=True))
    op.add_column("worker", sa.Column("mode", sa.String(length=20), nullable=False, server_default="active"))
    op.add_column("worker", sa.Column("gone_at", sa.Double(), nullable=True))
    op.create_index(op.f("ix_trial_finished_at"), "trial", ["finished_at"])
    op.create_index("ix_trial_ranking", "trial", ["search_id", "protocol", "value"])
    op.create_index(op.f("ix_job_attempt_outcome"), "job_attempt", ["outcome"])
    op.create_index(op.f("ix_event_kind"), "event", ["kind"])


def _copy_revisions() -> None:
    op.execute("INSERT INTO search_tally (search_id, revision, share) SELECT id, revision, 0 FROM search")
    # Not in alembic's batch mode, which drops and makes the table anew: every trial points to it.
    op.execute("ALTER TABLE search DROP COLUMN revision")


def _rank_what_was_scored() -> None:
    """Trials scored before this version get their protocol, standing and front, as `standings.py` keeps them."""
    connection = op.get_bind()
    scored = connection.execute(
        sa.text(
            "SELECT t.id, t.search_id, t.number, t.macs, m.value, m.protocol_hash, m.fidelity "
            "FROM trial t JOIN measurement m ON m.trial_id = t.id "
            "WHERE t.state = 'succeeded' AND m.metric = 'box_map' ORDER BY m.id"
        )
    ).all()
    seen: set[int] = set()
    standings: Counter[tuple[int, str, int]] = Counter()
    groups: dict[tuple[int, str], list[Any]] = {}
    for row in scored:
        if row.id in seen:
            continue
        seen.add(row.id)
        fidelity = json.loads(row.fidelity) if isinstance(row.fidelity, str) else row.fidelity
        text = json.dumps([row.protocol_hash, fidelity], sort_keys=True, separators=(",", ":"))
        protocol = hashlib.sha256(text.encode()).hexdigest()
        standings[row.search_id, protocol, int(fidelity.get("images", 0))] += 1
        groups.setdefault((row.search_id, protocol), []).append(row)
        connection.execute(sa.text("UPDATE trial SET protocol = :p WHERE id = :i"), {"p": protocol, "i": row.id})
    for (search_id, protocol, images), trials in standings.items():
        values = {"s": search_id, "p": protocol, "i": images, "t": trials}
        connection.execute(
            sa.text("INSERT INTO standing (search_id, protocol, images, trials) VALUES (:s, :p, :i, :t)"), values
        )
    for (search_id, protocol), rows in groups.items():
        best = None
        for row in sorted(rows, key=lambda row: (row.macs, -row.value, row.number)):
            if best is not None and row.value <= best:
                continue
            best = row.value
            values = {
                "t": row.id, "s": search_id, "p": protocol, "n": row.number, "m": row.macs, "v": row.value
            }  # fmt: skip
            connection.execute(
                sa.text(
                    "INSERT INTO front_member (trial_id, search_id, protocol, number, macs, value) "
                    "VALUES (:t, :s, :p, :n, :m, :v)"
                ),
                values,
            )
