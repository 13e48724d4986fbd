"""The installation's two tokens: one for its operator, one for its workers, each in a file.

Where no files are named they lie in the home, are made at the first start, and are their user's alone. In server mode
they come as secrets, in files that this program only reads.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from sqlalchemy.orm import Session

from services.common.db.models import Token
from services.common.db.repositories import TokenRepository
from services.common.errors import HomeError, SettingError
from services.common.settings import ApiSettings, HomeSettings

PREFIX = "nasdet_"  # lets scanners for leaked secrets find ours
FEWEST_CHARACTERS, MOST_CHARACTERS = 32, 512
OPERATOR = ("token", "operator", ["read", "write", "admin"])  # name, account, scopes
WORKERS = ("worker-token", "workers", ["worker"])


def new_token() -> str:
    """256 random bits, which nobody guesses."""
    return PREFIX + secrets.token_urlsafe(32)


def ensure_tokens(settings: HomeSettings, session: Session) -> None:
    """Make the tokens of the two files the valid ones; files of the home are written where they are missing.

    The file comes first: where the transaction then fails, the next start finds the file and makes the row. Whoever
    changes a file ends its old token at the next start. Safe with several processes at once.

    Raises HomeError or SettingError for a file without a token.
    """
    operator = read_operator_token(settings) or _write(settings.operator_token_path)
    workers = _token_of(settings.worker_token_file, settings.worker_token_path, "worker") or _write(
        settings.worker_token_path
    )
    if operator == workers:
        raise SettingError(
            f"expected two different tokens, but {settings.operator_token_path} and {settings.worker_token_path} hold "
            "the same; write another one into one of them"
        )
    repository = TokenRepository(session)
    for (name, account, scopes), token in ((OPERATOR, operator), (WORKERS, workers)):
        repository.install(repository.ensure_owner(account), name, token, scopes)


def read_operator_token(settings: HomeSettings) -> str | None:
    """The operator's token; None where the home has none yet. Raises HomeError or SettingError for a bad file."""
    return _token_of(settings.operator_token_file, settings.operator_token_path, "operator")


def read_metrics_token(settings: ApiSettings) -> str | None:
    """The scraper's token; None where no file is named. Raises SettingError for a bad file."""
    file = settings.metrics_token_file
    return None if file is None else _read_secret(file, "metrics")


def is_installed(token: Token, account: str) -> bool:
    """Whether a token, whose account has this name, is one of the two files' tokens."""
    return (token.name, account) in {(name, owner) for name, owner, _ in (OPERATOR, WORKERS)}


def _token_of(named: Path | None, path: Path, whose: str) -> str | None:
    if named is not None:
        return _read_secret(path, whose)
    try:
        return _read(path)
    except FileNotFoundError:
        return None


def _read_secret(path: Path, whose: str) -> str:
    """A file that the operator names: perhaps read-only, perhaps a link, as secrets are mounted. Left as it is."""
    variable = f"NASDET_{whose.upper()}_TOKEN_FILE"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingError(
            f"expected the {whose} token in {path} ({variable}), but the file cannot be read ({why}); "
            "write a token into it, e.g. with `openssl rand -hex 32`, and let this process read it"
        ) from error
    if not is_token(token):
        raise SettingError(
            f"expected a token of {FEWEST_CHARACTERS} to {MOST_CHARACTERS} visible ASCII characters in {path} "
            f"({variable}), but it holds something else; make one with `openssl rand -hex 32`"
        )
    return token


def is_token(text: str) -> bool:
    """Whether it is long enough, and of characters that a header can carry."""
    return FEWEST_CHARACTERS <= len(text) <= MOST_CHARACTERS and all("!" <= character <= "~" for character in text)


def _read(path: Path) -> str:
    """A file of the home: an ordinary one, made its user's alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HomeError(f"{path} must be an ordinary file that holds a token; move it away and start again")
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        token = file.read().strip()
    if not is_token(token):
        raise HomeError(f"{path} holds no token; delete it, and a new one is made at the next start")
    return token


def _write(path: Path) -> str:
    """A new token, complete or not there at all: written beside its place and linked into it."""
    token = new_token()
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
