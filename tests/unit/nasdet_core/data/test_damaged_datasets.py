"""Every planted defect is named, no other is, and what is left can be trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdet_core.data.batches import TrainLoader
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.check import check_and_build_manifest, check_dataset
from nasdet_core.data.defects import KINDS
from nasdet_core.data.read import read_dataset
from nasdet_core.detectors.detector import build_detector
from nasdet_core.search_spaces.detector_space import DetectorSpace
from tests.support.damage import LAYOUTS, PLANTS, Draft, sound_draft, write

ONE_AT_A_TIME = [
    pytest.param(layout, name, id=f"{layout}-{name}")
    for name, plant in PLANTS.items()
    for layout in LAYOUTS
    if layout in plant.layouts
]


def damaged(layout: str, names: Iterable[str]) -> tuple[Draft, set[str]]:
    """A dataset with these plants, and the kinds of defects that have to be found."""
    draft = sound_draft(layout)
    kinds: set[str] = set()
    for name in names:
        PLANTS[name].damage(draft)
        kinds |= PLANTS[name].kinds
    return draft, kinds


def found_kinds(report: dict[str, Any]) -> set[str]:
    return set(report["defect_counts"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sound_dataset_has_no_defect(layout: str, tmp_path: Path) -> None:
    report = check_dataset(write(sound_draft(layout), tmp_path))
    assert report["defects"] == []
    assert {name: split["pictures"] for name, split in report["splits"].items()} == {"train": 60, "val": 12, "test": 12}


@pytest.mark.parametrize(("layout", "name"), ONE_AT_A_TIME)
def test_one_planted_defect_is_named_and_no_other(layout: str, name: str, tmp_path: Path) -> None:
    draft, kinds = damaged(layout, [name])
    report = check_dataset(write(draft, tmp_path))
    assert found_kinds(report) == kinds
    for defect in report["defects"]:
        assert "\n" not in defect["message"]
        assert defect["effect"] == KINDS[defect["kind"]]
    json.dumps(report)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_planted_defects_together_are_named_and_the_rest_trains(layout: str, tmp_path: Path) -> None:
    names = [name for name, plant in PLANTS.items() if layout in plant.layouts]
    draft, kinds = damaged(layout, names)
    root = write(draft, tmp_path)
    report, manifest = check_and_build_manifest(root)
    assert found_kinds(report) == kinds
    records = manifest.records(read_dataset(root), "train")
    assert len(records) >= 30
    losses = train_one_epoch(ResidentImages(root, records, (48, 64)), len(manifest.classes))
    assert len(losses) == len(records) // 4
    assert all(torch.isfinite(torch.tensor(losses)))


def train_one_epoch(cache: ResidentImages, num_classes: int) -> list[float]:
    space = DetectorSpace.from_description(
        {
            "backbone": {"space": "detnas-300m", "width": 0.25, "genotype": "all-0"},
            "neck": {"model": "fpn", "channels": 8, "extra_levels": 0},
            "head": {"model": "fcos", "convs": 1, "norm_groups": 4},
        },
        num_classes,
    )
    model = build_detector(space, elastic=False).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loader = TrainLoader(cache, 4, seed=0)
    losses = []
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(step)
        loss = torch.stack(list(model(batch.images, batch.targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's annotation is missing
        optimizer.step()
        losses.append(loss.item())
    return losses
