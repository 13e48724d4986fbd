"""Which trials of a search may be compared, and the front among them, kept while results land.

A search of 100,000 trials is polled by people every two seconds: best and front are looked up, not computed. `rank`
runs while the search's revision is held (settle.py), so one trial at a time; what comes out does not hang on the
order in which results landed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import FrontMember, JsonDict, Standing, Trial

OBJECTIVE = "box_map"


def comparable_under(protocol_hash: str, fidelity: JsonDict) -> str:
    """Trials with an equal one of these may be compared."""
    text = json.dumps([protocol_hash, fidelity], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def chosen_protocol(session: Session, search_id: int) -> str | None:
    """The one protocol that `best` and `front` compare: of the fullest fidelity, then the commonest."""
    return session.scalars(
        select(Standing.protocol)
        .where(Standing.search_id == search_id)
        .order_by(Standing.images.desc(), Standing.trials.desc(), Standing.protocol)
        .limit(1)
    ).first()


def count_standing(session: Session, search_id: int, protocol: str, images: int) -> None:
    """One more trial was scored under a protocol. The caller holds the search's revision, or its only writer."""
    counted = session.execute(
        update(Standing)
        .where(Standing.search_id == search_id, Standing.protocol == protocol)
        .values(trials=Standing.trials + 1)
        .returning(Standing.protocol)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if counted is None:
        session.add(Standing(search_id=search_id, protocol=protocol, images=images, trials=1))
        session.flush()


def rank(session: Session, trials: Sequence[tuple[int, int]]) -> None:
    """Enter trials, given as (id, pictures they were scored on), that just succeeded."""
    for trial_id, images in trials:
        trial = session.get(Trial, trial_id, populate_existing=True)
        if trial is None or trial.protocol is None or trial.value is None:
            raise LookupError(f"trial {trial_id} was to be ranked, but has no score")
        count_standing(session, trial.search_id, trial.protocol, images)
        _enter_front(session, trial, trial.protocol, trial.value)


def _enter_front(session: Session, trial: Trial, protocol: str, value: float) -> None:
    same = (FrontMember.search_id == trial.search_id, FrontMember.protocol == protocol)
    # Of two that are equal in both, the lower number stays.
    beaten_by = (
        FrontMember.macs <= trial.macs,
        FrontMember.value >= value,
        (FrontMember.macs < trial.macs) | (FrontMember.value > value) | (FrontMember.number < trial.number),
    )
    if session.scalar(select(func.count()).select_from(FrontMember).where(*same, *beaten_by)):
        return
    session.execute(
        delete(FrontMember)
        .where(*same, FrontMember.macs >= trial.macs, FrontMember.value <= value)
        .execution_options(synchronize_session=False)
    )
    session.add(
        FrontMember(
            trial_id=trial.id,
            search_id=trial.search_id,
            protocol=protocol,
            number=trial.number,
            macs=trial.macs,
            value=value,
        )
    )
    session.flush()
