"""The report of a dataset's check for a person: what is there, how far AP can be trusted, what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from nasdet_client.cli.output import console, say, visible

Json = Mapping[str, Any]

MOST_CLASSES = 20
MOST_SENTENCES = 20  # of one kind
BAR_LENGTH = 30  # characters of the longest bar of a histogram
EFFECTS = {
    "left out": "left out",
    "repaired": "repaired and used",
    "noted": "noted, used as they are",
}


def print_check(report: Json) -> None:
    """Tables of counts, then the defects as sentences."""
    say(f"{report['format'].upper()} format: {report['layout']}")
    out = console()
    out.print(_splits_table(report))
    out.print(_classes_table(report))
    _print_class_map(report)
    _print_sizes(report)
    _print_use(report)
    _print_defects(report)


def _splits_table(report: Json) -> Table:
    headings = ("split", "pictures", "empty", "boxes", "usable", "crowd", "difficult", "truncated", "per picture",
                "small", "medium", "large")  # fmt: skip
    table = _table(headings)
    for name, split in report["splits"].items():
        spread = split["boxes_in_a_picture"]
        table.add_row(
            escape(visible(name)),
            *(f"{split[key]:,}" for key in ("pictures", "pictures_without_boxes", "boxes_written", "boxes")),
            *(f"{split[key]:,}" for key in ("crowd", "difficult", "truncated")),
            f"{spread['fewest']} - {spread['most']}",
            *(f"{split[key]:,}" for key in ("small", "medium", "large")),
        )
    return table


def _classes_table(report: Json) -> Table:
    """Usable boxes by class and split, most frequent class first."""
    splits = report["splits"]
    totals = {name: sum(split["boxes_by_class"][name] for split in splits.values()) for name in report["classes"]}
    everything = sum(totals.values())
    ranked = sorted(totals, key=lambda name: -totals[name])
    table = _table(("class (usable boxes)", *splits, "all", "share"))
    for name in ranked[:MOST_CLASSES]:
        counts = (f"{split['boxes_by_class'][name]:,}" for split in splits.values())
        share = f"{totals[name] / everything:.1%}" if everything else ""
        table.add_row(escape(visible(name)), *counts, f"{totals[name]:,}", share)
    if len(ranked) > MOST_CLASSES:
        table.add_row(f"and {len(ranked) - MOST_CLASSES} more (--json)")
    return table


def _table(headings: Sequence[str]) -> Table:
    """The first column is text, the others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(escape(visible(heading)), justify="right" if number else "left", no_wrap=True)
    return table


def _print_class_map(report: Json) -> None:
    if "category_ids_mapped" not in report["defect_counts"]:
        return
    shown = [f"{entry['id']} {visible(entry['name'])} -> {entry['label']}" for entry in report["class_map"]]
    more = len(shown) - MOST_CLASSES
    say(f"class map: {', '.join(shown[:MOST_CLASSES])}{f', and {more} more (--json)' if more > 0 else ''}")


def _print_sizes(report: Json) -> None:
    sizes = report["picture_sizes"]
    listed = ", ".join(f"{size['width']}x{size['height']} ({size['pictures']:,})" for size in sizes[:5])
    others = report["distinct_picture_sizes"] - min(5, len(sizes))
    say(f"picture sizes: {listed}{f', and {others} more' if others > 0 else ''}")
    unlisted = report["notes"].get("unlisted_pictures", 0)
    if unlisted:
        say(f"{unlisted:,} pictures lie beside these and are in no annotation; they are not used")
    numbering = report["numbering"]
    if numbering is not None and 2 * numbering["missing"] < numbering["last"] - numbering["first"]:
        gaps = f"{numbering['missing']:,} numbers between are missing" if numbering["missing"] else "none is missing"
        say(f"pictures are numbered {numbering['first']} to {numbering['last']}; {gaps}")
    for line in _histogram(list(report["splits"].values())):
        say(line)


def _histogram(splits: Sequence[Json]) -> list[str]:
    """Objects of all splits by size."""
    if not splits:
        return []
    bins = splits[0]["object_sizes"]
    counts = [sum(split["object_sizes"][number]["objects"] for split in splits) for number in range(len(bins))]
    largest = max(counts, default=0) or 1
    lines = ["objects by size (square root of their area, pixels):"]
    for entry, count in zip(bins, counts, strict=True):
        name = f"{entry['from']} and more" if entry["below"] is None else f"{entry['from']} to {entry['below']}"
        lines.append(f"  {name:>12}  {'#' * round(BAR_LENGTH * count / largest):{BAR_LENGTH}} {count:>8,}")
    return lines


def _print_use(report: Json) -> None:
    for role, planned in (report.get("planned_splits") or {}).items():
        line = f"a search uses {planned['pictures']:,} pictures of {planned['name']} for: {role}"
        say(line + _trust(report["trust"].get(role)))
    if report.get("splits_problem"):
        say(f"not usable for a search: {report['splits_problem']}")
    for sentence in report["advice"]:
        say(f"advice: {sentence}")


def _trust(figures: Json | None) -> str:
    if not figures or figures["expected_ap_error"] is None:
        return ""
    return (
        f" (expected error of its AP: about ±{figures['expected_ap_error']:.3f}; candidates that differ by less than "
        f"{figures['smallest_difference']:.3f} are hardly told apart)"
    )


def _print_defects(report: Json) -> None:
    if not report["defects"]:
        say("no defects found")
    for effect, title in EFFECTS.items():
        defects = [defect for defect in report["defects"] if defect["effect"] == effect]
        if defects:
            say(f"{title}:")
        said: Counter[str] = Counter()
        for defect in defects:
            said[defect["kind"]] += 1
            if said[defect["kind"]] <= MOST_SENTENCES:
                say(f"  {defect['message']}")
        for kind, count in said.items():
            if count > MOST_SENTENCES:
                say(f"  and {count - MOST_SENTENCES:,} more sentences about {kind} (--json)")


def print_short_check(report: Json) -> None:
    """One line for each split, and how many defects there are; for commands that only pass by."""
    for name, split in report["splits"].items():
        say(f"{name:10} {split['pictures']:>7,} pictures  {split['boxes']:>8,} boxes")
    counts = {
        title: sum(defect["count"] for defect in report["defects"] if defect["effect"] == effect)
        for effect, title in EFFECTS.items()
    }
    found = ", ".join(f"{count:,} {title}" for title, count in counts.items() if count)
    say(f"defects: {found or 'none'}")
