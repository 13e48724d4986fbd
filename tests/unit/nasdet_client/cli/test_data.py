"""`nasdet data convert | split | register`, as their user types them."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_core.data.read import read_dataset


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NASDET_URL", "NASDET_TOKEN", "NASDET_HOME"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def run_json(*arguments: str | Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return body


def refusal(*arguments: str | Path) -> str:
    """What stderr gets; asserts that it is one sentence of a refused command."""
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    assert result.exit_code == 2
    assert result.stdout == ""
    sentences = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(sentences) == 1
    return sentences[0]


def voc(root: Path, **splits: int) -> Path:
    """A devkit of noise; every picture has a cat, every fourth a dog. The first box of all has no area."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        names = [f"{split}{number:03d}" for number in range(count)]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for number, name in enumerate(names):
            Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(root / f"JPEGImages/{name}.jpg")
            boxes = [("cat", 2, 3, 11, 14)] + ([("dog", 4, 4, 18, 20)] if number % 4 == 0 else [])
            if name == "train000":
                boxes.append(("cat", 5, 5, 5, 5))
            objects = "".join(
                f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
                f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                for label, x1, y1, x2, y2 in boxes
            )
            (root / f"Annotations/{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename><size><width>20</width><height>24</height>"
                f"<depth>3</depth></size>{objects}</annotation>"
            )
    return root


def yolo(root: Path, count: int = 10) -> Path:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng((number, len(split))).integers(0, 255, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/{split}/{number}.png")
            (root / f"labels/{split}/{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.4\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root


def registered(home: Path, name: str) -> Path:
    """Where a worker looks for a dataset (services.worker.jobs.dataset.dataset_folder)."""
    return Path(json.loads((home / "datasets" / f"{name}.json").read_text())["path"])


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


class TestConvert:
    def test_voc_to_coco(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=8, val=4)
        broken = source / "JPEGImages" / "val001.jpg"
        broken.write_bytes(broken.read_bytes()[:-200])
        result = run_json("convert", source, "--out", tmp_path / "coco")
        assert {name: (s["pictures"], s["boxes"]) for name, s in result["splits"].items()} == {
            "train": (8, 10),
            "val": (3, 4),
        }
        left_out = {d["kind"]: d["count"] for d in result["defects"] if d["effect"] == "left out"}
        assert left_out == {"zero_area_box": 1, "truncated_picture": 1}
        before, after = read_dataset(source), read_dataset(tmp_path / "coco")
        assert after.class_names == before.class_names
        assert not (tmp_path / "coco" / "val" / "val001.jpg").exists()
        assert len(after.splits["val"]) == 3

    def test_the_text_names_counts_what_was_left_out_and_where_it_is(self, tmp_path: Path) -> None:
        text = run("convert", voc(tmp_path / "voc", train=8, val=4), "--out", tmp_path / "coco", "--pictures", "link")
        assert "boxes of dog" in text
        assert "left out: 1 x zero area box, first: " in text
        assert f"written to {tmp_path / 'coco'} in COCO form (pictures linked" in text

    def test_the_new_ids_of_yolo_classes_are_told(self, tmp_path: Path) -> None:
        source = yolo(tmp_path / "yolo")
        assert "class ids from 1, as COCO has them: cat 0 -> 1, dog 1 -> 2" in run(
            "convert", source, "--out", tmp_path / "text"
        )
        result = run_json("convert", source, "--out", tmp_path / "coco")
        assert [(c["name"], c["source_id"], c["category_id"]) for c in result["classes"]] == [
            ("cat", 0, 1),
            ("dog", 1, 2),
        ]
        assert read_dataset(tmp_path / "coco").category_ids == (1, 2)

    def test_class_names_that_look_like_markup_are_printed_as_they_are(self, tmp_path: Path) -> None:
        source = yolo(tmp_path / "yolo")
        (source / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: ['[red]', '[/b]']\n")
        text = run("convert", source, "--out", tmp_path / "coco")
        assert "boxes of [red]" in text
        assert "boxes of [/b]" in text

    @pytest.mark.parametrize("kind", ["missing", "empty", "full target", "target inside"])
    def test_what_cannot_be_converted_is_one_sentence(self, kind: str, tmp_path: Path) -> None:
        source, out = tmp_path / "voc", tmp_path / "coco"
        if kind == "empty":
            source.mkdir()
        elif kind != "missing":
            voc(source, train=4, val=4)
        if kind == "full target":
            out.mkdir()
            (out / "mine").write_text("")
        if kind == "target inside":
            out = source / "coco"
        wanted = {
            "missing": "nothing there",
            "empty": "is empty",
            "full target": "is not empty",
            "target inside": "would then hold itself",
        }
        assert wanted[kind] in refusal("convert", source, "--out", out)


class TestSplit:
    def test_one_set_is_divided_60_20_20(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", all=40)
        result = run_json("split", source, "--out", tmp_path / "out")
        assert {name: split["pictures"] for name, split in result["splits"].items()} == {
            "train": 24,
            "val": 8,
            "test": 8,
        }
        dogs = [split["boxes_by_class"]["dog"] for split in result["splits"].values()]
        assert dogs == [6, 2, 2]
        assert {name: len(records) for name, records in read_dataset(tmp_path / "out").splits.items()} == {
            "train": 24,
            "val": 8,
            "test": 8,
        }

    def test_a_search_split_comes_out_of_train(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=20, val=6, test=5)
        run("split", source, "--out", tmp_path / "out", "--search", "5")
        again = read_dataset(tmp_path / "out")
        assert {name: len(records) for name, records in again.splits.items()} == {
            "train": 15,
            "search": 5,
            "val": 6,
            "test": 5,
        }
        moved = [Path(record.file).name for record in again.splits["search"]]
        assert all(name.startswith("train") for name in moved)

    def test_the_same_seed_gives_the_same_bytes(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=20, val=6)
        for name, seed in (("one", "4"), ("two", "4"), ("three", "5")):
            run("split", source, "--out", tmp_path / name, "--search", "5", "--seed", seed)
        assert digests(tmp_path / "one") == digests(tmp_path / "two")
        assert digests(tmp_path / "one") != digests(tmp_path / "three")

    def test_drawn_by_lot_it_is_another_draw(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=40, val=6)
        run("split", source, "--out", tmp_path / "balanced", "--search", "12")
        assert "by lot alone" in run("split", source, "--out", tmp_path / "plain", "--search", "12", "--random")
        assert digests(tmp_path / "balanced") != digests(tmp_path / "plain")

    def test_fractions_dissolve_the_splits_and_say_so(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=12, val=8)
        text = run("split", source, "--out", tmp_path / "out", "--train", "0.5", "--val", "0.25", "--test", "0.25")
        assert "the splits train, val are dissolved" in text
        again = read_dataset(tmp_path / "out")
        assert {name: len(records) for name, records in again.splits.items()} == {"train": 10, "val": 5, "test": 5}

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ((), "has the splits train, val already"),
            (("--train", "0.5", "--val", "0.2"), "sum to 0.7"),
            (("--search", "5", "--val", "0.2"), "give either --search N"),
            (("--search", "20"), "fewer pictures for the search split than the 20 of train"),
        ],
    )
    def test_what_cannot_be_split_is_one_sentence(
        self, arguments: tuple[str, ...], sentence: str, tmp_path: Path
    ) -> None:
        source = voc(tmp_path / "voc", train=20, val=6)
        assert sentence in refusal("split", source, "--out", tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()


class TestRegister:
    def test_the_name_leads_a_worker_to_the_folder(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "Blood Cells", train=12, val=6)
        result = run_json("register", source, "--home", tmp_path / "home")
        assert (result["name"], result["platform"]) == ("blood-cells", None)
        assert registered(tmp_path / "home", "blood-cells") == source

    def test_the_text_is_short_and_names_the_next_step(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=12, val=6)
        text = run("register", source, "--home", tmp_path / "home", "--name", "cells")
        assert "registered as cells" in text
        assert "`dataset: cells`" in text
        assert f"nasdet run SPEC.yaml --home {tmp_path / 'home'}" in text

    def test_a_dataset_that_no_search_could_use_is_not_registered(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=12, val=1)
        sentence = refusal("register", source, "--home", tmp_path / "home")
        assert "is not registered: expected at least 2 pictures with objects in the report split" in sentence
        assert not (tmp_path / "home").exists()

    def test_a_name_in_use_is_refused_before_the_pictures_are_looked_at(self, tmp_path: Path) -> None:
        first = voc(tmp_path / "first", train=12, val=6)
        run("register", first, "--home", tmp_path / "home", "--name", "cells")
        (tmp_path / "nothing").mkdir()
        sentence = refusal("register", tmp_path / "nothing", "--home", tmp_path / "home", "--name", "cells")
        assert f"already is that of {first}" in sentence
        assert registered(tmp_path / "home", "cells") == first

    def test_an_address_that_a_killed_platform_left_is_no_platform(self, tmp_path: Path) -> None:
        source = voc(tmp_path / "voc", train=12, val=6)
        home = tmp_path / "home"
        home.mkdir()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, nobody answers
            (home / "address.json").write_text(json.dumps({"url": f"http://127.0.0.1:{unused.getsockname()[1]}"}))
            (home / "token").write_text("secret\n")
            result = run_json("register", source, "--home", home)
        assert result["platform"] is None
        assert registered(home, result["name"]) == source
