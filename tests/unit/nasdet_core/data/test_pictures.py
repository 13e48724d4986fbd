"""Hostile and odd picture files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasdet_core.data.pictures import (
    PictureError,
    decode,
    examine,
    examine_all,
    header_facts,
    headers_of_all,
    inside,
    read_bytes,
)
from tests.support.datasets import write_picture


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestDecode:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
    def test_accepted_formats(self, tmp_path: Path, suffix: str) -> None:
        write_picture(tmp_path / f"a.{suffix}", 20, 10)
        image = decode((tmp_path / f"a.{suffix}").read_bytes(), "a")
        assert (image.mode, image.size) == ("RGB", (20, 10))

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
    def test_every_mode_becomes_rgb(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        Image.new(mode, (5, 4)).save(path)
        assert decode(path.read_bytes(), "a").mode == "RGB"

    def test_sixteen_bit_grey_keeps_its_upper_bits(self, tmp_path: Path) -> None:
        values = np.array([[0, 255, 256, 0x1234, 0x8000, 0xFFFF]], dtype=np.uint16)
        for suffix in ("png", "tif"):
            Image.fromarray(values).save(tmp_path / f"a.{suffix}")
            decoded = np.asarray(decode((tmp_path / f"a.{suffix}").read_bytes(), "a"))
            assert decoded[0, :, 0].tolist() == [0, 0, 1, 0x12, 0x80, 0xFF]
        facts = examine(tmp_path, "a.png")
        assert [kind for kind, _sentence in facts.traits] == ["deep_picture"]

    def test_pictures_of_32_bits_are_refused(self, tmp_path: Path) -> None:
        for dtype, word in ((np.float32, "floating-point"), (np.int32, "whole")):
            Image.fromarray(np.ones((4, 4), dtype=dtype)).save(tmp_path / "a.tif")
            with pytest.raises(PictureError, match=f"a.tif holds {word} numbers of 32 bits"):
                decode((tmp_path / "a.tif").read_bytes(), "a.tif")

    def test_exif_orientation_is_applied(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (40, 20))
        image.paste((255, 255, 255), (0, 0, 20, 20))  # left half white
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by 90 degrees clockwise
        image.save(tmp_path / "a.jpg", exif=exif, quality=95)
        upright = decode((tmp_path / "a.jpg").read_bytes(), "a.jpg")
        assert upright.size == (20, 40)
        facts = header_facts(tmp_path, "a.jpg")
        assert (facts.width, facts.height, facts.orientation, facts.stored_size) == (20, 40, 6, (40, 20))
        top, bottom = upright.getpixel((10, 5)), upright.getpixel((10, 35))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert top[0] > 200 > 50 > bottom[0]

    def test_damaged_exif_does_not_cost_the_picture(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff junk")
        assert examine(tmp_path, "a.jpg").problem is None

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 6)).save(tmp_path / "a.gif")
        (tmp_path / "a.gif").rename(tmp_path / "a.jpg")
        with pytest.raises(PictureError, match=r"a.jpg cannot be decoded: not a JPEG, PNG, WebP, BMP or TIFF picture"):
            decode(read_bytes(tmp_path, "a.jpg"), "a.jpg")

    def test_decompression_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png_header(60_000, 60_000))
        for look in (examine, header_facts):
            problem = look(tmp_path, "a.png").problem
            assert problem is not None
            assert problem.kind == "picture_too_large"
            assert "a.png" in str(problem)

    def test_many_pixels_below_the_library_limit_are_refused_too(self) -> None:
        with pytest.raises(PictureError, match="has 8001x8000 pixels, more than the 64000000 accepted"):
            decode(png_header(8001, 8000), "a.png")


class TestExamine:
    def test_sound_picture(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "a.png", 20, 10)
        facts = examine(tmp_path, "a.png")
        assert (facts.width, facts.height, facts.problem) == (20, 10, None)
        assert facts.sha256 is not None
        assert len(facts.sha256) == 64

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_truncated_picture_is_named(self, tmp_path: Path, suffix: str) -> None:
        write_picture(tmp_path / f"a.{suffix}", 200, 100)
        content = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) // 2])
        problem = examine(tmp_path, f"a.{suffix}").problem
        assert problem is not None
        assert problem.kind == "truncated_picture"
        assert str(problem).startswith(f"picture a.{suffix} cannot be decoded: it is truncated")
        assert "\n" not in str(problem)

    @pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"BM" + b"\0" * 60, b"RIFF\0\0\0\0WEBPVP8 ", b"hello"])
    def test_garbage_never_raises(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        assert examine(tmp_path, "a.jpg").problem is not None

    def test_missing_picture(self, tmp_path: Path) -> None:
        for look in (examine, header_facts):
            assert str(look(tmp_path, "a.jpg").problem) == "picture a.jpg is missing"

    def test_empty_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"")
        for look in (examine, header_facts):
            problem = look(tmp_path, "a.jpg").problem
            assert problem is not None
            assert (problem.kind, str(problem)) == ("empty_picture", "picture a.jpg is empty (0 bytes)")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_header_and_decoding_agree(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / f"a.{suffix}", exif=exif)
        decoded = decode((tmp_path / f"a.{suffix}").read_bytes(), "a")
        assert decoded.size == ((20, 30) if orientation >= 5 else (30, 20))
        for facts in (examine(tmp_path, f"a.{suffix}"), header_facts(tmp_path, f"a.{suffix}")):
            assert (facts.width, facts.height) == decoded.size
            assert (facts.orientation, facts.stored_size) == (orientation, (30, 20))

    def test_many_at_once_and_one_file_under_two_names(self, tmp_path: Path) -> None:
        for number in range(4):
            write_picture(tmp_path / f"{number}.png", 20 + number, 10, seed=number)
        (tmp_path / "again.png").hardlink_to(tmp_path / "2.png")
        (tmp_path / "bad.png").write_bytes(b"no picture")
        names = [*(f"{number}.png" for number in range(4)), "again.png", "bad.png", "gone.png", "../x.png"]
        seen: list[tuple[int, int]] = []
        facts = examine_all(tmp_path, names, lambda done, total: seen.append((done, total)))
        assert list(facts) == names
        assert [facts[name].width for name in names[:5]] == [20, 21, 22, 23, 22]
        assert facts["again.png"].sha256 == facts["2.png"].sha256
        assert {name: str(facts[name].problem) for name in names[5:]} == {
            "bad.png": "picture bad.png cannot be decoded: not a JPEG, PNG, WebP, BMP or TIFF picture",
            "gone.png": "picture gone.png is missing",
            "../x.png": "picture '../x.png' points outside the dataset; use a path below its root",
        }
        assert seen[-1] == (8, 8)
        headers = headers_of_all(tmp_path, names)
        assert [(h.width, h.height) for h in headers.values()] == [(f.width, f.height) for f in facts.values()]


@pytest.mark.parametrize("path", ["../a.jpg", "/a.jpg", "b/../../a.jpg", "", "a\\b.jpg", "a\0.jpg"])
def test_paths_outside_the_dataset_are_never_opened(tmp_path: Path, path: str) -> None:
    assert not inside(path)
    with pytest.raises(PictureError, match="points outside the dataset"):
        read_bytes(tmp_path, path)
