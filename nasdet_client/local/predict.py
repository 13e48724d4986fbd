"""Pictures through a detector file: what it finds as JSON, and drawn into copies of the pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdet_client.errors import CommandError
from nasdet_client.local.model_file import read_model_header

if TYPE_CHECKING:  # torch is loaded when a prediction is made, not when the command is described
    from PIL import Image

    from nasdet_core.supernet.checkpoint import SavedDetector
    from nasdet_core.training.predict import Prediction

Json = dict[str, Any]

OUR_MARK = ".detections"  # before the suffix of what is drawn; such files in a folder are no pictures to look at
PACKAGES = ("PIL", "safetensors", "torch", "torchvision")
JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 95


@dataclass(frozen=True)
class PredictOptions:
    out: Path  # the folder of the drawn pictures
    score: float  # 0..1, the lowest that is shown
    force: bool  # overwrite drawn pictures


def predict(
    model: Path,
    images: Sequence[Path],
    options: PredictOptions,
    *,
    progress: Callable[[int, int], None],
    complain: Callable[[str], None],
) -> tuple[list[Json], int]:
    """Predict on every picture; returns what was found and how many pictures could not be read.

    `complain` gets a sentence for each of these, `progress` (done, total). Raises CommandError before anything is
    written where the model, the pictures or the folder cannot be used.
    """
    if not 0 <= options.score <= 1:
        raise CommandError(f"--score: expected a number from 0 to 1, but got {options.score}")
    _check_packages()
    header = read_model_header(model)
    if header.space.blocks:
        raise CommandError(
            f"{model} holds a supernet, in which {len(header.space.blocks)} blocks still have several candidates; "
            "give the weights of a finalist, which a search prints at its end"
        )
    pictures = _pictures(images)
    targets = _targets(pictures, options.out)
    _check_folder(options, list(targets.values()))
    saved = _load(model)
    found: list[Json] = []
    results = zip(pictures, _results(saved, pictures, options.score), strict=True)
    for done, (picture, result) in enumerate(results, start=1):
        if isinstance(result, str):
            complain(f"{result} (in {picture.parent})")
        else:
            target = targets[result.path]
            _draw(result, saved.class_names, target)
            found.append(_to_json(result, saved.class_names, target))
        progress(done, len(pictures))
    return found, len(pictures) - len(found)


def _results(saved: SavedDetector, pictures: Sequence[Path], score: float) -> Iterator[Prediction | str]:
    """A prediction, or the sentence that says why there is none."""
    from nasdet_core.training.predict import Prediction, predict_pictures

    for result in predict_pictures(saved, pictures, min_score=score):
        yield result if isinstance(result, Prediction) else str(result)


def _check_packages() -> None:
    """Look without loading them: torch takes seconds, which bad input need not wait for."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise CommandError(f"predictions need the package {package}; install it with: pip install 'nasdet[worker]'")


def _load(model: Path) -> SavedDetector:
    from nasdet_core.errors import NasDetError
    from nasdet_core.supernet.checkpoint import load_detector

    try:
        return load_detector(model)
    except NasDetError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot read the detector file {model}: {error.strerror or error}") from error


# --- which pictures, and where they are drawn -----------------------------------------------------------------------


def _pictures(images: Sequence[Path]) -> list[Path]:
    """The files in the order given; of a folder the pictures that lie directly in it, by name. None comes twice."""
    found: dict[Path, Path] = {}
    for image in images:
        if image.is_dir():
            members = _members(image)
        elif image.is_file():
            members = [image]
        else:
            what = "is neither a file nor a folder" if image.exists() else "does not exist"
            raise CommandError(f"expected a picture or a folder of pictures, but {image} {what}")
        for member in members:
            found.setdefault(member.resolve(), member)
    return list(found.values())


def _members(folder: Path) -> list[Path]:
    from nasdet_core.data.pictures import SUFFIXES

    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CommandError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    members = [
        entry
        for entry in entries
        if entry.suffix.lower() in SUFFIXES and not entry.stem.endswith(OUR_MARK) and entry.is_file()
    ]
    if not members:
        raise CommandError(f"expected pictures ({', '.join(SUFFIXES)}) directly in the folder {folder}, but found none")
    return members


def _targets(pictures: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each picture is drawn: NAME.detections.png, or .jpg of a JPEG; a second one of a name gets a number."""
    taken: set[str] = set()
    targets = {}
    for picture in pictures:
        suffix = ".jpg" if picture.suffix.lower() in JPEG_SUFFIXES else ".png"
        name, number = f"{picture.stem}{OUR_MARK}{suffix}", 1
        while name.casefold() in taken:
            number += 1
            name = f"{picture.stem}-{number}{OUR_MARK}{suffix}"
        taken.add(name.casefold())
        targets[picture] = out / name
    return targets


def _check_folder(options: PredictOptions, targets: Sequence[Path]) -> None:
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and not options.force:
        raise CommandError(
            f"{len(existing)} of the pictures to draw exist already, the first is {existing[0]}; overwrite them with "
            "--force, or give another folder with --out"
        )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"cannot make the folder {options.out} for drawn pictures: {error.strerror or error}; give another with "
            "--out"
        ) from error


# --- results --------------------------------------------------------------------------------------------------------


def _draw(prediction: Prediction, class_names: Sequence[str], target: Path) -> None:
    from nasdet_core.detectors.draw import draw_detections

    drawn = draw_detections(
        prediction.picture, prediction.boxes_xyxy, prediction.scores, prediction.labels, class_names
    )
    partial = target.with_name(f".{os.getpid()}.partial")
    try:
        _save(drawn, partial, jpeg=target.suffix == ".jpg")
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CommandError(f"cannot write {target}: {error.strerror or error}", exit_code=1) from error


def _save(image: Image.Image, file: Path, *, jpeg: bool) -> None:
    if jpeg:
        image.save(file, format="JPEG", quality=JPEG_QUALITY)
    else:
        image.save(file, format="PNG")


def _to_json(prediction: Prediction, class_names: Sequence[str], target: Path) -> Json:
    """Boxes are pixels of the upright picture."""
    rows = zip(prediction.labels.tolist(), prediction.scores.tolist(), prediction.boxes_xyxy.tolist(), strict=True)
    return {
        "file": _text(str(prediction.path)),
        "width": prediction.picture.width,
        "height": prediction.picture.height,
        "detections": [
            {"label": label, "class": _text(class_names[label]), "score": score, "box_xyxy": box}
            for label, score, box in rows
        ],
        "drawn": _text(str(target)),
    }


def _text(name: str) -> str:
    """A file name need not be text; what cannot be printed as UTF-8 becomes U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
