"""AP of detections that a file holds, and of a detector file on a dataset of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdet_client.errors import CommandError
from nasdet_client.local.model_file import read_model_header

if TYPE_CHECKING:  # torch and pycocotools are loaded when something is evaluated, not when the command is described
    from nasdet_core.data.in_memory import Dataset, ImageRecord
    from nasdet_core.detectors.detector import Detector
    from nasdet_core.evaluation.coco_map import Detections
    from nasdet_core.evaluation.voc_map import VocClassScore, VocScores

Json = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much there is)."""

MOST_SHOWN = 5  # classes that a sentence lists


@dataclass(frozen=True)
class ModelOptions:
    """A detector file and what it is scored on."""

    model: Path
    data: Path
    split: str
    batch_size: int


def evaluate_files(ground_truth: Path, detections: Path, *, voc: bool) -> Json:
    """COCO's or Pascal VOC's numbers of a COCO results file. Raises CommandError when they would mean nothing."""
    with _sentences():
        from nasdet_core.evaluation.coco_files import load_pair, score_coco
        from nasdet_core.evaluation.voc_files import score_voc_files

        pair = load_pair(ground_truth, detections)
        if voc:
            found = score_voc_files(pair)
            return {
                **_voc_json(found.scores, found.per_category),
                "counts": pair.counts(),
                "warnings": list(pair.warnings),
            }
        scores = score_coco(pair)
        return {
            "metrics": dict(scores.metrics),
            "per_category": {
                name: {"category_id": score.category_id, "AP": score.ap, "AP50": score.ap50}
                for name, score in scores.per_category.items()
            },
            "counts": pair.counts(),
            "warnings": [*pair.truth.coco_warnings, *pair.warnings],
        }


def evaluate_model(options: ModelOptions, *, voc: bool, progress: Progress) -> Json:
    """The same numbers of a detector file on a split of a dataset; classes of the two are matched by name.

    Difficult objects count neither way. `standard_error` (of AP) says how far the choice of pictures moves it.
    Raises CommandError when the model, the dataset or the split cannot be used, or they have no class in common.
    """
    header = read_model_header(options.model)
    if header.space.blocks:
        raise CommandError(
            f"{options.model} holds a supernet, in which {len(header.space.blocks)} blocks still have several "
            "candidates; give the weights of a finalist, which a search prints at its end"
        )
    with _sentences():
        from nasdet_core.data.read import read_dataset

        dataset = read_dataset(options.data, progress=lambda done, total: progress("reading", done, total))
        split = _split(dataset, options)
        labels, warnings = match_classes(header.class_names, dataset.class_names)
        warnings += _left_out(dataset, options.data)
        used, found, digest, problems = _detect(options, dataset, dataset.splits[split], progress)
        warnings += problems
        detections = [relabel(item, labels) for item in found]
        counts = _counts(dataset, used, detections)
        if counts["detections"] == 0:
            warnings.append("the model finds nothing in these pictures, so every object counts as missed and AP is 0")
        body = _voc_of(dataset, used, detections) if voc else _coco_of(dataset, used, detections)
    return {
        **body,
        "counts": counts,
        "warnings": warnings,
        "model": digest,
        "split": split,
    }


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors of the core and missing packages end the command with one sentence."""
    try:
        from nasdet_core.errors import NasDetError

        yield
    except ModuleNotFoundError as error:
        raise CommandError(
            f"evaluation needs the package {error.name}; install it with: pip install 'nasdet[worker]'"
        ) from error
    except NasDetError as error:
        raise CommandError(str(error)) from error


# --- a model on a dataset -------------------------------------------------------------------------------------------


def _split(dataset: Dataset, options: ModelOptions) -> str:
    """The dataset's name of the split, which the readers may have found under another, e.g. valid."""
    from nasdet_core.data.readers.names import split_name

    for name in (options.split, split_name(options.split)):
        if name in dataset.splits:
            return name
    raise CommandError(
        f"--split: {options.data} has no split {options.split!r}; it has {', '.join(sorted(dataset.splits))}"
    )


def match_classes(model: Sequence[str], data: Sequence[str]) -> tuple[list[int], list[str]]:
    """(index in `data` of each class of `model`, -1 where it has none; what differs in sentences)."""
    labels = [data.index(name) if name in data else -1 for name in model]
    extra = [name for name, label in zip(model, labels, strict=True) if label < 0]
    missing = [name for name in data if name not in model]
    if len(extra) == len(model):
        raise CommandError(
            f"the model and the dataset have no class in common: the model finds {_listing(model)}, the dataset has "
            f"{_listing(data)}; classes are matched by name"
        )
    warnings = []
    if extra:
        warnings.append(
            f"classes of the model that the dataset does not have: {_listing(extra)}; its detections of them do not "
            "count"
        )
    if missing:
        warnings.append(
            f"classes of the dataset that the model does not know: {_listing(missing)}; it misses all their objects"
        )
    return labels, warnings


def relabel(detections: Detections, labels: Sequence[int]) -> Detections:
    """Detections with class indices of the model -> with those of the dataset; those it lacks are left out."""
    import numpy as np

    boxes, scores, of_model = (np.asarray(values) for values in detections)
    of_data = np.asarray(labels, dtype=np.int64)[of_model.astype(np.int64)]
    known = of_data >= 0
    return boxes[known], scores[known], of_data[known]


def _left_out(dataset: Dataset, folder: Path) -> list[str]:
    found = [defect for defect in dataset.defects if defect.effect == "left out"]
    if not found:
        return []
    return [
        f"defective entries of the dataset that are left out: {sum(defect.count for defect in found)}, e.g. "
        f"{found[0].message}; all of them: nasdet data check {folder}"
    ]


def _detect(
    options: ModelOptions, dataset: Dataset, records: Sequence[ImageRecord], progress: Progress
) -> tuple[list[ImageRecord], list[Detections], str, list[str]]:
    """(pictures that can be decoded, their detections, SHA-256 of the model, what is wrong with the others)."""
    import torch

    from nasdet_core.data.batches import eval_batches
    from nasdet_core.data.cache import ResidentImages
    from nasdet_core.supernet.checkpoint import load_detector
    from nasdet_core.training.evaluate import detect

    saved = load_detector(options.model)
    _check_weights(saved.model, options.model)
    pictures = ResidentImages(dataset.root, records, saved.input.image_size)
    usable, problems = _decodable(pictures, progress)
    used = [records[index] for index in usable]
    done = 0

    def tick() -> None:
        nonlocal done
        done = min(done + options.batch_size, len(used))
        progress("detecting", done, len(used))

    batches = eval_batches(pictures, options.batch_size, pixel_format=saved.input.pixel_format, indices=usable)
    found = detect(saved.model, batches=batches, device="cuda" if torch.cuda.is_available() else "cpu", tick=tick)
    return used, [found[record.file] for record in used], saved.digest, problems


def _check_weights(model: Detector, file: Path) -> None:
    weights = model.state_dict()
    broken = [name for name, values in weights.items() if not bool(values.isfinite().all())]
    if broken:
        raise CommandError(
            f"{file}: finite weights were expected, but {len(broken)} of {len(weights)} tensors hold NaN or infinite "
            f"values (first: {broken[0]}), as after a training that diverged; give another detector"
        )


def _decodable(pictures: Any, progress: Progress) -> tuple[list[int], list[str]]:
    """Indices of the pictures that can be decoded, and a sentence about the others."""
    from nasdet_core.errors import DatasetError

    usable: list[int] = []
    reasons: list[str] = []
    for index in range(len(pictures)):
        try:
            pictures.pixels(index)
            usable.append(index)
        except DatasetError as error:
            reasons.append(str(error))
        progress("decoding", index + 1, len(pictures))
    if not reasons:
        return usable, []
    count = f"{len(reasons)} of {len(pictures)}"
    return usable, [f"pictures that cannot be used and are left out: {count}, e.g. {reasons[0]}"]


def _coco_of(dataset: Dataset, records: Sequence[ImageRecord], detections: Sequence[Detections]) -> Json:
    from nasdet_core.evaluation.coco_map import CocoEvaluator

    result = CocoEvaluator(records, dataset.class_names, dataset.category_ids).evaluate(detections, full=True)
    ap50 = result.per_class_ap50 or {}
    return {
        "metrics": dict(result.stats or {}),
        "standard_error": result.standard_error,
        "per_category": {
            name: {"category_id": category, "AP": result.per_class[name], "AP50": ap50[name]}
            for name, category in zip(dataset.class_names, dataset.category_ids, strict=True)
        },
    }


def _voc_of(dataset: Dataset, records: Sequence[ImageRecord], detections: Sequence[Detections]) -> Json:
    from nasdet_core.evaluation.voc_map import VocObjects, score_voc

    objects = [VocObjects.of(record.annotation) for record in records]
    scores = score_voc(objects, detections, len(dataset.class_names))
    entries = zip(dataset.category_ids, scores.per_class, strict=True)
    return _voc_json(scores, dict(zip(dataset.class_names, entries, strict=True)))


def _voc_json(scores: VocScores, per_category: Mapping[str, tuple[int, VocClassScore]]) -> Json:
    return {
        "metrics": {"mAP_11_point": scores.map_11_point, "mAP_area": scores.map_area},
        "per_category": {
            name: {
                "category_id": category,
                "AP_11_point": score.ap_11_point,
                "AP_area": score.ap_area,
                "objects": score.objects,
                "detections": score.detections,
            }
            for name, (category, score) in per_category.items()
        },
    }


def _counts(dataset: Dataset, records: Sequence[ImageRecord], detections: Sequence[Detections]) -> dict[str, int]:
    import numpy as np

    per_image = [np.size(scores) for _boxes, scores, _labels in detections]
    return {
        "images": len(records),
        "annotations": sum(len(record.annotation) for record in records),
        "crowd": sum(int(record.annotation.crowd.sum()) for record in records),
        "difficult": sum(int(record.annotation.difficult.sum()) for record in records),
        "categories": len(dataset.class_names),
        "detections": sum(per_image),
        "images_with_detections": sum(count > 0 for count in per_image),
    }


def _listing(names: Sequence[str]) -> str:
    from nasdet_core.errors import printable

    more = len(names) - MOST_SHOWN
    return ", ".join(printable(name) for name in names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
