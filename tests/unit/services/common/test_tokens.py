"""The token files of an embedded installation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from services.common.db.models import Token
from services.common.db.repositories import TokenRepository
from services.common.db.session import Database
from services.common.errors import HomeError
from services.common.tokens import PREFIX, ensure_tokens
from tests.support import stores


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = stores.copied_database(stores.migrated_template(tmp_path), tmp_path / "nasdet.db")
    yield database
    database.close()


def ensure(database: Database, home: Path) -> tuple[str, str]:
    with database.write_session() as session:
        ensure_tokens(home, session)
    return (home / "token").read_text().strip(), (home / "worker-token").read_text().strip()


def scopes(database: Database, token: str) -> list[str] | None:
    with database.read_session() as session:
        found = TokenRepository(session).find(token)
        return found.scopes if found else None


def test_files_are_written_once_for_their_user_alone(database: Database, tmp_path: Path) -> None:
    user, worker = ensure(database, tmp_path)
    assert ensure(database, tmp_path) == (user, worker)
    assert user != worker
    assert user.startswith(PREFIX)
    assert len(user) > 40
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("token", "worker-token")} == {0o600}
    assert scopes(database, user) == ["read", "write", "admin"]
    assert scopes(database, worker) == ["worker"]
    with database.read_session() as session:
        assert all(user not in row.digest for row in session.scalars(select(Token)))


def test_a_deleted_file_makes_a_new_token_and_ends_the_old_one(database: Database, tmp_path: Path) -> None:
    old, _ = ensure(database, tmp_path)
    (tmp_path / "token").unlink()
    new, _ = ensure(database, tmp_path)
    assert scopes(database, old) is None
    assert scopes(database, new) == ["read", "write", "admin"]


def test_a_file_without_its_row_is_used(database: Database, tmp_path: Path) -> None:
    """The start before this one was killed between file and row."""
    (tmp_path / "token").write_text(PREFIX + "x" * 40 + "\n")
    (tmp_path / "token").chmod(0o644)
    user, _ = ensure(database, tmp_path)
    assert user == PREFIX + "x" * 40
    assert scopes(database, user) is not None
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_link_or_rubbish_in_its_place_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short")
    with pytest.raises(HomeError, match="holds no token"):
        ensure(database, tmp_path)
    (tmp_path / "token").unlink()
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        ensure(database, tmp_path)
