"""Checks a list of COCO detections (https://cocodataset.org/#format-results) by itself."""

from __future__ import annotations

from dataclasses import dataclass

from nasdet_core.evaluation.coco_json import (
    BrokenFileError,
    Json,
    ScoreError,
    SwappedFilesError,
    box_of,
    id_needed,
    image_id,
    integer_id,
    is_number,
    quote,
)


@dataclass(frozen=True, eq=False, slots=True)
class Results:
    """A checked list of detections, each with the keys image_id, category_id, bbox (x, y, width, height) and
    score."""

    shown: str
    detections: tuple[Json, ...]


def check_detections(content: object, shown: str) -> Results:
    """Check the content of a results file. Raises a CocoFileError of one sentence."""
    expected = "a list of detections, [{image_id, category_id, bbox, score}, ...]"
    if isinstance(content, dict):
        entries = content.get("annotations")
        if not isinstance(entries, list):
            raise BrokenFileError(f"{shown}: expected {expected}, found an object with {_keys(content)}")
        if any(isinstance(entry, dict) and "score" in entry for entry in entries[:1]):
            raise BrokenFileError(
                f"{shown}: expected {expected}, found them inside an object; write its list 'annotations' alone"
            )
        raise SwappedFilesError(
            f"{shown}: expected {expected}, found a COCO ground truth (an object with 'annotations', without scores); "
            f"are the ground truth and the detections swapped?"
        )
    if not isinstance(content, list):
        raise BrokenFileError(f"{shown}: expected {expected}, found {quote(content)}")
    return Results(shown, tuple(_detection(entry, f"{shown}: entry [{n}]") for n, entry in enumerate(content)))


def _detection(entry: object, where: str) -> Json:
    if not isinstance(entry, dict):
        raise BrokenFileError(f"{where} must be an object with image_id, category_id, bbox and score")
    if "score" not in entry and "id" in entry and {"area", "iscrowd"} & set(entry):
        raise SwappedFilesError(
            f"{where} has no 'score' but an 'id', as the annotations of a ground truth have; give the file that the "
            f"detector wrote"
        )
    image, category = image_id(entry.get("image_id")), integer_id(entry.get("category_id"))
    if image is None:
        raise BrokenFileError(f"{where} needs {id_needed('image_id', entry.get('image_id'))}")
    if category is None:
        raise BrokenFileError(
            f"{where} needs {id_needed('category_id', entry.get('category_id'))}; write the id that the ground truth's "
            f"'categories' give the class"
        )
    return {"image_id": image, "category_id": category, "bbox": box_of(entry, where), "score": _score(entry, where)}


def _score(entry: Json, where: str) -> float:
    if "score" not in entry:
        raise ScoreError(f"{where} has no 'score'; every detection needs one, by which they are ranked")
    score = entry["score"]
    if not is_number(score):
        raise ScoreError(f"{where}: 'score' must be a finite number, found {quote(score)}")
    number: float = score
    return number


def _keys(content: Json) -> str:
    return f"the keys {quote(', '.join(sorted(map(str, content))))}" if content else "no keys"
