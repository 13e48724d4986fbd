"""Typed REST client. It imports neither nasdet_core nor services: it runs wherever httpx does."""

from nasdet_client.sdk.client import NasdetClient
from nasdet_client.sdk.errors import (
    ApiError,
    ConnectionSettingError,
    ForeignAnswerError,
    NasdetClientError,
    UnreachableError,
)

__all__ = [
    "ApiError",
    "ConnectionSettingError",
    "ForeignAnswerError",
    "NasdetClient",
    "NasdetClientError",
    "UnreachableError",
]
