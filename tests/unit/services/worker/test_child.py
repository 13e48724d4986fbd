"""What an executor's environment holds before its Python starts."""

from __future__ import annotations

from pathlib import Path

from services.worker.child import ExecutorChild


def test_the_gpu_of_its_slot_is_there_from_the_first_moment() -> None:
    configuration = {"url": "http://127.0.0.1:9", "token": "t", "home": "/nonexistent", "device": "cpu", "threads": 3}
    child = ExecutorChild(configuration, threads=3, log_tail=1024, environment={"CUDA_VISIBLE_DEVICES": "GPU-aaa"})
    try:
        text = Path(f"/proc/{child.pid}/environ").read_bytes().decode()
        found = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    finally:
        child.kill()
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-aaa"
    assert found["OMP_NUM_THREADS"] == "3"
