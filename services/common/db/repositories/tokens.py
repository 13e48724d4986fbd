"""Projects, accounts and tokens. A token is stored as its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.db.models import Account, Project, Token
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.types import db_now

SCOPES = ("read", "write", "worker", "admin")
DEFAULT_PROJECT = "default"


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


class TokenRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def ensure_owner(self, account: str, project: str = DEFAULT_PROJECT) -> Owner:
        """Project and account of these names, made where they are missing."""
        found = self.session.scalars(select(Project).where(Project.name == project)).one_or_none()
        if found is None:
            found = Project(name=project)
            self.session.add(found)
            self.session.flush()
        person = self.session.scalars(
            select(Account).where(Account.project_id == found.id, Account.name == account)
        ).one_or_none()
        if person is None:
            person = Account(project_id=found.id, name=account)
            self.session.add(person)
            self.session.flush()
        return Owner(found.id, person.id)

    def add(self, owner: Owner, name: str, token: str, scopes: list[str]) -> bool:
        """Make a token valid; False when it already was."""
        digest = token_digest(token)
        if self.session.scalars(select(Token).where(Token.digest == digest)).one_or_none() is not None:
            return False
        self.session.add(Token(**owner.columns(), account_id=owner.account_id, name=name, digest=digest, scopes=scopes))
        self.session.flush()
        EventRepository(self.session).add("token.created", owner, data={"name": name, "scopes": scopes})
        return True

    def revoke_others(self, owner: Owner, name: str, token: str) -> None:
        """Only `token` stays valid under this name."""
        self.session.execute(
            update(Token)
            .where(
                Token.project_id == owner.project_id,
                Token.name == name,
                Token.digest != token_digest(token),
                Token.revoked_at.is_(None),
            )
            .values(revoked_at=db_now())
            .execution_options(synchronize_session=False)
        )

    def find(self, token: str) -> Token | None:
        """The valid token with these bytes. Found by its digest, and compared in constant time besides."""
        digest = token_digest(token)
        found = self.session.scalars(
            select(Token).where(Token.digest == digest, Token.revoked_at.is_(None))
        ).one_or_none()
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None

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
