"""The schema's history, and the one function that brings a database up to date."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services.common.db.session import take_turns
from services.common.errors import SchemaVersionError


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest revision this program knows.

    One write transaction: several processes may start at once, and a kill in the middle leaves the old schema.
    A database of a newer version is refused and left alone. Hand in a writing engine (`Database.write_engine`).
    """
    config = _config()
    with engine.begin() as connection:
        take_turns(Session(bind=connection), "schema")
        current = MigrationContext.configure(connection).get_current_revision()
        head = head_revision()
        if current == head:
            return
        if current is not None and current not in _known_revisions(config):
            raise SchemaVersionError(
                f"the database is at schema revision {current}, but this version of nasdet knows revisions up to "
                f"{head}; it was written by a newer version: start that one, or choose another home"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revision(engine: Engine) -> str | None:
    """The revision of a database; None where there is no schema yet."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """The newest revision this program knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaVersionError("this installation of nasdet has no migrations; install it again")
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _known_revisions(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
