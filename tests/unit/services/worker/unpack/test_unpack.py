"""Archives from outside: what is ordinary is unpacked whole, all else is refused and writes nothing elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.worker.unpack.unpack import unpack
from services.worker.unpack.writer import Limits, UnpackError, safe_parts

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

FILES = {"a.jpg": b"picture" * 100, "deep/er/b.txt": b"", "ü/ñame with spaces.xml": b"<x/>", "n" * 200 + "/c": b"long"}
LIMITS = Limits(members=50, bytes=10 << 20, ratio=100.0, free_bytes=1 << 20)


def tar_of(*members: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for member, content in members:
            member.size = len(content) if member.isreg() else member.size
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def good_tar(tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    return tar_of(
        (member("./", tarfile.DIRTYPE), b""),
        (member("deep/", tarfile.DIRTYPE), b""),
        *((member(f"./{name}"), content) for name, content in FILES.items()),
        tar_format=tar_format,
    )


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "pax": good_tar,
    "gnu": lambda: good_tar(tarfile.GNU_FORMAT),
    "gz": lambda: gzip.compress(good_tar()),
    "zip": lambda: zip_of(("deep/", b""), *FILES.items()),
    "stored": lambda: zip_of(*FILES.items(), method=zipfile.ZIP_STORED),
}


class Place:
    """A folder to unpack in, with something beside it that must stay as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "secret").write_text("secret")
        self.number = 0

    def unpack(self, archive: bytes, limits: Limits = LIMITS) -> Path:
        self.number += 1
        home = self.root / str(self.number)
        home.mkdir()
        (home / "archive").write_bytes(archive)
        try:
            unpack(home / "archive", home / "data", home / "listing", limits=limits)
        finally:
            assert sorted(path.name for path in home.iterdir()) == ["archive", "data", "listing"]
            assert sorted(path.name for path in self.root.iterdir()) == [
                *sorted(map(str, range(1, self.number + 1))),
                "secret",
            ]
            assert (self.root / "secret").read_text() == "secret"
            for path in (home / "data").rglob("*"):
                assert stat.S_ISREG(path.lstat().st_mode) or stat.S_ISDIR(path.lstat().st_mode)
        return home / "data"

    def refusal(self, archive: bytes, limits: Limits = LIMITS) -> str:
        with pytest.raises(UnpackError) as caught:
            self.unpack(archive, limits)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_what_is_ordinary_is_unpacked_whole(place: Place, kind: str) -> None:
    folder = place.unpack(ARCHIVES[kind]())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")} == {0o600, 0o700}
    listing = (folder.parent / "listing").read_text().splitlines()
    assert sorted(listing) == sorted(
        f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}" for name, content in FILES.items()
    )


def _hostile_names() -> st.SearchStrategy[str]:
    """Spellings that lead elsewhere, or nowhere."""
    evil = st.sampled_from(
        ["..", ".", "", "/", "\\", "..\\..", "\x00", "a\nb", "C:", "~/..", "\x7f", "\u2028", "\udcff"]
    )
    part = st.one_of(evil, st.text("ab.", min_size=1, max_size=4))
    return st.lists(part, min_size=1, max_size=5).map("/".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(_hostile_names(), min_size=1, max_size=4), kind=st.sampled_from(["tar", "zip"]))
def test_no_spelling_of_a_name_leads_elsewhere(place: Place, names: list[str], kind: str) -> None:
    """Either all of them are plain, each once, and unpacked below the folder; or the archive is refused."""
    if kind == "tar":
        archive = tar_of(*((member(name), b"x") for name in names), tar_format=tarfile.GNU_FORMAT)
        # What a tar header can carry: it ends at a NUL.
        written = [name.split("\0")[0] for name in names]
    else:
        if any("\udcff" in name for name in names):
            return  # zip has no way to write it
        archive = zip_of(*((zipfile.ZipInfo(name), b"x") for name in names))
        written = [zipfile.ZipInfo(name).filename for name in names]
    try:
        folder = place.unpack(archive)
    except UnpackError:
        return
    files = {"/".join(safe_parts(name)) for name in written if not name.endswith("/")}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found <= files
    assert all(".." not in name.split("/") for name in written)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a file with holes"),
        (b"V", "an entry of type"),
    ],
)
def test_only_files_and_folders_of_a_tar(place: Place, kind: bytes, word: str) -> None:
    archive = tar_of((member("a"), b"fine"), (member("evil", kind, "../../secret"), b""), (member("evil/x"), b"x"))
    sentence = place.refusal(archive)
    assert "'evil'" in sentence
    assert word in sentence


def test_only_files_and_folders_of_a_zip(place: Place) -> None:
    for mode, word in ((stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a special file"), (stat.S_IFCHR, "a special file")):
        entry = zipfile.ZipInfo("evil")
        entry.external_attr = (mode | 0o777) << 16
        assert word in place.refusal(zip_of(("a", b"fine"), (entry, b"../../secret")))
    encrypted = bytearray(zip_of(("a", b"fine")))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(signature) + at] |= 1
    assert "encrypted" in place.refusal(bytes(encrypted))
    assert "another compression" in place.refusal(zip_of(("a", b"fine" * 100), method=zipfile.ZIP_LZMA))


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a/", "a"), ("a", "a/")], ids="-".join
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_nothing_is_named_twice(place: Place, names: tuple[str, str], kind: str) -> None:
    if kind == "tar":
        infos = [member(name, tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE) for name in names]
        archive = tar_of(*((info, b"x") for info in infos))
    else:
        archive = zip_of(*((zipfile.ZipInfo(name), b"" if name.endswith("/") else b"x") for name in names))
    assert "pack it anew" in place.refusal(archive)


def test_bytes_are_counted_as_they_come(place: Place) -> None:
    """Whatever a header says: a bomb is stopped at the limit."""
    bomb = bytes(3 << 20)
    for archive in (gzip.compress(tar_of((member("bomb"), bomb))), zip_of(("bomb", bomb))):
        assert len(archive) < 20_000
        sentence = place.refusal(archive)
        assert "becomes more than" in sentence
        written = place.root / str(place.number) / "data" / "bomb"
        assert written.stat().st_size <= LIMITS.free_bytes
    tiny = Limits(members=50, bytes=1000)
    assert "becomes more than 1000 bytes" in place.refusal(tar_of((member("a"), bytes(1001))), tiny)
    many = [(f"f{number}", b"") for number in range(51)]
    assert "more than 50 files" in place.refusal(tar_of(*((member(name), b"") for name, _ in many)))
    assert "51 files" in place.refusal(zip_of(*many))


def test_the_room_is_asked_for_before_it_is_taken(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of((member("a"), bytes(5000)), (member("b"), bytes(5000))))
    asked: list[int] = []
    taken = unpack(tmp_path / "archive", tmp_path / "data", tmp_path / "listing", limits=LIMITS, room=asked.append)
    assert asked
    assert asked[-1] >= taken >= 10_000


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(ARCHIVES)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
)
def test_a_damaged_archive_is_refused_or_harmless(
    place: Place, kind: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    """Cut off anywhere and bent anywhere: a sentence or a folder, never another error."""
    data = bytearray(ARCHIVES[kind]())
    for where, bits in flips:
        data[int(where * len(data))] ^= bits
    try:
        place.unpack(bytes(data[: int(cut * len(data))]))
    except UnpackError:
        return


@pytest.mark.parametrize("kind", ["pax", "gnu", "gz", "zip"])
def test_an_archive_that_ends_in_the_middle_of_a_file_is_refused(place: Place, kind: str) -> None:
    data = ARCHIVES[kind]()
    position = data.find(b"picturepic")
    place.refusal(data[: position + 20 if position > 0 else len(data) // 2])


def test_a_bad_header_in_the_middle_is_not_the_end(place: Place) -> None:
    """The standard library takes it for one, and unpacks half of a dataset without a word."""
    data = bytearray(tar_of((member("a"), b"x" * 512), (member("b"), b"y" * 512)))
    data[1024 + 150] ^= 0xFF  # in the checksum of b's header
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as archive:
        assert archive.getnames() == ["a"]
    assert "a header cannot be read" in place.refusal(bytes(data))


@pytest.mark.parametrize("key", ["path", "size"])
def test_attributes_for_all_files_may_not_name_them(place: Place, key: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={key: "1"}) as archive:
        info = member("a")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert "one name or size" in place.refusal(out.getvalue())


def test_a_header_that_would_fill_the_memory_is_refused(place: Place) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = member("long", kind)
        info.size = 1 << 40
        assert "a header of" in place.refusal(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


@pytest.mark.parametrize("size", ["-1", "+5", "1e3", "9" * 19, "\u0663", ""])
def test_a_size_is_a_number(place: Place, size: str) -> None:
    info = member("a")
    info.pax_headers = {"size": size}
    archive = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    assert "bytes; pack it anew" in place.refusal(archive)


def test_a_zip_with_a_directory_that_would_fill_the_memory_is_refused(place: Place) -> None:
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFF0, 0, 0)
    assert "divide the dataset" in place.refusal(b"PK\x03\x04" + bytes(100) + end)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert "no list of its files" in place.refusal(b"PK\x03\x04" + bytes(100) + end)


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(2000), b"Rar!\x1a\x07" + bytes(1000), b"\x1f\x8b"])
def test_what_is_no_archive_is_a_sentence(place: Place, data: bytes) -> None:
    place.refusal(data)


def _gzip_with_another_checksum() -> bytes:
    data = bytearray(gzip.compress(good_tar()))
    data[-8] ^= 1  # CRC-32 and length stand at the end
    return bytes(data)


def _tar_without_its_end() -> bytes:
    """Cut exactly where the last file ends."""
    whole = good_tar()
    blocks = -(-len(whole.rstrip(b"\0")) // 512)
    return whole[: blocks * 512]


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (_gzip_with_another_checksum, "damaged"),
        (_tar_without_its_end, "missing"),
        (lambda: good_tar() + good_tar(), "after its end"),
        (lambda: good_tar() + b"more", "after its end"),
        (lambda: gzip.compress(good_tar()) + gzip.compress(good_tar()), "after its end"),
        (lambda: good_tar() + bytes(2 << 20), "after its end"),
        (lambda: zip_of(), "empty"),
    ],
)
def test_what_lost_or_gained_a_part_is_refused(place: Place, archive: Callable[[], bytes], said: str) -> None:
    """Also where every file that is left is whole: a data set with fewer pictures is another one."""
    assert said in place.refusal(archive())
