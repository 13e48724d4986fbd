"""The embedded installation's two tokens: one for its user, one for its workers, in files only the user reads."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from sqlalchemy.orm import Session

from services.common.db.repositories import TokenRepository
from services.common.errors import HomeError

PREFIX = "nasdet_"  # lets scanners for leaked secrets find ours
_FILES = (
    ("token", "operator", ["read", "write", "admin"]),
    ("worker-token", "workers", ["worker"]),
)


def ensure_tokens(home: Path, session: Session) -> None:
    """Make home/token and home/worker-token (0600) valid, writing them where they are missing.

    The file comes first: where the transaction then fails, the next start finds the file and makes the row.
    """
    repository = TokenRepository(session)
    for file_name, account, scopes in _FILES:
        token = _read_or_write(home / file_name)
        owner = repository.ensure_owner(account)
        repository.add(owner, file_name, token, scopes)
        repository.revoke_others(owner, file_name, token)


def _read_or_write(path: Path) -> str:
    try:
        return _read(path)
    except FileNotFoundError:
        return _write(path)


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HomeError(f"{path} must be an ordinary file that holds a token; move it away and start again")
        os.fchmod(descriptor, 0o600)
        token = file.read().strip()
    if len(token) < 32 or not token.isprintable():
        raise HomeError(f"{path} holds no token; delete it, and a new one is made at the next start")
    return token


def _write(path: Path) -> str:
    """A new token, complete or not there at all: written beside its place and linked into it."""
    token = PREFIX + secrets.token_urlsafe(32)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        return _read(path)  # another process was quicker
    finally:
        os.unlink(draft)
    return token
