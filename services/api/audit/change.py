"""The way in which endpoints for people change something: a transaction that leaves an audit row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.state import ApiState
from services.common.db.models import JsonDict
from services.common.db.repositories import AuditRepository
from services.common.db.settle import owed


@dataclass
class Change:
    """A write transaction, and what its audit row will say."""

    session: Session
    target: str  # e.g. "search 12"; may be set inside of the block, where the number is not known before
    data: JsonDict = field(default_factory=dict)  # what else there is to know: names, numbers; no secrets
    _happened: bool = True

    def nothing_changed(self) -> None:
        """A repeated request, which found everything as it asks for: no row."""
        self._happened = False

    def nothing_unless_told(self) -> None:
        """For what tells an event whenever it changes something: without one, nothing changed."""
        if not owed(self.session).events:
            self.nothing_changed()

    @property
    def happened(self) -> bool:
        return self._happened


@contextmanager
def change(api: ApiState, caller: Caller, action: str, target: str = "") -> Iterator[Change]:
    """One write transaction; at its end, an audit row of who asked for what, or none where nothing changed.

    A refusal (an exception) leaves neither.
    """
    with api.database.write_session() as session:
        made = Change(session, target)
        yield made
        if made.happened:
            if not made.target:
                raise LookupError(f"the audit of {action} does not say what was changed")
            AuditRepository(session).add(
                caller.owner,
                caller.token_id,
                action=action,
                target=made.target,
                request_id=caller.request_id,
                data=made.data,
            )
