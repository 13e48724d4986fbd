"""Hostile and odd picture files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from nasdet_core.data.pictures import PictureError, decode, examine, header_size, inside, read_bytes
from tests.support.datasets import write_picture


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestDecode:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
    def test_accepted_formats(self, tmp_path: Path, suffix: str) -> None:
        write_picture(tmp_path / f"a.{suffix}", 20, 10)
        image = decode((tmp_path / f"a.{suffix}").read_bytes(), "a")
        assert (image.mode, image.size) == ("RGB", (20, 10))

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
    def test_every_mode_becomes_rgb(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        Image.new(mode, (5, 4)).save(path)
        assert decode(path.read_bytes(), "a").mode == "RGB"

    def test_exif_orientation_is_applied(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (40, 20))
        image.paste((255, 255, 255), (0, 0, 20, 20))  # left half white
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by 90 degrees clockwise
        image.save(tmp_path / "a.jpg", exif=exif, quality=95)
        upright = decode((tmp_path / "a.jpg").read_bytes(), "a.jpg")
        assert upright.size == (20, 40)
        assert header_size(tmp_path, "a.jpg") == (20, 40)
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
        with pytest.raises(PictureError, match=r"a.jpg cannot be decoded: not a JPEG, PNG, WebP or BMP picture"):
            decode(read_bytes(tmp_path, "a.jpg"), "a.jpg")

    def test_decompression_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png_header(60_000, 60_000))
        problem = examine(tmp_path, "a.png").problem
        assert problem is not None
        assert "a.png" in problem

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
        assert problem.startswith(f"picture a.{suffix} cannot be decoded:")
        assert "\n" not in problem

    @pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"BM" + b"\0" * 60, b"RIFF\0\0\0\0WEBPVP8 ", b"hello"])
    def test_garbage_never_raises(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        assert examine(tmp_path, "a.jpg").problem is not None

    def test_missing_picture(self, tmp_path: Path) -> None:
        assert examine(tmp_path, "a.jpg").problem == "picture a.jpg is missing"


@pytest.mark.parametrize("path", ["../a.jpg", "/a.jpg", "b/../../a.jpg", "", "a\\b.jpg", "a\0.jpg"])
def test_paths_outside_the_dataset_are_never_opened(tmp_path: Path, path: str) -> None:
    assert not inside(path)
    with pytest.raises(PictureError, match="points outside the dataset"):
        read_bytes(tmp_path, path)
