"""`nasdet evaluate`: COCO's and Pascal VOC's numbers of detections in a file, or of a detector on a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from nasdet_client.cli.options import JsonOption
from nasdet_client.cli.output import command, console, error_console, print_json, say, visible
from nasdet_client.errors import CommandError

Json = Mapping[str, Any]

DEFAULT_SPLIT, DEFAULT_BATCH_SIZE = "val", 8
VOC_RULES = "IoU >= 0.5, width = x2 - x1 + 1, recall 0:0.1:1 or area, difficult objects left out"

# COCO's order and words (COCOeval.summarize).
LINES = (
    ("AP", "Average Precision", "0.50:0.95", "all", 100),
    ("AP50", "Average Precision", "0.50", "all", 100),
    ("AP75", "Average Precision", "0.75", "all", 100),
    ("AP_small", "Average Precision", "0.50:0.95", "small", 100),
    ("AP_medium", "Average Precision", "0.50:0.95", "medium", 100),
    ("AP_large", "Average Precision", "0.50:0.95", "large", 100),
    ("AR_1", "Average Recall", "0.50:0.95", "all", 1),
    ("AR_10", "Average Recall", "0.50:0.95", "all", 10),
    ("AR_100", "Average Recall", "0.50:0.95", "all", 100),
    ("AR_small", "Average Recall", "0.50:0.95", "small", 100),
    ("AR_medium", "Average Recall", "0.50:0.95", "medium", 100),
    ("AR_large", "Average Recall", "0.50:0.95", "large", 100),
)


@command
def evaluate(
    gt: Annotated[
        Path | None, typer.Option("--gt", metavar="GT.json", help="Ground truth: a COCO instances file.")
    ] = None,
    detections: Annotated[
        Path | None, typer.Option("--detections", metavar="DT.json", help="Detections: a COCO results file.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="A detector file, in place of --detections.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The dataset's folder, in place of --gt.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help=f"Which pictures of the dataset (default: {DEFAULT_SPLIT}).")
    ] = None,
    voc: Annotated[
        bool, typer.Option("--voc", help=f"Pascal VOC's mAP in place of COCO's numbers: {VOC_RULES}.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, max=1024, help=f"Pictures at once (default: {DEFAULT_BATCH_SIZE})."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score detections: --gt and --detections for two files, or --model and --data for a detector.

    COCO's numbers of two files are pycocotools' own. Files that do not belong together are refused.
    """
    by_files = {"--gt": gt, "--detections": detections}
    by_model = {"--model": model, "--data": data, "--split": split, "--batch-size": batch_size}
    _check_options(by_files, by_model)
    if gt is not None and detections is not None:
        result = _of_files(gt, detections, voc=voc)
    else:
        result = _of_model(model, data, split or DEFAULT_SPLIT, batch_size or DEFAULT_BATCH_SIZE, voc=voc)
    if as_json:
        print_json(result)
    else:
        _report_voc(result) if voc else _report_coco(result)


def _check_options(by_files: Json, by_model: Json) -> None:
    ways = "give --gt and --detections for two files, or --model and --data for a detector"
    files = [name for name, value in by_files.items() if value is not None]
    others = [name for name, value in by_model.items() if value is not None]
    if files and others:
        raise CommandError(f"{others[0]} does not go with {files[0]}; {ways}")
    if not files and not others:
        raise CommandError(f"nothing to evaluate; {ways}")
    needed = by_files if files else {name: by_model[name] for name in ("--model", "--data")}
    missing = next((name for name, value in needed.items() if value is None), None)
    if missing is not None:
        raise CommandError(f"{(files or others)[0]} needs {missing} as well; {ways}")


def _of_files(gt: Path, detections: Path, *, voc: bool) -> Json:
    from nasdet_client.local.evaluate import evaluate_files

    with error_console().status("comparing detections with the ground truth"):
        return evaluate_files(gt, detections, voc=voc)


def _of_model(model: Path | None, data: Path | None, split: str, batch_size: int, *, voc: bool) -> Json:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from nasdet_client.local.evaluate import ModelOptions, evaluate_model

    if model is None or data is None:  # _check_options refused it
        raise CommandError("--model and --data go together")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    notes = error_console()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        return evaluate_model(
            ModelOptions(model, data, split, batch_size),
            voc=voc,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )


def _report_coco(result: Json) -> None:
    for key, title, iou, area, detections in LINES:
        short = f"({'AP' if key.startswith('AP') else 'AR'})"
        value = _number(result["metrics"][key])
        say(f" {title:<18} {short} @[ IoU={iou:<9} | area={area:>6s} | maxDets={detections:>3d} ] = {value}")
    if "standard_error" in result:
        say(f"standard error of AP over the choice of pictures: {_number(result['standard_error'])}")
    _print_table(result, {"AP": "AP", "AP50": "AP50"})
    _print_end(result)


def _report_voc(result: Json) -> None:
    say(f"mAP at IoU 0.5, 11 points (VOC2007)       = {_number(result['metrics']['mAP_11_point'])}")
    say(f"mAP at IoU 0.5, area (VOC2010 and later)  = {_number(result['metrics']['mAP_area'])}")
    say(f"by the rules of the VOC development kit: {VOC_RULES}")
    columns = {"AP, 11 points": "AP_11_point", "AP, area": "AP_area", "objects": "objects", "detections": "detections"}
    _print_table(result, columns)
    _print_end(result)


def _print_table(result: Json, columns: Mapping[str, str]) -> None:
    """`columns`: heading -> key of a category's entry."""
    table = Table("class", title_justify="left")
    for heading in ("id", *columns):
        table.add_column(heading, justify="right")
    for name, entry in result["per_category"].items():
        # Text: a class may be called [red]
        table.add_row(
            Text(visible(name)), str(entry["category_id"]), *(_number(entry[key]) for key in columns.values())
        )
    console().print(table)


def _print_end(result: Json) -> None:
    say(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result["counts"].items()))
    for sentence in result["warnings"]:
        say(f"warning: {sentence}")


def _number(value: float | None) -> str:
    """A count as it is, AP with four digits, what is undefined as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
