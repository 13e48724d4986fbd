"""Two measurements are comparable exactly when their protocol hashes are equal."""

from __future__ import annotations

from typing import Any

import pytest

from services.worker.protocol import protocol_hash

BASE: dict[str, Any] = {
    "dataset_version": "d" * 64,
    "split": "val",
    "image_size": (192, 256),
    "pixel_format": "rgb_normalized",
    "precision": "fp32",
    "batch_size": 16,
    "recalibration": {"average": "exact", "images": 128},
}


def test_tuples_and_lists_and_key_order_do_not_matter() -> None:
    other = {**BASE, "image_size": [192, 256], "recalibration": {"images": 128, "average": "exact"}}
    assert protocol_hash(**other) == protocol_hash(**BASE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_version", "e" * 64),
        ("split", "test"),
        ("image_size", (256, 192)),
        ("pixel_format", "bgr_255"),
        ("precision", "bf16"),
        ("batch_size", 8),
        ("recalibration", None),
        ("recalibration", {"average": "exact", "images": 64}),
    ],
)
def test_everything_an_ap_hangs_on_changes_the_hash(key: str, value: object) -> None:
    assert protocol_hash(**{**BASE, key: value}) != protocol_hash(**BASE)
