"""What `nasdet doctor` looks at. Each finding says what was seen and, where it is bad, what to do."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import socket
import sqlite3
import sys
from pathlib import Path

from nasdet_client.errors import CommandError
from nasdet_client.local.finding import Finding, Verdict
from nasdet_client.local.home import HOME_SCHEMA, MINIMUM_FREE_BYTES, Home
from nasdet_client.local.server_mode import ServerMode


def examine(home: Path, port: int) -> list[Finding]:
    """Everything that a run on this machine needs; nothing is changed.

    Where NASDET_* variables make this a process of server mode, that one's needs: an API or a searcher does without
    torch, and nobody wants the port of `nasdet up`.
    """
    server = ServerMode.here()
    found = [_python(), *_computing(server), _machine(), _sqlite(), _disk(home)]
    if server.is_given:
        return [*found, _writable(home) or Finding("home", "ok", f"{home} can be written to"), *server.examine()]
    return [*found, _home(home), _port(port)]


def _computing(server: ServerMode) -> list[Finding]:
    if server.keeps_the_record and importlib.util.find_spec("torch") is None:
        return [Finding("torch", "ok", "not here, and not needed: API and searcher do without it, workers have it")]
    return [_torch(), _device(cuda_wanted=server.wants_cuda)]


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("python", "ok", version)
    return Finding(
        "python",
        "fails",
        f"expected 3.11 to 3.13, but this is {version}; make an environment with one of them",
    )


def _torch() -> Finding:
    """torch and torchvision are a pair: with the wrong partner torchvision's compiled operators are missing."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        return Finding("torch", "fails", "not installed; workers need it: pip install 'nasdet[worker]'")
    try:
        import torch
        import torchvision

        pair = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Finding(
            "torch",
            "fails",
            f"torch and torchvision do not fit together ({str(error).splitlines()[0]}); "
            "install a matching pair, e.g. with: pip install -c constraints.txt 'nasdet[worker]'",
        )
    if kept != [0]:
        return Finding(
            "torch",
            "fails",
            f"{pair}: non-maximum suppression gave {kept} where [0] is right; reinstall them",
        )
    return Finding("torch", "ok", pair)


def _device(*, cuda_wanted: bool) -> Finding:
    try:
        import torch
    except (ImportError, OSError):
        return Finding("device", "fails", "unknown, because torch cannot be imported")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Finding("device", "ok", f"CUDA {torch.version.cuda}: {names}, {properties.total_memory / 2**30:.0f} GiB")
    if cuda_wanted:
        return Finding(
            "device",
            "fails",
            "NASDET_DEVICE is cuda, but torch finds no CUDA device; check nvidia-smi and that the container gets the "
            "GPUs, or use the CPU (docker-compose.cpu.yml)",
        )
    return Finding(
        "device",
        "warning",
        "no CUDA device; workers use the CPU, which only suits small pictures and networks",
    )


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    verdict: Verdict = "ok" if memory >= 4 else "warning"
    advice = "" if memory >= 4 else "; expected 4 GiB or more, use --workers 1"
    return Finding("machine", verdict, f"{os.cpu_count()} cores, {memory:.0f} GiB of memory{advice}")


def _sqlite() -> Finding:
    """RETURNING came with SQLite 3.35."""
    if sqlite3.sqlite_version_info >= (3, 35):
        return Finding("sqlite", "ok", sqlite3.sqlite_version)
    return Finding(
        "sqlite",
        "fails",
        f"expected 3.35 or newer, but Python was built with {sqlite3.sqlite_version}; use another Python",
    )


def _disk(home: Path) -> Finding:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 2**30:.1f} GiB free at {there}"
    if free < MINIMUM_FREE_BYTES:
        return Finding(
            "disk", "fails", f"{text}; {MINIMUM_FREE_BYTES // 2**20} MiB are needed, make room or use --home"
        )
    return Finding("disk", "ok" if free > 5 * 2**30 else "warning", text)


def _writable(home: Path) -> Finding | None:
    """What keeps a process from writing to its home, which may have to be made; none where nothing does."""
    if not home.exists():
        parent = next(folder for folder in home.parents if folder.exists())
        if parent.is_dir() and os.access(parent, os.W_OK):
            return None
        return Finding("home", "fails", f"{parent} cannot be written to; choose another folder with --home")
    if not home.is_dir():
        return Finding("home", "fails", f"expected a folder, but {home} is a file; choose another one with --home")
    if not os.access(home, os.W_OK):
        return Finding("home", "fails", f"{home} cannot be written to; choose another folder with --home")
    return None


def _home(home: Path) -> Finding:
    trouble = _writable(home)
    if trouble is not None:
        return trouble
    if not home.exists():
        return Finding("home", "ok", f"{home} will be made at the first start")
    try:
        schema = Home(home).schema()
    except CommandError as error:
        return Finding("home", "fails", str(error))
    if schema is None:
        return Finding("home", "ok", f"{home} holds no platform yet")
    if schema > HOME_SCHEMA:
        return Finding("home", "fails", f"{home} was written by a newer nasdet (schema {schema}); use that version")
    return Finding("home", "ok", f"{home}, {'open in a running platform' if _is_locked(home) else 'not open'}")


def _is_locked(home: Path) -> bool:
    lock = home / "lock"
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _port(port: int) -> Finding:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                "port",
                "warning",
                f"{port} cannot be used ({error.strerror}); give `nasdet up` another --port",
            )
    return Finding("port", "ok", f"{port} is free")
