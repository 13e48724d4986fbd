"""What can go wrong between a client and the API."""

from __future__ import annotations

from dataclasses import dataclass


class NasdetClientError(Exception):
    """Root of the client's errors; the text is one sentence for a person."""


class ConnectionSettingError(NasdetClientError, ValueError):
    """An address or a token that no request can be made with."""


class UnreachableError(NasdetClientError):
    """No answer came from the API."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request, e.g. location "supernet.epochs"."""

    location: str
    message: str


class ApiError(NasdetClientError):
    """The API answered with a problem (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str, fields: tuple[FieldError, ...] = ()) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.fields = fields
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.detail or self.title
        named = [f"{field.location}: {field.message}" for field in self.fields if field.message not in text]
        return "; ".join([text, *named]) if named else text

    @property
    def about_input(self) -> bool:
        """Whether sending something else would help (exit code 2 of the command), not trying again."""
        return self.status in (400, 401, 403, 404, 409, 413, 415, 422)


class ForeignAnswerError(ApiError):
    """Something answered that is no nasdet API, e.g. another program's web server on that port."""

    @property
    def about_input(self) -> bool:
        return self.status < 500  # a proxy before an API that is down says so with 502 to 504
