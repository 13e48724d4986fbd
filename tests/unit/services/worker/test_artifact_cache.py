"""Artifacts on a worker's disk: fetched once, least recently used first, never what is in use, by several processes."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from services.worker.artifact_cache import ArtifactCache, CacheFullError, Room
from services.worker.errors import WorkerError
from services.worker.unpack.writer import UnpackError

ROOT = Path(__file__).resolve().parents[4]


def tick() -> None:
    """A sign of life that nobody looks at."""


class Source:
    """What an API would send; counts what was fetched."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {hashlib.sha256(content).hexdigest(): content for content in contents}
        self.fetched: list[str] = []

    def digest(self, number: int) -> str:
        return list(self.contents)[number]

    def download(self, digest: str, place: Path, room: Room) -> None:
        self.fetched.append(digest)
        content = self.contents[digest]
        room(len(content))
        place.write_bytes(content)


def weights(count: int, size: int = 1000) -> Source:
    return Source(*(bytes([number]) * size for number in range(count)))


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entries(cache: ArtifactCache) -> set[str]:
    return {path.name for folder in ("files", "folders") for path in (cache.folder / folder).iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_file_is_fetched_once(folder: Path) -> None:
    source = weights(1)
    for _ in range(3):
        assert ArtifactCache(folder, 10_000).read(source.digest(0), source.download, tick) == bytes(1000)
    assert len(source.fetched) == 1
    assert list((folder / "parts").iterdir()) == []


def test_what_was_used_longest_ago_goes_first(folder: Path) -> None:
    source, cache = weights(4), ArtifactCache(folder, 3000)
    for number in (0, 1, 2, 0):
        cache.read(source.digest(number), source.download, tick)
        time.sleep(0.02)  # times of files are as fine as the kernel's clock ticks
    cache.read(source.digest(3), source.download, tick)
    assert entries(cache) == {source.digest(number) for number in (0, 2, 3)}
    assert {path.name for path in (folder / "locks").iterdir()} == entries(cache)


def test_a_damaged_file_is_fetched_again(folder: Path) -> None:
    source, cache = weights(1), ArtifactCache(folder, 10_000)
    digest = source.digest(0)
    for damage in (b"", b"x" * 1000):
        cache.read(digest, source.download, tick)
        (folder / "files" / digest).write_bytes(damage)
        assert cache.read(digest, source.download, tick) == bytes(1000)
    assert len(source.fetched) == 3


def test_a_disk_that_damages_everything_is_told_about(folder: Path) -> None:
    source = weights(1)
    digest = source.digest(0)

    def damaging(wanted: str, place: Path, room: Room) -> None:
        source.download(wanted, place, room)
        place.write_bytes(b"damaged")

    with pytest.raises(WorkerError, match="is damaged there each time"):
        ArtifactCache(folder, 10_000).read(digest, damaging, tick)
    assert len(source.fetched) == 4


def test_what_does_not_fit_is_a_sentence_and_leaves_nothing(folder: Path) -> None:
    source, cache = weights(1, size=5000), ArtifactCache(folder, 4000)
    with pytest.raises(CacheFullError, match=r"may hold 4000 bytes, but 5000 are needed .* raise NASDET_CACHE_BYTES"):
        cache.read(source.digest(0), source.download, tick)
    assert entries(cache) == set()
    assert list((folder / "parts").iterdir()) == []


def test_an_archive_is_unpacked_once_and_counted(folder: Path) -> None:
    source, cache = Source(archive(a=b"1" * 5000, b=b"2")), ArtifactCache(folder, 1 << 30)
    digest = source.digest(0)
    for _ in range(2):
        with cache.tree(digest, source.download, tick) as held:
            assert {path.name: path.read_bytes() for path in held.path.iterdir()} == {"a": b"1" * 5000, "b": b"2"}
    assert source.fetched == [digest]
    assert int((folder / "folders" / digest / "bytes").read_text()) >= 5001
    assert not (folder / "files" / digest).exists()


def test_what_is_in_use_is_never_removed(folder: Path) -> None:
    """Also by another process; and as soon as it is let go of, it makes way."""
    source = Source(archive(a=bytes(100_000)), archive(b=bytes(100_001)))
    cache, other = (ArtifactCache(folder, 280_000) for _ in range(2))
    held = cache.tree(source.digest(0), source.download, tick)
    with pytest.raises(CacheFullError, match="in use"):
        other.tree(source.digest(1), source.download, tick)
    assert (held.path / "a").read_bytes() == bytes(100_000)
    del held
    gc.collect()
    with other.tree(source.digest(1), source.download, tick):
        assert entries(other) == {source.digest(1)}


def test_a_hostile_archive_leaves_nothing(folder: Path) -> None:
    source, cache = Source(archive(**{"../evil": b"x"})), ArtifactCache(folder, 1 << 30)
    with pytest.raises(UnpackError, match="leads elsewhere"):
        cache.tree(source.digest(0), source.download, tick)
    assert entries(cache) == set()
    assert list((folder / "parts").iterdir()) == []
    assert not (folder / "parts" / "evil").exists()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_folder_is_noticed_and_fetched_again_under_its_users(folder: Path, damage: str) -> None:
    source = Source(archive(a=b"1" * 5000, b=b"2"))
    cache, other = (ArtifactCache(folder, 1 << 30) for _ in range(2))
    digest = source.digest(0)
    used = other.tree(digest, source.download, tick)
    if damage == "changed":
        (used.path / "a").write_bytes(b"3" * 5000)
    else:
        (used.path / "a").unlink()
    with cache.tree(digest, source.download, tick, verify=True) as held:
        assert (held.path / "a").read_bytes() == b"1" * 5000
    assert (used.path / "a").read_bytes() == b"1" * 5000
    assert source.fetched == [digest, digest]
    with cache.tree(digest, source.download, tick, verify=True):
        assert len(source.fetched) == 2
    assert list((folder / "parts").iterdir()) == []


def test_what_a_killed_process_left_behind_is_cleared(folder: Path) -> None:
    source, cache = weights(2), ArtifactCache(folder, 3000)
    script = (
        "import os, sys; from pathlib import Path; from services.worker.artifact_cache import ArtifactCache\n"
        "def download(digest, place, room):\n"
        "    room(2500); place.write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
        "ArtifactCache(Path(sys.argv[1]), 3000).read('a' * 64, download, lambda: None)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOT, check=False, timeout=60)
    assert len(list((folder / "parts").iterdir())) == 1
    cache.read(source.digest(0), source.download, tick)
    assert list((folder / "parts").iterdir()) == []


HAMMER = """
import hashlib, os, random, sys, time
from pathlib import Path
from services.worker.artifact_cache import ArtifactCache, CacheFullError
from tests.unit.services.worker.test_artifact_cache import archive, tick

folder, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
rng = random.Random(seed)
cache = ArtifactCache(folder, 60_000)
contents = [bytes([n]) * 9000 for n in range(4)] + [archive(**{"f%d" % n: bytes([n]) * 9000}) for n in range(4)]
digests = [hashlib.sha256(content).hexdigest() for content in contents]

def download(digest, place, room):
    content = contents[digests.index(digest)]
    room(len(content))
    with place.open("wb") as file:
        file.write(content[:5000])
        time.sleep(rng.random() * 0.003)
        file.write(content[5000:])

held, done, full = [], 0, 0
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    number = rng.randrange(8)
    if rng.random() < 0.05:  # somebody damages it
        try:
            (folder / "files" / digests[rng.randrange(4)]).write_bytes(b"damaged")
        except OSError:
            pass
    try:
        if number < 4:
            assert cache.read(digests[number], download, tick) == contents[number]
        else:
            held.append((number - 4, cache.tree(digests[number], download, tick)))
    except CacheFullError:
        full += 1
    for n, tree in held:  # what we hold stays, whatever the others do
        assert (tree.path / ("f%d" % n)).read_bytes() == bytes([n]) * 9000
    while len(held) > rng.randrange(2):
        held.pop(0)[1].close()
    done += 1
print(done, full)
"""


@pytest.mark.integration
def test_processes_share_it(folder: Path) -> None:
    """Each finds what it asked for, whole; nothing that is held is removed; the limit is kept."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(folder), str(seed), "3"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in random.Random(0).sample(range(1000), 4)
    ]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert all(int(out.split()[0]) > 10 for out, _ in said), said
    taken = sum(path.stat().st_size for path in (folder / "files").iterdir())
    taken += sum(int((path / "bytes").read_text()) for path in (folder / "folders").iterdir())
    assert taken <= 60_000
    assert os.listdir(folder / "parts") == []
