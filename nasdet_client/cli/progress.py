"""Following a search: moving bars on a terminal, one line per change otherwise. All of it goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nasdet_client.sdk import NasdetClient

Json = dict[str, Any]

EVERY_S = 1.0
LINE_EVERY_S = 15.0  # between two plain lines about the same job


def follow(client: NasdetClient, search_id: int, console: Console) -> Json:
    """Show a search until it has ended; return its last summary."""
    view = _Bars(console) if console.is_terminal else _Lines(console)
    with view:
        for summary in client.watch_search(search_id, every_s=EVERY_S):
            view.update(summary, _running(summary))
    return summary


def _running(summary: Json) -> list[Json]:
    jobs: list[Json] = (summary.get("progress") or {}).get("jobs", [])
    return [job for job in jobs if job["state"] == "running"]


def describe_progress(progress: Mapping[str, Any]) -> str:
    """What a job says of itself, e.g. "epoch 3/60, loss 1.234, 2 min left"."""
    parts = []
    if progress.get("epochs"):
        parts.append(f"epoch {progress.get('epoch', 0):.0f}/{progress['epochs']:.0f}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3f}")
    if progress.get("trial") is not None:
        parts.append(f"trial {progress['trial']}")
    if progress.get("eta_s") is not None:
        parts.append(f"{describe_seconds(progress['eta_s'])} left")
    return ", ".join(parts)


def describe_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


TRIAL_STATES = ("queued", "running", "succeeded", "failed", "infeasible", "lost", "cancelled")


def trial_counts(summary: Json) -> dict[str, int]:
    """How many candidates are in which state."""
    return {state: summary["trials"].get(state, 0) for state in TRIAL_STATES}


def describe_search(summary: Json) -> str:
    """Stage, candidates and the best so far in one line."""
    parts = [f"search {summary['search']['id']}: {summary['search']['stage']}"]
    counts = trial_counts(summary)
    if any(counts.values()):
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        planned = summary["trials"].get("planned")
        parts.append(f"candidates{f' of {planned}' if planned else ''}: {states}")
    progress = summary.get("progress") or {}
    if progress.get("needs_somebody"):
        parts.append(f"waits for {progress['waits_for']}")
    best = summary.get("best")
    if best:
        error = f" ± {best['standard_error']:.3f}" if best.get("standard_error") is not None else ""
        parts.append(f"best AP {best['box_map']:.4f}{error} ({best['split']})")
    return "; ".join(parts)


class _Lines:
    """For logs and pipes: a line when something changed, and now and then what a long job is at."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""
        self._said_at: dict[int, float] = {}

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None

    def update(self, summary: Json, jobs: list[Json]) -> None:
        line = describe_search(summary)
        if line != self._said:
            self._print(line)
            self._said = line
        now = time.monotonic()
        for job in jobs:
            text = describe_progress(job.get("progress") or {})
            if text and now - self._said_at.get(job["id"], 0.0) >= LINE_EVERY_S:
                self._print(f"  {job['purpose']}: {text}")
                self._said_at[job["id"]] = now

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


class _Bars:
    """For terminals: a bar per running job under a line about the search."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._search = self._bars.add_task("search", total=None, note="")
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bars.stop()

    def update(self, summary: Json, jobs: list[Json]) -> None:
        total = summary["trials"].get("planned")
        done = sum(count for state, count in trial_counts(summary).items() if state not in ("queued", "running"))
        self._bars.update(self._search, completed=done, total=total, note=describe_search(summary))
        for gone in set(self._tasks) - {job["id"] for job in jobs}:
            self._bars.remove_task(self._tasks.pop(gone))
        for job in jobs:
            progress = job.get("progress") or {}
            if job["id"] not in self._tasks:
                self._tasks[job["id"]] = self._bars.add_task(job["purpose"], total=None, note="")
            self._bars.update(
                self._tasks[job["id"]],
                completed=progress.get("step", progress.get("trials_done", 0)) or 0,
                total=progress.get("steps", progress.get("trials")),
                note=describe_progress(progress),
            )
