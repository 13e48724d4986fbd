"""What is wrong with a search specification: one sentence per field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasdet_core.errors import NasDetError


@dataclass(frozen=True, slots=True)
class FieldError:
    """`loc` is the dotted path of the field ("" is the whole specification), `msg` a sentence without it."""

    loc: str
    msg: str

    def __str__(self) -> str:
        if not self.loc:
            return self.msg
        return f"{self.loc} {self.msg}" if self.msg.startswith("is ") else f"{self.loc}: {self.msg}"


class SpecificationError(NasDetError, ValueError):
    """A specification that is malformed, or that nothing could ever satisfy."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(tuple(errors))
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "; ".join(str(error) for error in self.errors)


def field_error(loc: str, message: str) -> SpecificationError:
    """An error of one field; a path that already opens the message (`supernet.epochs: ...`) is taken over."""
    opening, colon, rest = message.partition(": ")
    if colon and (opening == loc or opening.startswith(f"{loc}.")) and " " not in opening:
        return SpecificationError([FieldError(opening, rest)])
    return SpecificationError([FieldError(loc, message)])
