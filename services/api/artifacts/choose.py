"""Which store an API keeps its artifacts in."""

from __future__ import annotations

from services.api.artifacts.local import LocalStore
from services.api.artifacts.remote import RemoteStore
from services.api.artifacts.store import ArtifactStore
from services.common.settings import ApiSettings


def artifact_store(settings: ApiSettings) -> ArtifactStore:
    """The folder of the home, or what `artifacts_url` names; raises SettingError when that is none we can use."""
    if settings.artifacts_url is None:
        return LocalStore(settings.artifacts)
    return RemoteStore(settings.artifacts_url, settings.artifacts / "tmp")
