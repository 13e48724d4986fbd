"""A home: the folder that holds one embedded platform (database, artifacts, tokens, logs)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TypeVar

from nasdet_client.errors import CommandError

HOME_SCHEMA = 1
OTHER_HOME = "choose another folder with --home"
MINIMUM_FREE_BYTES = 200 * 2**20  # a checkpoint and its successor of the largest preset, with room for the database

DATASET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # as the API takes it
MOST_NAME_CHARACTERS = 200

T = TypeVar("T")


class Home:
    """The folder's layout and the lock that only one embedded platform can hold.

    Raises CommandError when the folder cannot be made, belongs to a newer version, is open in another process,
    or lies on a disk that is nearly full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self._lock_fd: int | None = None

    # --- layout ---------------------------------------------------------------------------------------------------

    @property
    def token_file(self) -> Path:
        return self.path / "token"

    @property
    def worker_token_file(self) -> Path:
        return self.path / "worker-token"

    @property
    def address_file(self) -> Path:
        """Where the running platform listens; read by commands that are given no --url."""
        return self.path / "address.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    # --- opening --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the folder where needed, check it, and take its lock until `close` or the process's end."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in ("logs", "datasets"):
                (self.path / folder).mkdir(exist_ok=True)
            self._check_version()
            self._lock()
            self._check_space()
            self._write_version()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CommandError(
                    f"the disk of {self.path} is full; make room, or choose a folder on another disk with --home",
                    exit_code=1,
                ) from error
            raise CommandError(f"cannot use {self.path} as home: {error.strerror or error}; {OTHER_HOME}") from error

    def close(self) -> None:
        if self._lock_fd is not None:
            self.address_file.unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None

    def _check_version(self) -> None:
        schema = self.schema()
        if schema is not None and schema > HOME_SCHEMA:
            raise CommandError(
                f"{self.path} was written by a newer nasdet (home schema {schema}, this version knows {HOME_SCHEMA}); "
                "use that version, or choose another folder with --home"
            )

    def schema(self) -> int | None:
        """The version of the layout; None in a folder that no platform was opened on."""
        return _read_entry(self.path / "home.json", "schema", int, OTHER_HOME)

    def _write_version(self) -> None:
        file = self.path / "home.json"
        if not file.exists():
            write_atomically(file, json.dumps({"schema": HOME_SCHEMA}) + "\n")

    def _lock(self) -> None:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 20).decode(errors="replace").strip()
            os.close(fd)
            raise CommandError(
                f"the home {self.path} is already open{f' in process {holder}' if holder else ''}; "
                "stop that one, or choose another folder with --home"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < MINIMUM_FREE_BYTES:
            raise CommandError(
                f"the disk of {self.path} is full: {free // 2**20} MiB are free, {MINIMUM_FREE_BYTES // 2**20} MiB "
                "are needed; make room, or choose a folder on another disk with --home",
                exit_code=1,
            )

    # --- datasets -------------------------------------------------------------------------------------------------

    def register_dataset(self, directory: Path, name: str | None = None) -> str:
        """Make a directory known to this installation; return the name under which searches find it.

        Without `name` it is the directory's own; a second directory of that name gets a suffix made from its path.
        Raises CommandError when a name that was given cannot be one, or is another directory's.
        """
        path = directory.expanduser().resolve()
        if not path.is_dir():
            raise CommandError(f"expected a dataset directory, but {directory} {_what_is(path)}; check --data")
        self._prepare_datasets()
        if name is None:
            name = re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-.") or "dataset"
            if self._registered(name) not in (None, str(path)):
                name = f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        else:
            self.check_dataset_name(name, path)
        write_atomically(self.path / "datasets" / f"{name}.json", json.dumps({"path": str(path)}) + "\n")
        return name

    def _prepare_datasets(self) -> None:
        """The folder of names, also in a home that no platform was opened on."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_version()
            (self.path / "datasets").mkdir(exist_ok=True)
        except OSError as error:
            raise CommandError(f"cannot use {self.path} as home: {error.strerror or error}; {OTHER_HOME}") from error

    def check_dataset_name(self, name: str, directory: Path) -> None:
        """Raise CommandError when a directory cannot be registered under this name."""
        path = directory.expanduser().resolve()
        if not DATASET_NAME.fullmatch(name) or len(name) > MOST_NAME_CHARACTERS:
            raise CommandError(
                f"expected a dataset name of at most {MOST_NAME_CHARACTERS} letters, digits, dots, dashes and "
                f"underscores that begins with a letter, digit or underscore, got {name!r}; choose another --name"
            )
        other = self._registered(name)
        if other not in (None, str(path)):
            raise CommandError(f"the name {name!r} already is that of {other} in {self.path}; choose another --name")

    def _registered(self, name: str) -> str | None:
        file = self.path / "datasets" / f"{name}.json"
        return _read_entry(file, "path", str, "delete that file, or give another folder with --data")

    # --- the running platform -------------------------------------------------------------------------------------

    def write_address(self, url: str) -> None:
        write_atomically(self.address_file, json.dumps({"url": url}) + "\n")

    def address(self) -> str | None:
        return _read_entry(self.address_file, "url", str, "start the platform anew with `nasdet up`, or give --url")

    def token(self) -> str | None:
        text = _read_text(self.token_file, "give the token with --token")
        return None if text is None else text.strip()


def _read_text(file: Path, advice: str) -> str | None:
    """None when there is no such file. Raises CommandError when it cannot be read as text."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror or error}; {advice}") from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"expected UTF-8 text in {file}, but byte {error.start} is something else; {advice}"
        ) from error


def _read_entry(file: Path, key: str, kind: type[T], advice: str) -> T | None:
    """The value of a key in one of the home's JSON files. Raises CommandError when the file holds anything else."""
    text = _read_text(file, advice)
    if text is None:
        return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"expected JSON in {file}, but it cannot be read as that ({error}); {advice}") from error
    value = body.get(key) if isinstance(body, dict) else None
    if type(value) is not kind:
        wanted = "a whole number" if kind is int else "text"
        raise CommandError(f'expected a JSON object with {wanted} as "{key}" in {file}, but it holds none; {advice}')
    return value


def write_atomically(file: Path, text: str) -> None:
    """Write beside the file and rename, so that a reader sees the old or the new text and never half of one."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise CommandError(f"the disk of {file.parent} is full; make room and try again", exit_code=1) from error
        raise


def _what_is(path: Path) -> str:
    return "is a file" if path.is_file() else "does not exist"
