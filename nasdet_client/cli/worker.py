"""`nasdet worker`: run a worker here, or tell those of a running platform what they may do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from nasdet_client.cli.connection import connect
from nasdet_client.cli.options import HomeOption, JsonOption, ThreadsOption, TokenOption, UrlOption, default_home
from nasdet_client.cli.output import command, print_json, say
from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.sdk import NasdetClient

WORKER_MODULE = "services.worker"

app = typer.Typer(
    help="Run a worker on this machine (no subcommand), or list, pause, resume and drain those of a platform.",
    invoke_without_command=True,
    no_args_is_help=False,
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The worker's name, as `nasdet worker list` shows it; without -0, -1, … all slots of one with several.",
    ),
]


@app.callback()
@command
def start(
    context: typer.Context,
    url: UrlOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with a token of scope worker (default: HOME/worker-token)."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of this worker (default: the host's name).")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda (default: auto).")] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, max=64, help="Executors (default: one per GPU; on the CPU one)."),
    ] = None,
    threads: ThreadsOption = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", help="Celery's broker, e.g. redis://HOST:6379/0 (default: none, the worker polls)."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Folder for what this worker keeps (default: $NASDET_HOME, else ~/.nasdet)."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of the datasets, mounted alike on every machine.")
    ] = None,
) -> None:
    """Run a worker on this machine until Ctrl-C, or tell those of a platform what they may do.

    Every option may also be given as a variable, e.g. NASDET_URL, NASDET_WORKER_TOKEN_FILE, NASDET_BROKER_URL,
    NASDET_SLOTS.
    """
    options: dict[str, Any] = {
        "--url": url,
        "--token-file": token_file,
        "--name": name,
        "--device": device,
        "--slots": slots,
        "--threads": threads,
        "--broker": broker,
        "--home": home,
        "--data-root": data_root,
    }
    given = {option: str(value) for option, value in options.items() if value is not None}
    if context.invoked_subcommand is not None:
        if given:
            raise CommandError(
                f"expected options after the subcommand, but {' and '.join(given)} came before it; write "
                f"nasdet worker {context.invoked_subcommand} {' '.join(given)} ..."
            )
        return
    _become_a_worker(given)


def _become_a_worker(given: dict[str, str]) -> None:
    """This process is the worker from here on: signals and exit code are its own."""
    if find_spec("services") is None or find_spec(WORKER_MODULE) is None:
        raise CommandError("a worker needs more than the client: install nasdet[worker] on this machine")
    folder = Home(Path(given.get("--home") or default_home()))
    given["--home"] = str(folder.path)
    if "--url" not in given and not os.environ.get("NASDET_URL"):
        address = folder.address()
        if address is None:
            raise CommandError(
                f"no platform is running on the home {folder.path}; name the API's address with --url or NASDET_URL"
            )
        given["--url"] = address
    arguments = [part for pair in given.items() for part in pair]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", WORKER_MODULE, *arguments])


@app.command("list")
@command
def list_workers(
    url: UrlOption = None, token: TokenOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the workers that are there, what they hold and what they were told."""
    with connect(url, token, home) as client:
        workers = client.workers()
    if as_json:
        print_json(workers)
        return
    if not workers:
        say("no workers; start one with: nasdet worker --url URL --token-file FILE")
    for worker in workers:
        say(_line(worker))


@app.command()
@command
def pause(
    name: NameArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a worker finish the job it holds, and give it no other until it is resumed."""
    with connect(url, token, home) as client:
        _show([client.pause_worker(worker) for worker in _find(client, name)], as_json)


@app.command()
@command
def resume(
    name: NameArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a paused worker jobs again."""
    with connect(url, token, home) as client:
        _show([client.resume_worker(worker) for worker in _find(client, name)], as_json)


@app.command()
@command
def drain(
    name: NameArgument,
    now: Annotated[bool, typer.Option("--now", help="Give back the job it holds instead of finishing it.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a worker finish the job it holds, and end. Nobody is charged for what it gives back."""
    with connect(url, token, home) as client:
        _show([client.drain_worker(worker, now=now) for worker in _find(client, name)], as_json)


def _find(client: NasdetClient, name: str) -> list[int]:
    """The id of the worker of this name; those of all slots (NAME-0, NAME-1, …) where it has several."""
    workers = client.workers()
    found = [worker for worker in workers if worker["name"] == name] or [
        worker
        for worker in workers
        if worker["name"].startswith(f"{name}-") and worker["name"].removeprefix(f"{name}-").isdecimal()
    ]
    if found:
        return [int(worker["id"]) for worker in found]
    known = ", ".join(worker["name"] for worker in workers[:10]) or "none"
    raise CommandError(f"there is no worker {name!r} on this platform; there are: {known}")


def _show(workers: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(list(workers))
        return
    for worker in workers:
        say(_line(worker))


def _line(worker: dict[str, Any]) -> str:
    jobs = worker["jobs"]
    holds = f"job {', '.join(map(str, jobs))}" if jobs else "idle"
    seen = f"seen {worker['seconds_since_seen']:.0f} s ago"
    return f"{worker['name']:20}  {worker['mode']:8}  {holds:10}  {worker['device_name']} ({seen})"
