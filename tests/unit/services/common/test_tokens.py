"""The token files of an embedded installation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from services.common.db.models import Token
from services.common.db.repositories import TokenRepository
from services.common.db.repositories.tokens import find_token
from services.common.db.session import Database
from services.common.errors import ConflictError, HomeError, SettingError
from services.common.settings import HomeSettings
from services.common.tokens import PREFIX, ensure_tokens, new_token
from tests.support import stores


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = stores.copied_database(stores.migrated_template(tmp_path), tmp_path / "nasdet.db")
    yield database
    database.close()


def ensure(database: Database, home: Path) -> tuple[str, str]:
    with database.write_session() as session:
        ensure_tokens(HomeSettings(home=home), session)
    return (home / "token").read_text().strip(), (home / "worker-token").read_text().strip()


def scopes(database: Database, token: str) -> set[str] | None:
    found = find_token(database, token)
    return set(found.scopes) if found else None


def test_files_are_written_once_for_their_user_alone(database: Database, tmp_path: Path) -> None:
    user, worker = ensure(database, tmp_path)
    assert ensure(database, tmp_path) == (user, worker)
    assert user != worker
    assert user.startswith(PREFIX)
    assert len(user) > 40
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("token", "worker-token")} == {0o600}
    assert scopes(database, user) == {"read", "write", "admin"}
    assert scopes(database, worker) == {"worker"}
    with database.read_session() as session:
        assert all(user not in row.digest for row in session.scalars(select(Token)))


def test_a_deleted_file_makes_a_new_token_and_ends_the_old_one(database: Database, tmp_path: Path) -> None:
    old, _ = ensure(database, tmp_path)
    (tmp_path / "token").unlink()
    new, _ = ensure(database, tmp_path)
    assert scopes(database, old) is None
    assert scopes(database, new) == {"read", "write", "admin"}


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


class TestSecretFiles:
    """Server mode: the operator brings the tokens, in files that are only read."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> HomeSettings:
        folder = tmp_path / "secrets"
        folder.mkdir()
        for name in ("operator", "worker"):
            file = folder / f".{name}"
            file.write_text(f"{name}-" + "x" * 40 + "\n")
            file.chmod(0o444)
            (folder / name).symlink_to(file)  # as Kubernetes mounts them
        return HomeSettings(
            home=tmp_path / "home", operator_token_file=folder / "operator", worker_token_file=folder / "worker"
        )

    def test_they_are_read_and_left_as_they_are(self, database: Database, settings: HomeSettings) -> None:
        for _ in range(2):
            with database.write_session() as session:
                ensure_tokens(settings, session)
        assert scopes(database, "operator-" + "x" * 40) == {"read", "write", "admin"}
        assert scopes(database, "worker-" + "x" * 40) == {"worker"}
        assert settings.operator_token_path.stat().st_mode & 0o777 == 0o444
        assert not settings.home.exists()
        with database.read_session() as session:
            assert len(session.scalars(select(Token)).all()) == 2

    @pytest.mark.parametrize("text", ["", "short", "x" * 40 + " y", "\u00e4" * 40, "x" * 600])
    def test_what_is_no_token_is_refused_with_a_sentence(
        self, database: Database, settings: HomeSettings, text: str
    ) -> None:
        settings.worker_token_path.chmod(0o600)
        settings.worker_token_path.write_text(text)
        with database.write_session() as session, pytest.raises(SettingError, match="NASDET_WORKER_TOKEN_FILE"):
            ensure_tokens(settings, session)

    def test_a_missing_file_is_refused_and_not_made(self, database: Database, settings: HomeSettings) -> None:
        settings.operator_token_path.unlink()
        with database.write_session() as session, pytest.raises(SettingError, match="No such file"):
            ensure_tokens(settings, session)
        assert not settings.operator_token_path.exists()

    def test_one_token_for_both_is_refused(self, database: Database, settings: HomeSettings) -> None:
        twice = settings.model_copy(update={"worker_token_file": settings.operator_token_file})
        with database.write_session() as session, pytest.raises(SettingError, match="two different tokens"):
            ensure_tokens(twice, session)

    def test_a_token_that_comes_back_is_valid_again(self, database: Database, settings: HomeSettings) -> None:
        path = settings.operator_token_path
        first = path.read_text()
        for text in (first, "another-" + "y" * 40, first):
            path.chmod(0o600)
            path.write_text(text)
            with database.write_session() as session:
                ensure_tokens(settings, session)
            assert scopes(database, text.strip()) == {"read", "write", "admin"}
        assert scopes(database, "another-" + "y" * 40) is None


def test_a_persons_token_of_the_same_name_outlives_a_restart(database: Database, tmp_path: Path) -> None:
    ensure(database, tmp_path)
    theirs = new_token()
    with database.write_session() as session:
        tokens = TokenRepository(session)
        tokens.create(tokens.ensure_owner("operator"), "token", theirs, ["read"])
    ensure(database, tmp_path)
    assert scopes(database, theirs) == {"read"}


def test_a_name_has_one_valid_token_at_a_time(database: Database) -> None:
    with database.write_session() as session:
        tokens = TokenRepository(session)
        operator = tokens.ensure_owner("operator")
        first = tokens.create(operator, "alice", new_token(), ["read"])
        with pytest.raises(ConflictError, match="valid token 'alice'"):
            tokens.create(operator, "alice", new_token(), ["read"])
        assert tokens.revoke(first, operator)
        assert not tokens.revoke(first, operator)
        second = tokens.create(operator, "alice", new_token(), ["write"])
        assert second.account_id == first.account_id


def test_processes_that_start_at_once_on_postgres_make_each_token_once(postgres_url: str, tmp_path: Path) -> None:
    database = Database(postgres_url)
    settings = HomeSettings(home=tmp_path)
    ready = threading.Barrier(6)

    def start() -> None:
        ready.wait()
        with database.write_session() as session:
            ensure_tokens(settings, session)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(start) for _ in range(6)]:
            done.result()
    with database.read_session() as session:
        assert sorted(row.name for row in session.scalars(select(Token))) == ["token", "worker-token"]
    database.close()
