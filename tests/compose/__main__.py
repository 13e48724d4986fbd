"""`make compose-test`: one search in containers, undisturbed and with every service killed in turn: the same result.

Takes about 25 minutes on two cores. Skips with a reason where there is no Docker engine. Containers, volumes and
networks are removed at the end, however it ends; the images stay.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nasdet_client.local.runs import demo_specification
from nasdet_client.sdk import UnreachableError
from nasdet_core.data.demo import write_demo_dataset
from tests.compose.faults import FAULTS, Fault, Summary
from tests.compose.stack import DATASET, SERVICES, TAG, Stack, StackError, image_sizes, missing_engine

BASE_IMAGE = "python:3.11-slim-bookworm"
MAX_API_BYTES = 200 * 1000 * 1000  # above its base
FEWEST_TRIALS = 16
SEARCH_SECONDS = 3600.0
POLL_SECONDS = 1.0
STARTED = time.monotonic()


def say(sentence: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - STARTED:6.0f} s] {sentence}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="use the images of the last run")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, so that the containers go
    reason = missing_engine()
    if reason is not None:
        say(f"SKIPPED: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="nasdet-compose-") as folder:
        try:
            return compare(Path(folder), build=not given.no_build)
        except StackError as error:
            say(f"FAILED: {error}")
            return 1


def compare(folder: Path, *, build: bool) -> int:
    data_root = folder / "data"
    write_demo_dataset(data_root / DATASET)
    data_root.chmod(0o755)
    say(f"data set '{DATASET}' of generated pictures is in DATA_ROOT")
    undisturbed = run(folder, data_root, (), build=build)
    disturbed = run(folder, data_root, FAULTS, build=False)
    say(f"undisturbed: {undisturbed['verdict']}")
    say(f"disturbed:   {disturbed['verdict']}")
    say(f"timing_s undisturbed {json.dumps(undisturbed['timing_s'])}, disturbed {json.dumps(disturbed['timing_s'])}")
    differences = list(differing(comparable(undisturbed), comparable(disturbed)))
    for place in differences:
        say(f"DIFFERS: {place}")
    if differences:
        say(f"FAILED: the two results differ in {len(differences)} places")
        return 1
    count = len(json.dumps(comparable(disturbed)))
    say(f"PASSED: {disturbed['trials']['succeeded']} trials; final JSON equal except timing_s ({count} characters)")
    return 0


def run(folder: Path, data_root: Path, faults: Sequence[Fault], *, build: bool) -> Summary:
    """One search on fresh volumes, from the images to its last JSON."""
    stack = Stack(folder, data_root)
    try:
        if build:
            say("building the images")
            stack.build()
            check_images()
        say(f"starting {stack.name} on fresh volumes, {len(faults)} faults to come")
        stack.up()
        for service in ("api", "searcher", "worker-cpu"):
            say(f"nasdet doctor in {service}:\n{stack.doctor(service)}".rstrip())
        summary = search(stack, faults)
        check_stop(stack.stop())
        return summary
    except BaseException:
        for service in SERVICES:
            try:
                say(f"last lines of {service}:\n{stack.logs(service)}")
            except StackError as error:
                say(str(error))
        raise
    finally:
        say("removing containers and volumes")
        stack.remove()


def check_images() -> None:
    sizes = image_sizes(BASE_IMAGE, f"nasdet-api:{TAG}", f"nasdet-worker:{TAG}")
    above = sizes[f"nasdet-api:{TAG}"] - sizes[BASE_IMAGE]
    say(f"images, bytes: {json.dumps(sizes)}; API {above / 1e6:.0f} MB above its base")
    if above > MAX_API_BYTES:
        raise StackError(f"expected the API's image to add at most {MAX_API_BYTES / 1e6:.0f} MB to its base")


def check_stop(codes: Mapping[str, int]) -> None:
    """Everybody heard the signal and ended by themselves; uvicorn ends with the signal it was sent."""
    say(f"stopped; exit codes {json.dumps(codes)}")
    killed = [name for name, code in codes.items() if code not in ((0, 143) if name == "api" else (0,))]
    if killed:
        raise StackError(f"expected every service to end in order, but these did not: {', '.join(killed)}")


def search(stack: Stack, faults: Sequence[Fault]) -> Summary:
    """Submit the demo's search over REST, strike when a fault is due, and return the final summary."""
    waiting = list(faults)
    deadline = time.monotonic() + SEARCH_SECONDS
    with stack.client() as client:
        submitted = client.submit_search(demo_specification(DATASET), idempotency_key="compose-test")
        number = int(submitted["search"]["id"])
        say(f"search {number} submitted")
        shown = ""
        while time.monotonic() < deadline:
            try:
                summary = client.search(number)
            except UnreachableError as error:
                raise StackError(f"the API stayed away: {error}") from error
            now = describe(summary)
            if now != shown:
                say(now)
                shown = now
            if summary["search"]["state"] in ("succeeded", "failed", "cancelled"):
                return finished(summary, waiting)
            if waiting and waiting[0].is_due(summary):
                fault = waiting.pop(0)
                say(f"FAULT: {fault.name}")
                fault.strike(stack)
                say("it is healthy again")
            time.sleep(POLL_SECONDS)
    raise StackError(f"the search did not end within {SEARCH_SECONDS:g} s: {shown}")


def describe(summary: Summary) -> str:
    trials = summary["trials"]
    return f"stage {summary['search']['stage']}: {trials['succeeded']} of {trials['planned']} candidates scored"


def finished(summary: Summary, left: Sequence[Fault]) -> Summary:
    what = summary["search"]
    if what["state"] != "succeeded":
        raise StackError(f"the search {what['state']} at stage {what['stage']}: {what['reason']}")
    if left:
        raise StackError(f"the search ended before {len(left)} faults were due, the first: {left[0].name}")
    if summary["trials"]["succeeded"] < FEWEST_TRIALS:
        raise StackError(f"expected {FEWEST_TRIALS} scored candidates or more, got {summary['trials']}")
    return summary


def comparable(summary: Summary) -> Summary:
    return {key: value for key, value in summary.items() if key != "timing_s"}


def differing(one: object, other: object, place: str = "") -> list[str]:
    """Where two JSON values differ, each with both values."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [text for key in one for text in differing(one[key], other[key], f"{place}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for index, (left, right) in pairs for text in differing(left, right, f"{place}[{index}]")]
    return [] if one == other else [f"{place}: {one!r} and {other!r}"]


if __name__ == "__main__":
    sys.exit(main())
