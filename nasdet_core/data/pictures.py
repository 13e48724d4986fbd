"""Opens pictures that strangers made: a short list of formats, a pixel limit, upright, RGB. Needs Pillow
only."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from nasdet_core.errors import DatasetError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000  # below the size at which Pillow itself starts to warn of decompression bombs
MAX_FILE_BYTES = 256 * 2**20
_HARMLESS = r"(Possibly corrupt|Corrupt) EXIF data"  # damaged metadata does not make the pixels unusable


class PictureError(DatasetError):
    """A picture that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What reading one picture file told: its hash and upright size, or why it cannot be used."""

    sha256: str | None
    width: int = 0
    height: int = 0
    problem: str | None = None


def inside(file: str) -> bool:
    """Whether a path from an annotation file stays below the dataset's root."""
    path = PurePosixPath(file)
    return bool(file) and not path.is_absolute() and ".." not in path.parts and "\\" not in file and "\0" not in file


def read_bytes(root: Path, file: str) -> bytes:
    """The file's bytes; a PictureError when it is missing, unreadable, too large or outside the dataset."""
    if not inside(file):
        raise PictureError(f"picture {file!r} points outside the dataset; use a path below its root")
    path = root / file
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PictureError(f"picture {file} has more than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"picture {file} is missing") from error
    except OSError as error:
        raise PictureError(f"picture {file} cannot be read: {error.strerror or error}") from error


def decode(content: bytes, file: str) -> Image.Image:
    """RGB picture, turned upright by its EXIF orientation."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, file)
            image.load()
            return _as_rgb(_upright(image))
    except PictureError:
        raise
    except Exception as error:  # a decoder fed with broken bytes may raise anything
        raise PictureError(f"picture {file} cannot be decoded: {_first_line(error)}") from error


def header_size(root: Path, file: str) -> tuple[int, int]:
    """(width, height) of the upright picture from its header alone; nothing is decoded."""
    if not inside(file):
        raise PictureError(f"picture {file!r} points outside the dataset; use a path below its root")
    try:
        with Image.open(root / file, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except Exception as error:  # as in decode
        raise PictureError(f"picture {file} cannot be opened: {_first_line(error)}") from error


def examine(root: Path, file: str) -> PictureFacts:
    """Hash and decode one picture; never raises for a bad one. Pillow's warnings count as failures here."""
    try:
        content = read_bytes(root, file)
    except PictureError as error:
        return PictureFacts(None, problem=str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=_HARMLESS)
            image = decode(content, file)
    except PictureError as error:
        return PictureFacts(digest, problem=str(error))
    return PictureFacts(digest, image.width, image.height)


def _check_size(image: Image.Image, file: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"picture {file} has {width}x{height} pixels, more than the {MAX_PIXELS} accepted")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata, which a parser may answer with anything, reads as "upright"
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if 2 <= _orientation(image) <= 8 else image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "not a JPEG, PNG, WebP or BMP picture" if "cannot identify image file" in text else text
