"""From a payload to pictures: the dataset's folder, the manifest, the resident caches."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdet_core.data.augment import Augmentation
from nasdet_core.data.batches import Batch, TrainLoader, eval_batches, sample_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.in_memory import Dataset, ImageRecord
from nasdet_core.data.manifest import Manifest
from nasdet_core.data.read import read_dataset
from nasdet_core.errors import DatasetError
from nasdet_core.supernet.recipe import RecalibrationRecipe, TrainingRecipe
from nasdet_core.supernet.score import RECALIBRATION_SEED
from nasdet_core.training.determinism import derive_seed
from services.common.dataset_sources import root_folder
from services.worker.artifact_cache import CacheFullError, Held
from services.worker.context import ExecutorFacts, JobContext

KEPT_BATCH_BYTES = 256 << 20  # batches larger than this together are made anew for every candidate


@dataclass(frozen=True)
class DatasetVersion:
    """A dataset as its manifest fixed it, checked against the files that are there now."""

    digest: str
    manifest: Manifest
    dataset: Dataset
    held: Held | None = None  # an unpacked archive: it stays in the worker's cache as long as we do

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.classes

    def role(self, role: str) -> str:
        """`final` is `train` where nothing was taken out of it: one cache serves both."""
        same = role == "final" and self.manifest.splits["final"] == self.manifest.splits["train"]
        return "train" if same else role

    def records(self, role: str) -> tuple[ImageRecord, ...]:
        return self.manifest.records(self.dataset, role)

    def split_name(self, role: str) -> str:
        return self.manifest.split_names[role]


def dataset_folder(facts: ExecutorFacts, name: str) -> Path:
    """Where the operator said that a dataset lies (never a client): a registered folder, or one of the data root."""
    entry = facts.home / "datasets" / f"{name}.json"
    try:
        folder = json.loads(entry.read_text())["path"]
    except FileNotFoundError as error:
        found = root_folder(facts.data_root, name)
        if found is not None:
            return found
        raise DatasetError(_nowhere(facts, name, entry)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f'expected {{"path": FOLDER}} in {entry}, but it cannot be read as that; delete that file and make '
            f"the folder of {name!r} known again with `nasdet data register DIR` or `nasdet up --data DIR`"
        ) from error
    return Path(folder)


def _nowhere(facts: ExecutorFacts, name: str, entry: Path) -> str:
    if facts.data_root is not None:
        return (
            f"this worker finds no dataset {name!r}: there is no folder {facts.data_root / name} (NASDET_DATA_ROOT) "
            f"and no {entry}; mount the same folder of datasets in every worker, or send the dataset with "
            "`nasdet data upload DIR`"
        )
    return (
        f"dataset {name!r} is not registered in this installation; expected {entry}: make its folder known with "
        "`nasdet data register DIR` or `nasdet up --data DIR`, or send it with `nasdet data upload DIR`"
    )


def load_dataset(payload: Mapping[str, Any], context: JobContext) -> DatasetVersion:
    """The version a payload names; raises DatasetError when a file has changed since."""
    digest: str = payload["dataset_version"]

    def load() -> DatasetVersion:
        context.progress(stage="data")
        manifest = Manifest.from_json(json.loads(context.get_artifact(payload["manifest"])))
        if manifest.digest != digest:
            raise DatasetError(
                f"expected the manifest of dataset version {digest[:12]}, got that of {manifest.digest[:12]}; "
                f"check the dataset again"
            )
        archive: str | None = payload.get("archive")
        if archive is None:
            return _read_version(manifest, dataset_folder(context.facts, payload["dataset"]), None, context)
        try:
            held = unpacked(archive, context)
            return _read_version(manifest, held.path, held, context)
        except DatasetError as error:
            context.log(f"the unpacked archive is not what it should be, each file is looked at: {error}")
            held = unpacked(archive, context, verify=True)  # what is damaged on this disk is fetched again
            return _read_version(manifest, held.path, held, context)

    version: DatasetVersion = context.resident.datasets.get((digest, payload["dataset"]), load)
    context.resident.note(digest)
    return version


def _read_version(manifest: Manifest, folder: Path, held: Held | None, context: JobContext) -> DatasetVersion:
    names = manifest.classes if manifest.source_format == "voc" else None
    dataset = read_dataset(folder, class_names=names, progress=context.tick)
    manifest.verify(dataset.root, progress=context.tick)
    return DatasetVersion(manifest.digest, manifest, dataset, held)


def unpacked(archive: str, context: JobContext, *, verify: bool = False) -> Held:
    """The folder of an uploaded archive. Where the cache is full, what earlier jobs keep in memory goes first."""
    try:
        return context.unpacked(archive, verify=verify)
    except CacheFullError as error:
        context.log(f"making room in the cache: {error}")
        context.resident.clear()
        gc.collect()
        return context.unpacked(archive, verify=verify)


def pictures(version: DatasetVersion, role: str, image_size: tuple[int, int], context: JobContext) -> ResidentImages:
    """The decoded pictures of a role, kept between jobs."""
    role = version.role(role)

    def load() -> ResidentImages:
        context.progress(stage="data")
        cache = ResidentImages(version.dataset.root, version.records(role), image_size)
        cache.preload(progress=context.tick)
        return cache

    cache: ResidentImages = context.resident.pictures.get((version.digest, role, image_size), load)
    return cache


def train_loader(
    version: DatasetVersion, role: str, recipe: TrainingRecipe, seed: int, context: JobContext
) -> TrainLoader:
    return TrainLoader(
        pictures(version, role, recipe.image_size, context),
        recipe.batch_size,
        derive_seed(seed, "batches"),
        augmentation=Augmentation(
            horizontal_flip=0.5 if recipe.horizontal_flip else 0.0,
            vertical_flip=0.5 if recipe.vertical_flip else 0.0,
        ),
        pixel_format=recipe.pixel_format,
    )


class BatchStream:
    """The same batches as often as they are asked for: kept where they are small, made anew where they are not."""

    def __init__(self, make: Callable[[], Iterator[Batch]], size: int) -> None:
        self._make = make
        self._kept: list[Batch] | None = list(make()) if size <= KEPT_BATCH_BYTES else None

    def __iter__(self) -> Iterator[Batch]:
        return self._make() if self._kept is None else iter(self._kept)


def eval_stream(
    version: DatasetVersion, role: str, recipe: TrainingRecipe, batch_size: int, context: JobContext
) -> BatchStream:
    """Every picture of a role once, without augmentation."""
    cache = pictures(version, role, recipe.image_size, context)
    return BatchStream(
        lambda: eval_batches(cache, batch_size, pixel_format=recipe.pixel_format), _bytes(len(cache), recipe.image_size)
    )


def recalibration_stream(
    version: DatasetVersion, role: str, training: TrainingRecipe, recipe: RecalibrationRecipe, context: JobContext
) -> BatchStream:
    """The pictures for BN recalibration: the same ones in the same order for every candidate."""
    cache = pictures(version, role, training.image_size, context)

    def make() -> Iterator[Batch]:
        return sample_batches(
            cache, recipe.images, recipe.batch_size, seed=RECALIBRATION_SEED, pixel_format=training.pixel_format
        )

    return BatchStream(make, _bytes(min(recipe.images, len(cache)), training.image_size))


def _bytes(images: int, image_size: tuple[int, int]) -> int:
    height, width = image_size
    return images * 3 * height * width * 4
