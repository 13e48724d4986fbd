"""Summaries of searches as text for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from nasdet_client.cli.output import console, say
from nasdet_client.cli.progress import describe_search, describe_seconds

Json = Mapping[str, Any]

ROWS = (("final", "winner"), ("baseline", "baseline"), ("control", "random control"))


def print_report(summary: Json, home: Path | None = None) -> None:
    """The result table and the sentences that belong to it; of an unfinished search what is known so far.

    `home` is where the winner's weights are looked for; elsewhere they are named by their SHA-256.
    """
    search = summary["search"]
    say(f"search {search['id']} {search.get('name') or ''} {search['state']}".replace("  ", " "))
    if summary.get("best"):
        _print_best(summary)
    if summary.get("final"):
        console().print(_result_table(summary))
    for line in _remarks(summary):
        say(line)
    weights = weights_line(summary, home)
    if weights:
        say(weights)


def weights_line(summary: Json, home: Path | None) -> str | None:
    """Where the winner's weights are. Of several seeds the one whose AP is nearest to the median that is reported."""
    final = summary.get("final") or {}
    runs = [run for run in final.get("seeds", []) if run.get("weights") and run["box_map"] is not None]
    if not runs or final.get("box_map") is None:
        return None
    run = min(runs, key=lambda run: (abs(run["box_map"] - final["box_map"]), run["seed"]))
    what = f"winner's weights (seed {run['seed']}, AP {_ap(run['box_map'])})"
    if home is not None:
        from nasdet_client.local.model_file import weights_file

        file = weights_file(home, run["weights"])
        if file.is_file():
            return f"{what}: {file}; look at what they find with: nasdet predict {file} IMAGE"
    return f"{what}: artifact {run['weights']}"


def _print_best(summary: Json) -> None:
    best = summary["best"]
    say(describe_search(dict(summary)))
    say(f"best candidate: {' '.join(map(str, best['genotype']))}  ({best['architecture_id']})")
    tied = best.get("tied_with") or []
    if tied:
        numbers = ", ".join(map(str, tied))
        say(f"tied with it within one paired standard error: {len(tied)} candidates (trials {numbers})")
    else:
        say("no other candidate is within one paired standard error of it")


def _result_table(summary: Json) -> Table:
    height, width = summary["image_size"]
    caption = f"AP (0 to 1) on split {summary['final']['split']}, median over seeds; costs at {height}x{width} pixels"
    table = Table(title=caption, title_justify="left")
    for heading in ("detector", "AP", "± error", "seeds", "AP50", "MACs", "parameters"):
        table.add_column(heading, justify="left" if heading == "detector" else "right")
    for key, name in ROWS:
        row = summary.get(key)
        if row:
            table.add_row(name, *_cells(row))
    return table


def _cells(row: Json) -> list[str]:
    if row.get("box_map") is None:
        return ["not trained", "", "", "", *_costs(row)]
    spread = row["spread"]
    return [
        _ap(row["box_map"]),
        _ap(row.get("standard_error")),
        _spread(spread, sum(seed["box_map"] is not None for seed in row["seeds"])),
        _ap(row.get("box_ap50")),
        *_costs(row),
    ]


def _spread(spread: Sequence[float], seeds: int) -> str:
    return f"{_ap(spread[0])} - {_ap(spread[1])} ({seeds})" if seeds > 1 else "one seed"


def _costs(row: Json) -> list[str]:
    return [f"{row['macs'] / 1e6:,.1f} M", f"{row['params'] / 1e6:,.2f} M"]


def _ap(value: float | None) -> str:
    """Four digits, so that candidates that differ do not look alike."""
    return "" if value is None else f"{value:.4f}"


def _remarks(summary: Json) -> list[str]:
    lines = []
    supernet = summary.get("supernet") or {}
    if supernet.get("mean_box_map") is not None:
        line = f"supernet: mean AP of its candidates {_ap(supernet['mean_box_map'])}"
        if supernet.get("baseline_box_map") is not None:
            line += f", one path trained alike {_ap(supernet['baseline_box_map'])}"
        lines.append(line)
    if supernet.get("warning"):
        lines.append(f"warning: {supernet['warning']}")
    if summary.get("limits") and summary.get("acceptance_rate") is not None:
        lines.append(f"limits: {100 * summary['acceptance_rate']:.0f} % of uniform samples are within them")
    timing = summary.get("timing_s") or {}
    if timing.get("candidates_per_hour"):
        lines.append(f"speed: {timing['candidates_per_hour']:,.0f} candidates per hour")
    stages = [
        f"{name} {describe_seconds(value)}"
        for name, value in timing.items()
        if name != "candidates_per_hour" and value is not None
    ]
    if stages:
        lines.append(f"time: {', '.join(stages)}")
    for sentence in ("control_verdict", "verdict"):
        if summary.get(sentence):
            lines.append(str(summary[sentence]))
    return lines
