"""Projects, accounts and tokens. A token is stored as its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, CursorResult, bindparam, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Account, Project, Token
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import Asked, Database, take_turns
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError

SCOPES = ("read", "write", "worker", "admin")
DEFAULT_PROJECT = "default"


_VALID = select(
    Token.digest,
    Token.id,
    Token.project_id,
    Token.account_id,
    Token.name,
    Token.scopes,
    db_now() - Token.last_used_at,
).where(Token.digest == bindparam("digest", type_=Token.digest.type), Token.revoked_at.is_(None))


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class ValidToken:
    """What a request may do with the token that it came with."""

    id: int
    project_id: int
    account_id: int
    name: str
    scopes: frozenset[str]
    unused_seconds: float | None  # since its last use was noted; None: it was never used


def find_token(database: Database, token: str) -> ValidToken | None:
    """The valid token with these bytes. Found by its digest, and compared in constant time besides.

    One statement outside any transaction, since every request begins with it.
    """
    digest = token_digest(token)
    rows = database.peek(Asked(_VALID, {"digest": digest}))
    for found, token_id, project_id, account_id, name, scopes, seconds in rows:
        if hmac.compare_digest(found, digest):
            return ValidToken(token_id, project_id, account_id, name, frozenset(scopes), seconds)
    return None


class TokenRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def ensure_owner(self, account: str, project: str = DEFAULT_PROJECT) -> Owner:
        """Project and account of these names, made where they are missing."""
        found = self.session.scalars(select(Project).where(Project.name == project)).one_or_none()
        if found is None:
            take_turns(self.session, "project", project)
            found = self.session.scalars(select(Project).where(Project.name == project)).one_or_none()
        if found is None:
            found = Project(name=project)
            self.session.add(found)
            self.session.flush()
        return self.account(found.id, account)

    def account(self, project_id: int, name: str) -> Owner:
        """The account of a name in a project, made where it is missing."""
        take_turns(self.session, "account", project_id, name)
        person = self.session.scalars(
            select(Account).where(Account.project_id == project_id, Account.name == name)
        ).one_or_none()
        if person is None:
            person = Account(project_id=project_id, name=name)
            self.session.add(person)
            self.session.flush()
        return Owner(project_id, person.id)

    def create(self, creator: Owner, name: str, token: str, scopes: list[str]) -> Token:
        """Make a token valid for the account of its name; raises ConflictError while another of this name is valid."""
        owner = self.account(creator.project_id, name)
        valid = (Token.account_id == owner.account_id, Token.revoked_at.is_(None))
        if self.session.scalars(select(Token.id).where(*valid).limit(1)).first() is not None:
            raise ConflictError(f"there is a valid token '{name}' already; revoke it first, or choose another name")
        return self.add(creator, name, token, scopes, account_id=owner.account_id)

    def add(self, creator: Owner, name: str, token: str, scopes: list[str], *, account_id: int | None = None) -> Token:
        """Make a token valid, for its creator's account unless told otherwise."""
        account = creator.account_id if account_id is None else account_id
        made = Token(**creator.columns(), account_id=account, name=name, digest=token_digest(token), scopes=scopes)
        self.session.add(made)
        self.session.flush()
        EventRepository(self.session).add("token.created", creator, data={"name": name, "scopes": scopes})
        return made

    def install(self, owner: Owner, name: str, token: str, scopes: list[str]) -> bool:
        """Make the token of one of the installation's files the only valid one of its name; False when it was."""
        digest = token_digest(token)
        found = self.session.scalars(
            select(Token).where(Token.digest == digest).with_for_update(key_share=True)
        ).one_or_none()
        self._revoke(
            Token.account_id == owner.account_id, Token.name == name, Token.digest != digest, Token.revoked_at.is_(None)
        )
        if found is None:
            self.add(owner, name, token, scopes)
            return True
        wanted = {"account_id": owner.account_id, "name": name, "scopes": scopes, "revoked_at": None}
        if all(getattr(found, column) == value for column, value in wanted.items()):
            return False
        self.session.execute(
            update(Token).where(Token.id == found.id).values(**wanted).execution_options(synchronize_session=False)
        )
        EventRepository(self.session).add("token.created", owner, data={"name": name, "scopes": scopes})
        return True

    def get(self, project_id: int, token_id: int) -> Token:
        """Raises NotFoundError."""
        found = self.session.get(Token, token_id, populate_existing=True)
        if found is None or found.project_id != project_id:
            raise NotFoundError(f"there is no token {token_id}")
        return found

    def page(self, project_id: int, *, after: int, limit: int) -> Sequence[Token]:
        """In the order in which they were made, revoked ones too."""
        return self.session.scalars(
            select(Token).where(Token.project_id == project_id, Token.id > after).order_by(Token.id).limit(limit)
        ).all()

    def revoke(self, token: Token, by: Owner) -> bool:
        """From now on it opens nothing; False when it was revoked before."""
        if not self._revoke(Token.id == token.id, Token.revoked_at.is_(None)):
            return False
        EventRepository(self.session).add("token.revoked", by, data={"name": token.name})
        return True

    def _revoke(self, *which: ColumnElement[bool]) -> bool:
        done = self.session.execute(
            update(Token).where(*which).values(revoked_at=db_now()).execution_options(synchronize_session=False)
        )
        assert isinstance(done, CursorResult)  # an UPDATE without RETURNING
        return bool(done.rowcount)

    def used(self, token_id: int, every_seconds: float = 60.0) -> None:
        """Note the use of a token, at most once in `every_seconds`."""
        self.session.execute(
            update(Token)
            .where(
                Token.id == token_id,
                (Token.last_used_at.is_(None)) | (Token.last_used_at < db_now() - every_seconds),
            )
            .values(last_used_at=db_now())
            .execution_options(synchronize_session=False)
        )
