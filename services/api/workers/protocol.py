"""One version of the worker's protocol: whoever speaks another is told so in a sentence, whatever it asks for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from services.api.access import AccessRule, Caller
from services.common.errors import ProtocolMismatchError
from services.common.settings import PROTOCOL, PROTOCOL_HEADER


def check_protocol(protocol: int | str) -> None:
    if str(protocol) != str(PROTOCOL):
        raise ProtocolMismatchError(
            f"this API speaks version {PROTOCOL} of the worker protocol, but the worker speaks version {protocol}; "
            "run API and worker of the same nasdet version"
        )


class WorkerRule(AccessRule):
    """The worker's scope, and its protocol: every request names it in a header."""

    def __init__(self) -> None:
        super().__init__("worker")

    def __call__(
        self,
        request: Request,
        protocol: Annotated[
            str | None,
            Header(alias=PROTOCOL_HEADER, max_length=40, description=f"The worker's protocol; must be {PROTOCOL}."),
        ] = None,
    ) -> Caller:
        caller = super().__call__(request)
        # Version 1 sent no header.
        check_protocol("1 or none" if protocol is None else protocol)
        return caller


SpeakingWorker = Annotated[Caller, Depends(WorkerRule())]
