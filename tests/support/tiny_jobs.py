"""Payloads of the four kinds of jobs at the smallest size that is still the real thing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdet_core.data.demo import write_demo_dataset
from nasdet_core.search_spaces.detector_space import DetectorSpace

NAME = "tiny"
SPACE = {
    "backbone": {"space": "detnas-300m", "width": 0.25},
    "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
    "head": {"model": "fcos", "convs": 1, "norm_groups": 4, "score_threshold": 0.0},
}
CLASSES = 3
# Long enough for detections that hit something: an AP of 0 would equal any other 0.
RECIPE = {"steps": 16, "image_size": [64, 96], "batch_size": 2, "warm_start": 0.34, "learning_rate": 5e-3}
EVALUATION = {"recalibration": {"images": 6, "batch_size": 3}, "batch_size": 3}
FINAL = {"epochs": 0.7}
GENOTYPES = ((0, 1, 2, 3) * 5, (3, 2, 1, 0) * 5, (1,) * 20)


def register_demo(home: Path, *, train: int = 8, val: int = 4, test: int = 4) -> Path:
    """Write a demo set of a few pictures and make it known to a home, as an operator does."""
    folder = write_demo_dataset(home / "demo", train=train, val=val, test=test)
    (home / "datasets").mkdir(parents=True, exist_ok=True)
    (home / "datasets" / f"{NAME}.json").write_text(json.dumps({"path": str(folder)}))
    return folder


def space() -> DetectorSpace:
    return DetectorSpace.from_description(SPACE, CLASSES)


def check_payload() -> dict[str, Any]:
    return {"dataset": NAME, "seed": 0}


def common(checked: Mapping[str, Any], *, seed: int = 0, recipe: Mapping[str, Any] = RECIPE) -> dict[str, Any]:
    """The part that all other payloads share; `checked` is the result of the check."""
    return {
        "dataset": NAME,
        "dataset_version": checked["digest"],
        "manifest": checked["manifest"],
        "class_names": checked["class_names"],
        "space": space().to_description(),
        "supernet_recipe": dict(recipe),
        "seed": seed,
    }


def supernet_payload(checked: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**common(checked, **more), "role": "supernet"}


def baseline_payload(checked: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        **common(checked, **more),
        "role": "baseline",
        "space": space().fixed((0,) * 20).to_description(),
    }


def evaluate_payload(checked: Mapping[str, Any], weights: str) -> dict[str, Any]:
    return {**common(checked), "supernet_weights": weights, "evaluation": EVALUATION}


def detector_payload(
    checked: Mapping[str, Any], weights: str | None, genotype: tuple[int, ...] = GENOTYPES[0]
) -> dict[str, Any]:
    start = None
    if weights is not None:
        start = {"weights": weights, "space": space().to_description(), "genotype": list(genotype)}
    return {
        **common(checked),
        "role": "winner",
        "space": space().fixed(genotype).to_description(),
        "recipe": FINAL,
        "start": start,
    }
