"""One search from its specification to its summary on the embedded platform."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from nasdet_client.errors import CommandError
from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home
from nasdet_client.local.spec_file import read_specification, specification_key
from nasdet_client.sdk import NasdetClient

DEMO_DATA = "demo-data"
Summary = dict[str, Any]


def prepare_run(specification: Path, data_directory: Path | None) -> dict[str, Any]:
    """Read a specification and look, before anything is started, whether its dataset can be found."""
    body = read_specification(specification)
    if data_directory is None and not isinstance(body.get("dataset"), str):
        raise CommandError(f"{specification} names no dataset; add `dataset: NAME`, or give its folder with --data DIR")
    if data_directory is not None and not data_directory.expanduser().is_dir():
        what = "is a file" if data_directory.is_file() else "does not exist"
        raise CommandError(f"expected a dataset directory, but {data_directory} {what}; check --data")
    return body


def finish_run(
    platform: Embedded,
    specification: dict[str, Any],
    follow: Callable[[NasdetClient, int], Summary],
    notify: Callable[[str], None],
) -> Summary:
    """Submit a search, or find the one this home already has for the same specification, and follow it to its end.

    One that failed or was cancelled here is not shown again: the cause may be gone, so it is started anew.
    """
    with platform.client() as client:
        key = specification_key(specification)
        submitted = client.submit_search(specification, idempotency_key=key)
        tries = 1
        while submitted["search"]["state"] in ("failed", "cancelled"):
            ended, tries = submitted["search"], tries + 1
            submitted = client.submit_search(specification, idempotency_key=f"{key}-{tries}")
            notify(f"search {ended['id']} {ended['state']} ({ended['reason']}); starting anew")
        if submitted["search"]["state"] == "succeeded":
            notify("this search is finished in this home: its result is shown; choose another --home to run it again")
        return follow(client, int(submitted["search"]["id"]))


def demo_specification(dataset: str) -> dict[str, Any]:
    """The preset that `nasdet demo` runs."""
    preset = resources.files("nasdet_client.local") / "presets" / "demo.yaml"
    with resources.as_file(preset) as file:
        return {**read_specification(file), "dataset": dataset}


def prepare_demo_data(home: Home, notify: Callable[[str], None]) -> None:
    """Generate the demo's pictures in the home, unless they are there. Half-written ones are never taken for whole."""
    try:
        from nasdet_core.data.demo import write_demo_dataset
        from nasdet_core.errors import NasDetError
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the demo's pictures need the package {error.name}; install it with: pip install 'nasdet[embedded]'"
        ) from error
    if not (home.path / DEMO_DATA).exists():
        notify("generating the demo's pictures")
    try:
        write_demo_dataset(home.path / DEMO_DATA)
    except NasDetError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(
            f"cannot write the demo's pictures to {home.path / DEMO_DATA}: {error.strerror or error}; "
            "make room, or choose another folder with --home",
            exit_code=1,
        ) from error
