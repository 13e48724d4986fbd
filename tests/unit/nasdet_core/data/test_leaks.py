"""Pictures that occur twice: by their bytes, and by their look after they were saved anew."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from nasdet_core.data.demo import write_demo_dataset
from nasdet_core.data.leaks import THUMBNAIL_BYTES, Leak, find_leaks, thumbnail

Resampling = Image.Resampling


def scene(seed: int) -> npt.NDArray[np.uint8]:
    """Grey clutter of all scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.normal(0, 1, (size, size)).astype(np.float32)).resize((16, 16))) / size
        for size in (2, 4, 8, 16)
    ]
    grey = np.sum(layers, axis=0)
    scaled: npt.NDArray[np.float64] = 128 + 40 * (grey - grey.mean()) / grey.std()
    return np.clip(scaled, 0, 255).astype(np.uint8)


def as_bytes(grey: npt.NDArray[np.float64] | npt.NDArray[np.uint8]) -> bytes:
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return rounded.tobytes()


def found(splits: Mapping[str, Sequence[str]], looks: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(leak.first, leak.second) for leak in find_leaks(splits, {}, looks)]


class TestSameBytes:
    def test_between_splits_and_within_one(self) -> None:
        splits = {"train": ["a", "b", "c"], "val": ["d", "e"]}
        hashes = {"a": "1", "b": "2", "c": "1", "d": "2", "e": "3"}
        assert find_leaks(splits, hashes, {}) == [
            Leak("same_picture_in_two_splits", "train", "b", "val", "d"),
            Leak("repeated_picture", "train", "a", "train", "c"),
        ]

    def test_a_file_without_a_hash_is_not_compared(self) -> None:
        assert find_leaks({"train": ["a"], "val": ["b"]}, {"a": "1"}, {}) == []

    def test_the_same_bytes_are_not_named_again_by_their_look(self) -> None:
        looks = {"a": as_bytes(scene(0)), "b": as_bytes(scene(0))}
        assert len(find_leaks({"train": ["a"], "val": ["b"]}, {"a": "1", "b": "1"}, looks)) == 1

    def test_sentences_name_both_files_and_splits(self) -> None:
        leak = Leak("same_picture_in_two_splits", "train", "b.jpg", "val", "d.jpg")
        assert leak.message.startswith("pictures b.jpg of train and d.jpg of val have the same bytes")
        repeated = Leak("repeated_picture", "train", "a.jpg", "train", "c.jpg")
        assert repeated.message == "pictures a.jpg and c.jpg of train have the same bytes"


class TestLook:
    def test_noise_of_a_compression_is_seen_through_and_another_picture_is_not_taken(self) -> None:
        noise = np.random.default_rng(9).integers(-1, 2, (16, 16))
        looks = {"a": as_bytes(scene(0)), "b": as_bytes(scene(1)), "c": as_bytes(scene(0) + noise.astype(float))}
        (leak,) = find_leaks({"train": ["a", "b"], "test": ["c"]}, {}, looks)
        assert (leak.kind, leak.first, leak.second) == ("similar_picture_in_two_splits", "a", "c")
        assert 0 < leak.difference < 0.005

    def test_within_a_split_looks_are_not_compared(self) -> None:
        looks = {name: as_bytes(scene(0)) for name in "ab"} | {"c": as_bytes(scene(1))}
        assert found({"train": ["a", "b"], "val": ["c"]}, looks) == []

    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("brighter", lambda grey: grey + 8),
            ("more contrast", lambda grey: (grey - 128.0) * 1.3 + 128),
            ("mirrored", lambda grey: grey[:, ::-1]),
        ],
    )
    def test_another_exposure_is_no_copy(
        self, name: str, other: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    ) -> None:
        grey = scene(0).astype(np.float64)
        assert found({"train": ["a"], "val": ["b"]}, {"a": as_bytes(grey), "b": as_bytes(other(grey))}) == [], name

    def test_pictures_without_texture_and_with_the_same_lighting_are_not_compared(self) -> None:
        rows, columns = np.mgrid[0:16, 0:16]
        slope = 60 + 8.0 * columns + 2 * rows
        noise = np.random.default_rng(0).normal(0, 2, (2, 16, 16))
        looks = {
            "flat": as_bytes(np.full((16, 16), 90.0)),
            "flat too": as_bytes(np.full((16, 16), 90.0)),
            "sky": as_bytes(slope + noise[0]),
            "other sky": as_bytes(slope + noise[1]),
        }
        assert found({"train": ["flat", "sky"], "val": ["flat too", "other sky"]}, looks) == []

    def test_a_strong_common_light_does_not_make_a_copy(self) -> None:
        """The detail differs by more than a copy's would, however small that is beside the light."""
        light = 10.0 * np.mgrid[0:16, 0:16][1] - 75
        detail = (scene(0) - 128.0) / 5
        noise = np.random.default_rng(0).normal(0, 1, (16, 16))
        looks = {"a": as_bytes(128 + light + detail), "b": as_bytes(128 + light + detail + noise)}
        assert found({"train": ["a"], "val": ["b"]}, looks) == []

    def test_a_thumbnail_that_is_none_is_passed_over(self) -> None:
        looks = {"a": as_bytes(scene(0)), "b": b"short", "c": as_bytes(scene(0))}
        assert found({"train": ["a", "b"], "val": ["c", "d"]}, looks) == [("a", "c")]


class TestManyPictures:
    def test_the_size_of_coco_takes_seconds_and_every_copy_is_found(self) -> None:
        pictures, copies = 120_000, 500
        rng = np.random.default_rng(0)
        frequency = np.hypot(*np.mgrid[0:16, 0:16])
        frequency[0, 0] = 1
        basis = np.cos(np.pi * (np.arange(16) + 0.5) * np.arange(16)[:, None] / 16).astype(np.float32)
        spectrum = (rng.standard_normal((pictures, 16, 16), dtype=np.float32) / frequency**1.2).astype(np.float32)
        spectrum[:, 0, 0] = 0
        grey = np.matmul(np.matmul(basis.T, spectrum), basis)
        grey = np.clip(128 + 45 * grey / grey.std((1, 2), keepdims=True), 0, 255).astype(np.uint8)
        grey[-copies:] = np.clip(grey[:copies].astype(int) + rng.integers(-1, 2, (copies, 16, 16)), 0, 255)
        names = [f"{number:06d}.jpg" for number in range(pictures)]
        looks = dict(zip(names, (row.tobytes() for row in grey), strict=True))
        pairs = found({"train": names[:-5000], "val": names[-5000:]}, looks)
        assert pairs == list(zip(names[:copies], names[-copies:], strict=True))

    def test_very_many_look_alikes_stay_cheap_and_each_is_named_once(self) -> None:
        """The frames of a camera that stands still."""
        names = [f"{number:05d}.jpg" for number in range(20_000)]
        looks = dict.fromkeys(names, as_bytes(scene(0)))
        pairs = found({"train": names[:-1000], "val": names[-1000:]}, looks)
        assert [second for _first, second in pairs] == names[-1000:]


def pictures_of(shared: Path, every: int = 1) -> list[Path]:
    bccd = sorted((shared / "bccd" / "BCCD" / "JPEGImages").glob("*.jpg"))
    return [*bccd, *sorted((shared / "coco_free_subset").glob("*/*.jpg"))][::every]


def look(source: Path | io.BytesIO, *, reduced: bool) -> bytes:
    with Image.open(source) as image:
        size = image.size
        if reduced:
            image.draft("RGB", (64, 64))
        return thumbnail(image.convert("RGB"), size if reduced else None)


def copies(picture: Path) -> dict[str, io.BytesIO]:
    """The picture saved anew in many ways."""
    with Image.open(picture) as image:
        rgb = image.convert("RGB")
    made = {f"JPEG {quality}": _saved(rgb, "JPEG", quality=quality) for quality in (50, 75, 95)}
    made["PNG"] = _saved(rgb, "PNG", compress_level=1)
    for scale, way in ((0.5, Resampling.BILINEAR), (0.7, Resampling.NEAREST), (1.5, Resampling.LANCZOS)):
        size = (round(rgb.width * scale), round(rgb.height * scale))
        made[f"{scale} {way.name}"] = _saved(rgb.resize(size, way), "JPEG", quality=75)
    return made


def _saved(image: Image.Image, form: str, **options: int) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


class TestRealPictures:
    @pytest.mark.parametrize("reduced", [False, True])
    def test_every_copy_is_found_and_nothing_else(self, reduced: bool, shared_data_dir: Path) -> None:
        """Thumbnails of whole pictures against those of copies, which may be decoded reduced."""
        pictures = pictures_of(shared_data_dir, every=24)
        looks = {picture.name: look(picture, reduced=False) for picture in pictures}
        expected = []
        for picture in pictures:
            for way, file in copies(picture).items():
                looks[f"{way} of {picture.name}"] = look(file, reduced=reduced)
                expected.append((picture.name, f"{way} of {picture.name}"))
        splits = {"train": [picture.name for picture in pictures], "val": [copy for _original, copy in expected]}
        assert found(splits, looks) == expected

    @pytest.mark.parametrize("dataset", ["bccd", "coco_free_subset"])
    def test_no_two_real_pictures_are_called_the_same(self, dataset: str, shared_data_dir: Path) -> None:
        """Each picture in a split of its own, so that all are compared; their SOURCE.md says that none repeats."""
        pictures = [path for path in pictures_of(shared_data_dir) if dataset in path.parts]
        looks = {path.name: look(path, reduced=True) for path in pictures}
        assert len(looks) > 100
        assert found({path.name: [path.name] for path in pictures}, looks) == []


def test_scenes_of_the_demo_are_not_called_the_same(tmp_path: Path) -> None:
    root = write_demo_dataset(tmp_path / "demo", train=60, val=30, test=30)
    pictures = sorted(root.glob("*/*.png"))
    looks = {f"{path.parent.name}/{path.name}": look(path, reduced=False) for path in pictures}
    assert found({name: [name] for name in looks}, looks) == []


class TestThumbnail:
    def test_is_16_rows_of_16_grey_values(self) -> None:
        left_dark = np.zeros((64, 48), dtype=np.uint8)
        left_dark[:, 24:] = 200
        small = np.frombuffer(thumbnail(Image.fromarray(left_dark)), dtype=np.uint8).reshape(16, 16)
        assert small.size == THUMBNAIL_BYTES
        assert (small[:, :7] == 0).all()
        assert (small[:, 9:] == 200).all()

    def test_the_size_before_a_reduction_takes_its_rounding_out(self) -> None:
        """425 rows at a quarter are 106.25, of which the decoder makes 107."""
        rng = np.random.default_rng(0)
        fine = Image.fromarray(rng.integers(0, 255, (34, 52), dtype=np.uint8)).resize((640, 425), Resampling.BICUBIC)
        file = _saved(fine, "JPEG", quality=95)
        whole, reduced = Image.open(file), Image.open(io.BytesIO(file.getvalue()))
        reduced.draft("L", (64, 64))
        assert reduced.size == (160, 107)

        def off(small: bytes) -> float:
            values = np.frombuffer(small, dtype=np.uint8).astype(int)
            return float(np.abs(values - np.frombuffer(thumbnail(whole), dtype=np.uint8)).mean())

        assert off(thumbnail(reduced, whole.size)) < 0.5 * off(thumbnail(reduced))

    @pytest.mark.parametrize("size", [(1, 1), (3, 500), (16, 16), (4000, 2)])
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
    def test_any_size_and_mode(self, size: tuple[int, int], mode: str) -> None:
        assert len(thumbnail(Image.new(mode, size), size)) == THUMBNAIL_BYTES
