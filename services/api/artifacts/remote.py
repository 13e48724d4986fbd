"""Artifacts in an object store, through fsspec: NASDET_ARTIFACTS_URL=s3://bucket/prefix.

Keys, region and endpoint of S3 are found by its own client: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a file
named by AWS_SHARED_CREDENTIALS_FILE; AWS_DEFAULT_REGION; AWS_ENDPOINT_URL for a server that is not Amazon's.

An object appears whole or not at all. Bytes are moved in pieces of bounded size, both ways; whoever fetches an artifact
checks its hash.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec  # type: ignore[import-untyped]  # it ships no types
import structlog

from services.api.artifacts.draft import Draft, DraftFolder
from services.api.artifacts.store import DIGEST, checked
from services.common.errors import NotFoundError, ServiceError, SettingError, UnavailableError

PART = 8 << 20  # bytes of one part of a large object, and of what is read ahead
MOST_PARTS = 9_000  # S3 takes 10,000
PARTS_AT_ONCE = 2
_IN_PLACE = ("file", "local", "sftp", "ftp", "smb")  # they show files that are half written

# A store that hangs is given up, so that whoever asked is told to ask again (botocore's own limits are minutes).
_S3_CLIENT = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}

log = structlog.get_logger()


class RemoteStore:
    def __init__(self, url: str, drafts: Path) -> None:
        self.url = url
        self._drafts = DraftFolder(drafts)
        self._fs, self._root = _connect(url)

    @property
    def drafts(self) -> Path:
        return self._drafts.path

    def prepare(self) -> None:
        """Write something and remove it: a wrong key or bucket is told when the API starts, not when a job ends."""
        self._drafts.prepare()
        probe = f"{self._root}/probes/{secrets.token_hex(16)}"
        with self._asking("written, as was tried when the API started,"):
            self._fs.pipe_file(probe, b"nasdet")
            self._fs.rm_file(probe)

    def draft(self) -> Draft:
        return self._drafts.new()

    def transfer(self, file: Path, size: int, digest: str) -> None:
        place = self._place(digest)
        more: dict[str, Any] = {}
        if self._fs.protocol == "s3" or "s3" in self._fs.protocol:
            more = {"chunksize": max(PART, -(-size // MOST_PARTS)), "max_concurrency": PARTS_AT_ONCE}
        with self._asking("sent"):
            self._fs.put_file(str(file), place, **more)

    def publish(self, file: Path, size: int, digest: str) -> bool:
        del file
        with self._asking("looked for"):
            try:
                return int(self._fs.info(self._place(digest))["size"]) == size
            except FileNotFoundError:
                return False

    def open(self, digest: str, offset: int = 0) -> BinaryIO:
        with self._asking("opened"):
            try:
                file: BinaryIO = self._fs.open(self._place(digest), "rb", block_size=PART, cache_type="readahead")
            except FileNotFoundError as error:
                raise NotFoundError(f"the file of artifact {digest} is not in {self.url}") from error
            file.seek(offset)
            return file

    def remove(self, digest: str) -> None:
        with self._asking("removed"):
            try:
                self._fs.rm_file(self._place(digest))
            except FileNotFoundError:
                log.info("artifact.was_gone", digest=digest)

    def digests(self) -> Iterator[str]:
        with self._asking("listed"):
            found = self._fs.find(self._root)
        for place in found:
            folder, _, name = str(place).rpartition("/")
            if DIGEST.match(name) and folder.rpartition("/")[2] == name[:2]:
                yield name

    def _place(self, digest: str) -> str:
        return f"{self._root}/{checked(digest)[:2]}/{digest}"

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Whatever the store's client raises, as one sentence: the request may be sent again."""
        try:
            yield
        except ServiceError:
            raise
        except Exception as error:  # every kind of store has errors of its own
            log.warning("artifacts.store_failed", url=self.url, error=f"{type(error).__name__}: {error}")
            raise UnavailableError(
                f"an artifact could not be {what} in {self.url} ({type(error).__name__}); the API's log says more; "
                "send the request again when the store answers"
            ) from error


def _connect(url: str) -> tuple[Any, str]:
    """The file system behind an address, and the place in it."""
    protocol, separator, place = url.partition("://")
    if not separator or not place.strip("/"):
        raise SettingError(
            f"expected an address such as s3://bucket/prefix in NASDET_ARTIFACTS_URL, but got {url!r}; correct it, or "
            "leave it out to keep artifacts in the home"
        )
    if protocol in _IN_PLACE:
        raise SettingError(
            f"expected an object store such as s3://bucket/prefix in NASDET_ARTIFACTS_URL, but {protocol}:// shows "
            "files that are half written; leave it out to keep artifacts in the home"
        )
    try:
        # No listing is remembered: other processes write and remove, too.
        options = {"config_kwargs": _S3_CLIENT} if protocol == "s3" else {}
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except (ImportError, ValueError) as error:
        raise SettingError(
            f"the artifacts of {url} cannot be reached: {error}; for s3:// install it with: pip install 'nasdet[s3]'"
        ) from error
    return fs, str(root).rstrip("/")
