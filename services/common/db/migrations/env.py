"""What alembic runs: on the connection that `upgrade` hands in, or on `-x url=...` for a developer."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from services.common.db.models import Base
from services.common.db.session import Database


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,  # SQLite too: session.py begins its transactions itself
    )
    with context.begin_transaction():
        context.run_migrations()


def _run_for_developer() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if url is None:
        raise SystemExit("name the database: alembic -x url=sqlite:///FILE ...")
    with Database(url).write_engine.begin() as connection:
        _run(connection)


given = context.config.attributes.get("connection")
if given is None:
    _run_for_developer()
else:
    _run(given)
