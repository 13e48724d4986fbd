"""Which slots a worker has; `nvidia-smi` is a program of the test's own on the PATH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.common.settings import WorkerSettings
from services.worker.devices import plan_slots
from services.worker.errors import WorkerError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which nothing is but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def smi(folder: Path, text: str, status: int = 0) -> None:
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\n[ \"$*\" = '--query-gpu=uuid --format=csv,noheader' ] || exit 9\n{text}\nexit {status}\n"
    )
    program.chmod(0o755)


TWO = "echo GPU-aaa; echo GPU-bbb"


def slots(environment: dict[str, str] | None = None, **settings: Any) -> list[tuple[str, str, str | None]]:
    plans = plan_slots(WorkerSettings(home=Path("/home"), name="node", **settings), environment or {})
    assert [plan.index for plan in plans] == list(range(len(plans)))
    return [(plan.name, plan.device, plan.environment.get("CUDA_VISIBLE_DEVICES")) for plan in plans]


class TestWithGpus:
    def test_one_slot_for_each_with_its_uuid(self, path: Path) -> None:
        smi(path, TWO)
        expected = [("node-0", "cuda", "GPU-aaa"), ("node-1", "cuda", "GPU-bbb")]
        assert slots() == expected
        assert slots(device="cuda") == expected

    def test_fewer_if_asked_for_and_then_without_a_number(self, path: Path) -> None:
        smi(path, TWO)
        assert slots(slots=1) == [("node", "cuda", "GPU-aaa")]

    def test_more_slots_than_gpus_are_refused_with_both_numbers(self, path: Path) -> None:
        smi(path, TWO)
        with pytest.raises(WorkerError, match=r"3 slots and 2 GPUs \(GPU-aaa, GPU-bbb\).*--slots"):
            slots(slots=3)

    def test_cpu_means_the_cpu(self, path: Path) -> None:
        smi(path, TWO)
        assert slots(device="cpu") == [("node", "cpu", None)]

    @pytest.mark.parametrize(
        ("inherited", "expected"),
        [
            ("3,1", ["3", "1"]),
            ("GPU-bbb", ["GPU-bbb"]),
            ("MIG-1, MIG-2", ["MIG-1", "MIG-2"]),
            ("0,-1,1", ["0"]),  # as CUDA reads it: nothing behind the first that is none
        ],
    )
    def test_what_is_inherited_is_passed_on_entry_by_entry(
        self, path: Path, inherited: str, expected: list[str]
    ) -> None:
        smi(path, TWO)
        assert [gpu for _, _, gpu in slots({"CUDA_VISIBLE_DEVICES": inherited})] == expected

    @pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
    def test_hidden_gpus_are_not_used(self, path: Path, hidden: str) -> None:
        smi(path, TWO)
        assert slots({"CUDA_VISIBLE_DEVICES": hidden}) == [("node", "auto", None)]
        with pytest.raises(WorkerError, match="CUDA_VISIBLE_DEVICES"):
            slots({"CUDA_VISIBLE_DEVICES": hidden}, device="cuda")

    def test_a_container_was_granted_uuids(self, path: Path) -> None:
        smi(path, TWO)
        assert slots({"NVIDIA_VISIBLE_DEVICES": "GPU-bbb"}) == [("node", "cuda", "GPU-bbb")]
        # Numbers were the host's: the container's own begin at 0 again.
        assert len(slots({"NVIDIA_VISIBLE_DEVICES": "3,4"})) == 2
        assert len(slots({"NVIDIA_VISIBLE_DEVICES": "all"})) == 2


class TestWithoutNvidiaSmi:
    @pytest.mark.usefixtures("path")
    def test_several_on_the_cpu(self) -> None:
        assert slots() == [("node", "auto", None)]
        assert slots(slots=2) == [("node-0", "cpu", None), ("node-1", "cpu", None)]

    @pytest.mark.usefixtures("path")
    def test_cuda_is_one_executor_that_looks_for_itself(self) -> None:
        assert slots(device="cuda") == [("node", "cuda", None)]
        with pytest.raises(WorkerError, match="expected 2 GPUs"):
            slots(device="cuda", slots=2)

    def test_one_that_fails_is_as_none(self, path: Path) -> None:
        smi(path, "echo no driver >&2", status=9)
        assert slots() == [("node", "auto", None)]
