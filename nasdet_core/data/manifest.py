"""A dataset version: an immutable list of files with hashes, classes and splits. Its digest is the
version's name.

Searches point to a manifest; a file that changed since is an error. Pictures that cannot be used are named
in `left_out` and belong to no split. The wording of defects is not part of the manifest, so a new decoder's
message gives no new version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdet_core.data.in_memory import Dataset, ImageRecord, Progress
from nasdet_core.data.pictures import inside
from nasdet_core.data.splits import ROLES, SplitPlan
from nasdet_core.errors import DatasetError

SCHEMA = 1
_KEYS = ("schema", "format", "classes", "category_ids", "files", "left_out", "seed", "splits", "split_names")


@dataclass(frozen=True)
class Manifest:
    """What one version of a dataset consists of."""

    source_format: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    files: Mapping[str, str]  # every picture, annotation and split file that is used: sha256
    left_out: tuple[str, ...]  # pictures with a defect
    seed: int
    splits: Mapping[str, tuple[str, ...]]  # role (train, search, report, final) -> pictures
    split_names: Mapping[str, str]  # role -> name shown beside an AP: 'val', 'train:search'

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON; identifies the dataset version."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "format": self.source_format,
            "classes": list(self.classes),
            "category_ids": list(self.category_ids),
            "files": dict(sorted(self.files.items())),
            "left_out": list(self.left_out),
            "seed": self.seed,
            "splits": {role: list(self.splits[role]) for role in ROLES},
            "split_names": {role: self.split_names[role] for role in ROLES},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Manifest:
        unknown, missing = sorted(set(body) - set(_KEYS)), sorted(set(_KEYS) - set(body))
        if unknown or missing:
            raise DatasetError(f"a dataset manifest has unknown keys {unknown} and lacks {missing}; expected {_KEYS}")
        if body["schema"] != SCHEMA:
            raise DatasetError(f"expected a dataset manifest of schema {SCHEMA}, found {body['schema']!r}")
        return cls(
            source_format=body["format"],
            classes=tuple(body["classes"]),
            category_ids=tuple(body["category_ids"]),
            files=dict(body["files"]),
            left_out=tuple(body["left_out"]),
            seed=body["seed"],
            splits={role: tuple(body["splits"][role]) for role in ROLES},
            split_names={role: body["split_names"][role] for role in ROLES},
        )

    def verify(self, root: Path, progress: Progress | None = None) -> None:
        """Raise a DatasetError that names the first file that is missing or differs from this version."""
        for done, (file, expected) in enumerate(sorted(self.files.items()), start=1):
            if not inside(file):
                raise DatasetError(f"the manifest names {file!r}, which is outside the dataset")
            actual = _sha256(root / file, file)
            if actual != expected:
                raise DatasetError(
                    f"{file} in {root} has changed since the dataset was registered (sha256 {actual[:12]}, "
                    f"expected {expected[:12]}); put the old file back or register the directory as a new version"
                )
            if progress is not None:
                progress(done, len(self.files))

    def records(self, dataset: Dataset, role: str) -> tuple[ImageRecord, ...]:
        """The pictures of one role, in the manifest's order, from the dataset as read from disk."""
        if role not in ROLES:
            raise DatasetError(f"expected one of the split roles {', '.join(ROLES)}, found {role!r}")
        if dataset.class_names != self.classes or dataset.category_ids != self.category_ids:
            raise DatasetError(
                f"the classes in {dataset.root} are {', '.join(dataset.class_names)}, but this dataset "
                f"version has {', '.join(self.classes)}; register the directory as a new version"
            )
        known = dataset.by_file()
        absent = next((file for file in self.splits[role] if file not in known), None)
        if absent is not None:
            raise DatasetError(
                f"{absent} of this dataset version is no longer readable in {dataset.root}; put it back or "
                "register the directory as a new version"
            )
        return tuple(known[file] for file in self.splits[role])


def build_manifest(
    dataset: Dataset, plan: SplitPlan, *, picture_hashes: Mapping[str, str], left_out: Iterable[str] = ()
) -> Manifest:
    """The version of a dataset. `picture_hashes` has the sha256 of every picture of the dataset; `left_out` names
    pictures that are there and cannot be used."""
    hashes: dict[str, str] = {source: _sha256(dataset.root / source, source) for source in dataset.sources}
    hashes.update({file: picture_hashes[file] for file in dataset.by_file()})
    return Manifest(
        source_format=dataset.source_format,
        classes=dataset.class_names,
        category_ids=dataset.category_ids,
        files=hashes,
        left_out=tuple(sorted(left_out)),
        seed=plan.seed,
        splits={role: plan.files(role) for role in ROLES},
        split_names=dict(plan.names),
    )


def _sha256(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DatasetError(f"{shown} of this dataset version is missing from its directory; put it back") from error
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
