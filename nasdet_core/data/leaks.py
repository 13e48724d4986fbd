"""Finds the same picture in two splits, where it makes a measured AP too good, and twice in one split.

Same bytes are found by hash. Copies that were saved anew (another quality, size or format) are found by look, on a
grey thumbnail of 16x16 points:

1. Candidates share 12 consecutive bits of a 60-bit perceptual hash: the signs of the lowest coefficients of the
   thumbnail's cosine transform (the pHash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
   Functions", with zero in place of the median), and differ in at most 8 bits.
2. A candidate is confirmed on the thumbnails themselves, without their mean, slope and curvature (the lowest six
   coefficients), so that pictures that only share their lighting do not count. The difference is
   |a - b|^2 / (2 |a| |b|): 0 for equal thumbnails, about 1 for unrelated ones.

The threshold on the difference, 0.005, was measured on 364 microscope pictures (BCCD) and 137 COCO photographs:

* Copies: at most 0.0020 (JPEG quality 50 to 95; PNG; sizes 0.5, 0.7, 1.5 and 2 with bilinear, Lanczos and nearest
  neighbour; stretched to a square), and 0.0025 where the JPEG was decoded reduced to 64 pixels or more (`Image.draft`)
  and `full_size` was given: all 18,537 are found. Reduced without `full_size`, one copy in 250 is missed.
* Different pictures: one pair of BCCD at 0.010 (the same field of view at another focus: another photograph, so not
  named), then 0.25 and more.

Not found: copies that were cropped, turned, mirrored or recoloured, and pictures with hardly any texture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
THUMBNAIL_BYTES = SIDE * SIDE
LARGEST_DIFFERENCE = 0.005
LARGEST_BRIGHTNESS_DIFFERENCE = 4.0  # grey levels between the means; copies differ by less than one
LEAST_TEXTURE = 5.0  # grey levels of standard deviation; below it the rounding to bytes alone reaches the threshold
_SMOOTH = 2  # cosine terms of row + column frequency up to this are lighting
_BANDS, _BAND_BITS = 5, 12
_HASH_BITS = _BANDS * _BAND_BITS
_MOST_BITS_APART = 8  # copies: at most 5
_NEIGHBOURS = 256  # how far apart in a band's sorted bucket two pictures are still looked at
_MOST_TRIES = 16  # candidates of one picture that are confirmed: thousands of look-alikes do not take hours

Kind = Literal["repeated_picture", "same_picture_in_two_splits", "similar_picture_in_two_splits"]
Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Leak:
    """Two files that are one picture. `second` comes later in the order of the splits."""

    kind: Kind
    first_split: str
    first: str
    second_split: str
    second: str
    difference: float = 0.0  # 0 for the same bytes; of the thumbnails otherwise

    @property
    def message(self) -> str:
        """One sentence for a report."""
        if self.kind == "repeated_picture":
            return f"pictures {self.first} and {self.second} of {self.first_split} have the same bytes"
        what = "have the same bytes" if self.kind == "same_picture_in_two_splits" else "look the same (a copy)"
        return (
            f"pictures {self.first} of {self.first_split} and {self.second} of {self.second_split} {what}, so what is "
            f"measured on one of the splits is known from the other"
        )


def thumbnail(image: Image.Image, full_size: tuple[int, int] | None = None) -> bytes:
    """256 bytes: 16 rows of 16 grey values of a decoded picture.

    A JPEG may be decoded reduced (`Image.draft`) to 64 pixels or more. Its size is then rounded up, which stretches
    the picture by up to a percent; `full_size`, the (width, height) before the reduction, takes that out.
    """
    box = None
    if full_size is not None:
        reduced = max(1, round(full_size[0] / image.width))
        box = (0.0, 0.0, min(image.width, full_size[0] / reduced), min(image.height, full_size[1] / reduced))
    # A triangle, not a box filter: boxes end at whole pixels, which a reduced picture has few of.
    return image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box).tobytes()


def find_leaks(
    splits: Mapping[str, Sequence[str]], sha256: Mapping[str, str], thumbnails: Mapping[str, bytes]
) -> list[Leak]:
    """Name the pictures that occur twice: each second picture once, ordered by kind, split and file.

    `splits` holds the files of each split. A file without a hash or without a thumbnail (256 bytes) is not compared by
    it. 120,000 pictures take some seconds; the time is bounded however alike they are.
    """
    place = [(name, file) for name, files in splits.items() for file in files]
    return [*_same_bytes(place, sha256), *_look_alikes(place, thumbnails, sha256)]


def _same_bytes(place: Sequence[tuple[str, str]], sha256: Mapping[str, str]) -> list[Leak]:
    first: dict[str, tuple[str, str]] = {}
    repeated: list[Leak] = []
    between: list[Leak] = []
    for split, file in place:
        digest = sha256.get(file)
        if digest is None:
            continue
        first_split, first_file = first.setdefault(digest, (split, file))
        if first_file == file:
            continue
        if first_split == split:
            repeated.append(Leak("repeated_picture", split, first_file, split, file))
        else:
            between.append(Leak("same_picture_in_two_splits", first_split, first_file, split, file))
    return between + repeated


def _look_alikes(
    place: Sequence[tuple[str, str]], thumbnails: Mapping[str, bytes], sha256: Mapping[str, str]
) -> list[Leak]:
    members = [(split, file) for split, file in place if len(thumbnails.get(file, b"")) == THUMBNAIL_BYTES]
    if len({split for split, _file in members}) < 2:
        return []
    grey = np.frombuffer(b"".join(thumbnails[file] for _split, file in members), dtype=np.uint8)
    spectrum, brightness = _spectrum(grey.reshape(-1, SIDE, SIDE))
    codes = _hashes(spectrum)
    detail = spectrum.reshape(len(members), -1)
    detail[:, _frequencies().reshape(-1) <= _SMOOTH] = 0
    length = np.linalg.norm(detail, axis=1)
    # Shuffled, so that in a bucket of very many look-alikes every picture has neighbours of the other splits.
    textured = np.random.default_rng(0).permutation(np.flatnonzero(length >= LEAST_TEXTURE * SIDE))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(split for split, _file in members))}
    split_of = np.array([numbers[split] for split, _file in members], dtype=np.int64)
    twin = _Twins(detail, length, brightness, split_of)
    for first, second in _candidates(codes, textured, split_of, twin):
        twin.confirm(first, second)
    found: list[Leak] = []
    for number in np.flatnonzero(twin.first >= 0).tolist():
        (first_split, one), (second_split, other) = members[twin.first[number]], members[number]
        if one not in sha256 or sha256[one] != sha256.get(other):
            difference = float(twin.difference[number])
            found.append(Leak("similar_picture_in_two_splits", first_split, one, second_split, other, difference))
    return found


class _Twins:
    """For each picture the first one of an earlier split that was confirmed to be the same; -1 where there is none."""

    def __init__(self, detail: Floats, length: Floats, brightness: Floats, split_of: Indices) -> None:
        self._detail, self._length, self._brightness = detail, length, brightness
        self._split_of = split_of
        self._tries = np.zeros(len(detail), dtype=np.int64)
        self.first = np.full(len(detail), -1, dtype=np.int64)
        self.difference = np.zeros(len(detail), dtype=np.float32)

    def open(self, picture: Indices) -> npt.NDArray[np.bool_]:
        """Whether pictures still look for a twin."""
        wanted: npt.NDArray[np.bool_] = (self.first[picture] < 0) & (self._tries[picture] < _MOST_TRIES)
        return wanted

    def confirm(self, first: Indices, second: Indices) -> None:
        """Compare the thumbnails of pairs, each `second` at most once in a call."""
        np.add.at(self._tries, second, 1)
        apart = self._detail[first] - self._detail[second]
        difference = np.einsum("ij,ij->i", apart, apart) / (2 * self._length[first] * self._length[second])
        bright = np.abs(self._brightness[first] - self._brightness[second])
        same = (difference <= LARGEST_DIFFERENCE) & (bright <= LARGEST_BRIGHTNESS_DIFFERENCE)
        self.first[second[same]] = first[same]
        self.difference[second[same]] = difference[same]


def _candidates(codes: Hashes, textured: Indices, split_of: Indices, twin: _Twins) -> Iterator[tuple[Indices, Indices]]:
    """Pairs (earlier split, later split) of pictures that share a band of the hash, a few at a time."""
    for band in range(_BANDS):
        turned = _turned(codes[textured], band * _BAND_BITS)
        order = np.argsort(turned, kind="stable")
        ranked, pictures = turned[order], textured[order]
        bucket = ranked >> np.uint64(_HASH_BITS - _BAND_BITS)
        for offset in range(1, min(_NEIGHBOURS, len(ranked) - 1) + 1):
            together = np.flatnonzero(bucket[offset:] == bucket[:-offset])
            if not len(together):
                break
            left, right = pictures[together], pictures[together + offset]
            near = np.bitwise_count(ranked[together] ^ ranked[together + offset]) <= _MOST_BITS_APART
            # In each of the two a picture stands in second place once at most, as `confirm` wants it.
            for first, second in ((left, right), (right, left)):
                wanted = near & (split_of[first] < split_of[second]) & twin.open(second)
                if wanted.any():
                    yield first[wanted], second[wanted]


def _spectrum(grey: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """([N, 16, 16] cosine transform, orthonormal; [N] mean grey level)."""
    frequency, point = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    basis = np.cos(np.pi * (point + 0.5) * frequency / SIDE)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    basis = basis.astype(np.float32)
    spectrum: Floats = basis @ grey.astype(np.float32) @ basis.T
    return spectrum, spectrum[:, 0, 0] / np.float32(SIDE)


def _frequencies() -> Indices:
    return np.add.outer(np.arange(SIDE), np.arange(SIDE))


def _hashes(spectrum: Floats) -> Hashes:
    """[N] the signs of the 60 lowest coefficients after the mean, lowest first."""
    lowest = np.argsort(_frequencies().reshape(-1), kind="stable")[1 : _HASH_BITS + 1]
    codes = np.zeros(len(spectrum), dtype=np.uint64)
    flat = spectrum.reshape(len(spectrum), -1)
    for coefficient in lowest.tolist():
        codes = (codes << np.uint64(1)) | (flat[:, coefficient] > 0).astype(np.uint64)
    return codes


def _turned(codes: Hashes, bits: int) -> Hashes:
    """The hash turned to the left by some of its 60 bits, so that another band leads."""
    mask = np.uint64((1 << _HASH_BITS) - 1)
    turned: Hashes = ((codes << np.uint64(bits)) | (codes >> np.uint64(_HASH_BITS - bits))) & mask
    return turned if bits else codes
