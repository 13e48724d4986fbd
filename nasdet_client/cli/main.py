"""The `nasdet` command and its top-level commands."""

from __future__ import annotations

import signal
import threading
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from nasdet_client.cli import data, evaluate, importing, predict, search, spaces, token, worker
from nasdet_client.cli.options import HomeOption, JsonOption, ThreadsOption, WorkersOption, default_home
from nasdet_client.cli.output import (
    command,
    error_console,
    exit_unless_succeeded,
    print_json,
    say,
    stop_in_order_when_told_to,
    write_anything,
)
from nasdet_client.cli.progress import follow
from nasdet_client.cli.report import print_report
from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home
from nasdet_client.local.runs import DEMO_DATA, demo_specification, finish_run, prepare_demo_data, prepare_run

app = typer.Typer(
    name="nasdet",
    help="Search object-detector architectures on your own data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(search.app, name="search")
app.add_typer(data.app, name="data")
app.add_typer(token.app, name="token")
app.add_typer(spaces.app, name="spaces")
app.add_typer(worker.app, name="worker")
app.command(name="cost")(spaces.cost)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="import")(importing.import_checkpoint)
app.command(name="predict")(predict.predict)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"nasdet {metadata.version('nasdet')}")
        raise typer.Exit


@app.callback()
def _main(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search object-detector architectures on your own data."""
    write_anything()


@app.command()
@command
def demo(
    home: Annotated[Path, typer.Option(help="Folder of the demo's platform and data.")] = Path(".nasdet/demo"),
    as_json: JsonOption = False,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run the whole job on generated data and print what it found.

    On a terminal the platform goes on serving until Ctrl-C. Run again, it shows the result that is there already, or
    goes on where it was stopped.
    """
    stop_in_order_when_told_to()
    notes = error_console()
    folder = Home(home)
    with Embedded(folder, workers=workers, threads=threads, notify=notes.print) as platform:
        notes.print(f"home {folder.path}, API {platform.url}")
        prepare_demo_data(folder, notes.print)
        specification = demo_specification(folder.register_dataset(folder.path / DEMO_DATA))
        summary = finish_run(platform, specification, lambda client, number: follow(client, number, notes), notes.print)
        print_json(summary) if as_json else print_report(summary, folder.path)
        exit_unless_succeeded(summary["search"])
        if not as_json and notes.is_terminal:
            notes.print(f"serving on {platform.url} until Ctrl-C; the token is in {folder.token_file}")
            _wait_for_signal()


@app.command()
@command
def run(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The search specification.")],
    data_directory: Annotated[
        Path | None, typer.Option("--data", help="The dataset's folder (COCO, VOC or YOLO); wins over `dataset:`.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run one search to its end on this machine and print what it found.

    Stopped and run again with the same home it goes on where it was.
    """
    stop_in_order_when_told_to()
    notes = error_console()
    folder = Home(home or default_home())
    wanted = prepare_run(specification, data_directory)
    with Embedded(folder, workers=workers, threads=threads, notify=notes.print) as platform:
        notes.print(f"home {folder.path}, API {platform.url}")
        if data_directory is not None:
            wanted["dataset"] = folder.register_dataset(data_directory)
        summary = finish_run(platform, wanted, lambda client, number: follow(client, number, notes), notes.print)
    print_json(summary) if as_json else print_report(summary, folder.path)
    exit_unless_succeeded(summary["search"])


@app.command()
@command
def up(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")] = 8765,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name or address under which other machines may reach it; repeatable."),
    ] = None,
    data_directories: Annotated[
        list[Path] | None, typer.Option("--data", help="A dataset's folder to make known; may be repeated.")
    ] = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Start the platform on this machine and keep it running until Ctrl-C."""
    stop_in_order_when_told_to()
    notes = error_console()
    folder = Home(home or default_home())
    with Embedded(
        folder,
        host=host,
        port=port,
        allowed_hosts=allowed_hosts or (),
        workers=workers,
        threads=threads,
        notify=notes.print,
    ) as platform:
        for directory in data_directories or []:
            name = folder.register_dataset(directory)
            with platform.client() as client:
                client.create_dataset(name)
            notes.print(f"dataset {name}: {directory}")
        notes.print(f"nasdet is up: {platform.url}, home {folder.path}, token in {folder.token_file}; Ctrl-C stops it")
        _wait_for_signal()


@app.command()
@command
def doctor(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that `nasdet up` would use.")] = 8765,
    as_json: JsonOption = False,
) -> None:
    """Check this machine: Python, torch pair, device, disk, port, home. Exit code 1 when something will not work."""
    from nasdet_client.local.doctor import examine

    findings = examine((home or default_home()).expanduser().resolve(), port)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            say(f"{finding.verdict:7} {finding.subject:{width}}  {finding.text}")
    if any(finding.verdict == "fails" for finding in findings):
        raise typer.Exit(1)


def _wait_for_signal() -> None:
    """Block until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    stop.wait()
