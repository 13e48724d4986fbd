"""A detector file scored on a dataset of this machine, and two files without torch."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasdet_client.errors import CommandError
from nasdet_client.local.evaluate import ModelOptions, evaluate_model, match_classes, relabel
from nasdet_core.data.batches import eval_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.input_format import InputFormat
from nasdet_core.data.read import read_dataset
from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.evaluation.coco_map import CocoEvaluator
from nasdet_core.evaluation.voc_map import VocObjects, score_voc
from nasdet_core.supernet.checkpoint import save_detector
from nasdet_core.supernet.recipe import FinalRecipe
from nasdet_core.training.evaluate import detect
from nasdet_core.training.train_detector import train_detector
from tests.support.tiny_training import CLASS_NAMES, IMAGE_SIZE, RECIPE, TinyData, tiny_space

INPUT = InputFormat(IMAGE_SIZE, "rgb_normalized")
GENOTYPE = (2, 1, 2, 0) * 5


@dataclass(frozen=True)
class Tiny:
    """A network that has learned a little, and a COCO dataset with the pictures it was trained on as split val."""

    folder: Path
    data: TinyData
    model: Detector

    def save(self, file: Path, class_names: Sequence[str] = CLASS_NAMES) -> Path:
        save_detector(file, self.model, class_names=class_names, input=INPUT)
        return file


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "val").mkdir()
    data = TinyData.write(folder / "val")
    write_annotations(folder, data)
    recipe = FinalRecipe(epochs=10, learning_rate=3e-3).training(RECIPE)
    space = tiny_space().fixed(GENOTYPE)
    trained = train_detector(space=space, start=None, data=data.loader(), recipe=recipe, seed=0)
    return Tiny(folder, data, trained.model)


def write_annotations(folder: Path, data: TinyData, names: Mapping[int, str] | None = None, **of_first: int) -> None:
    """`names`: category id -> name; the two classes of TinyData and others. `of_first`: keys of the first object."""
    names = names or {1: "bright", 2: "dark"}
    category = {name: identity for identity, name in names.items()}
    annotations: list[dict[str, Any]] = []
    images = []
    for image, record in enumerate(data.cache.records, start=1):
        images.append({"id": image, "file_name": record.file, "width": record.width, "height": record.height})
        for box, label in zip(record.annotation.exact_xywh.tolist(), record.annotation.labels.tolist(), strict=True):
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": category[CLASS_NAMES[label]]}
            annotations.append({**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    annotations[0].update(of_first)
    categories = [{"id": identity, "name": name} for identity, name in names.items()]
    path = folder / "annotations" / "instances_val.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def copy_of(tiny: Tiny, folder: Path) -> Path:
    """The dataset's pictures in another folder."""
    (folder / "val").mkdir()
    for record in tiny.data.cache.records:
        (folder / "val" / record.file).write_bytes((tiny.folder / "val" / record.file).read_bytes())
    return folder


def evaluate(model: Path, data: Path, *, split: str = "val", batch_size: int = 5, voc: bool = False) -> dict[str, Any]:
    options = ModelOptions(model=model, data=data, split=split, batch_size=batch_size)
    return evaluate_model(options, voc=voc, progress=lambda _what, _done, _total: None)


def changed(tiny: Tiny, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Detector:
    model = copy.deepcopy(tiny.model)
    model.load_state_dict({name: change(name, values) for name, values in model.state_dict().items()})
    return model


class TestModel:
    def test_numbers_are_those_of_the_search(self, tiny: Tiny, tmp_path: Path) -> None:
        found = evaluate(tiny.save(tmp_path / "model"), tiny.folder)
        dataset = read_dataset(tiny.folder)
        records = dataset.splits["val"]
        batches = eval_batches(ResidentImages(dataset.root, records, IMAGE_SIZE), 5)
        detections = detect(tiny.model, batches=batches)
        evaluator = CocoEvaluator(records, dataset.class_names, dataset.category_ids)
        expected = evaluator.evaluate([detections[record.file] for record in records], full=True)
        assert found["metrics"] == expected.stats
        assert found["metrics"]["AP"] > 0.01  # the case says something
        assert found["standard_error"] == expected.standard_error > 0
        assert found["per_category"] == {
            name: {"category_id": number, "AP": expected.per_class[name], "AP50": (expected.per_class_ap50 or {})[name]}
            for number, name in ((1, "bright"), (2, "dark"))
        }
        count = sum(np.size(scores) for _boxes, scores, _labels in detections.values())
        assert found["counts"] == {
            "images": 12, "annotations": 24, "crowd": 0, "difficult": 0, "categories": 2, "detections": count,
            "images_with_detections": 12,
        }  # fmt: skip
        assert found["warnings"] == []
        assert found["split"] == "val"

    def test_classes_are_matched_by_name(self, tiny: Tiny, tmp_path: Path) -> None:
        """The dataset numbers the classes the other way round, with a class more in between."""
        other = copy_of(tiny, tmp_path)
        write_annotations(other, tiny.data, {4: "dark", 6: "grey", 9: "bright"})
        model = tiny.save(tmp_path / "model")
        found, expected = evaluate(model, other), evaluate(model, tiny.folder)
        assert found["metrics"] == pytest.approx(expected["metrics"])
        assert {name: entry["category_id"] for name, entry in found["per_category"].items()} == {
            "dark": 4, "grey": 6, "bright": 9,
        }  # fmt: skip
        for name in CLASS_NAMES:
            assert found["per_category"][name]["AP"] == expected["per_category"][name]["AP"]
        assert expected["per_category"]["bright"]["AP"] != expected["per_category"]["dark"]["AP"]
        assert found["per_category"]["grey"] == {"category_id": 6, "AP": None, "AP50": None}
        assert found["warnings"] == [
            "classes of the dataset that the model does not know: grey; it misses all their objects"
        ]

    def test_classes_that_the_dataset_lacks_do_not_count(self, tiny: Tiny, tmp_path: Path) -> None:
        found = evaluate(tiny.save(tmp_path / "model", ("bright", "violet")), tiny.folder)
        whole = evaluate(tiny.save(tmp_path / "whole"), tiny.folder)
        assert found["per_category"]["bright"] == whole["per_category"]["bright"]
        assert found["per_category"]["dark"]["AP"] == 0
        assert found["counts"]["detections"] < whole["counts"]["detections"]
        assert found["warnings"] == [
            "classes of the model that the dataset does not have: violet; its detections of them do not count",
            "classes of the dataset that the model does not know: dark; it misses all their objects",
        ]

    def test_voc(self, tiny: Tiny, tmp_path: Path) -> None:
        found = evaluate(tiny.save(tmp_path / "model"), tiny.folder, voc=True)
        records = tiny.data.cache.records
        by_file = detect(tiny.model, batches=eval_batches(tiny.data.cache, 5))
        objects = [VocObjects.of(record.annotation) for record in records]
        scores = score_voc(objects, [by_file[record.file] for record in records], 2)
        assert found["metrics"] == {"mAP_11_point": scores.map_11_point, "mAP_area": scores.map_area}
        assert found["metrics"]["mAP_area"] > 0.01
        bright = scores.per_class[0]
        assert found["per_category"]["bright"] == {
            "category_id": 1, "AP_11_point": bright.ap_11_point, "AP_area": bright.ap_area, "objects": 12,
            "detections": bright.detections,
        }  # fmt: skip

    def test_a_picture_that_cannot_be_decoded_is_left_out(self, tiny: Tiny, tmp_path: Path) -> None:
        other = copy_of(tiny, tmp_path)
        write_annotations(other, tiny.data)
        file = other / "val" / "3.png"
        file.write_bytes(file.read_bytes()[:-2000])
        found = evaluate(tiny.save(tmp_path / "model"), other)
        assert found["counts"]["images"] == 11
        assert found["metrics"]["AP"] > 0
        assert any("3.png" in sentence and "left out" in sentence for sentence in found["warnings"])

    def test_defects_of_the_dataset_are_mentioned(self, tiny: Tiny, tmp_path: Path) -> None:
        other = copy_of(tiny, tmp_path)
        write_annotations(other, tiny.data, category_id=77)
        (sentence,) = evaluate(tiny.save(tmp_path / "model"), other)["warnings"]
        assert sentence.startswith("defective entries of the dataset that are left out: 1, e.g. ")
        assert sentence.endswith(f"all of them: nasdet data check {other}")

    @pytest.mark.parametrize("split", ["valid", "val2017", "validation"])
    def test_a_split_by_another_name(self, split: str, tiny: Tiny, tmp_path: Path) -> None:
        found = evaluate(tiny.save(tmp_path / "model"), tiny.folder, split=split)
        assert (found["split"], found["counts"]["images"]) == ("val", 12)

    @pytest.mark.parametrize("voc", [False, True])
    def test_a_model_that_finds_nothing(self, voc: bool, tiny: Tiny, tmp_path: Path) -> None:
        """Its scores are all far below any threshold."""
        model = changed(tiny, lambda name, values: values - 1e4 if name.endswith("cls_logits.bias") else values)
        save_detector(tmp_path / "model", model, class_names=CLASS_NAMES, input=INPUT)
        found = evaluate(tmp_path / "model", tiny.folder, voc=voc)
        assert found["warnings"] == [
            "the model finds nothing in these pictures, so every object counts as missed and AP is 0"
        ]
        assert found["metrics"]["mAP_area" if voc else "AP"] == 0

    def test_progress(self, tiny: Tiny, tmp_path: Path) -> None:
        told: list[tuple[str, int, int]] = []
        options = ModelOptions(tiny.save(tmp_path / "model"), tiny.folder, "val", 5)
        evaluate_model(options, voc=False, progress=lambda *step: told.append(step))
        assert [step for step in told if step[0] == "detecting"] == [
            ("detecting", 5, 12), ("detecting", 10, 12), ("detecting", 12, 12),
        ]  # fmt: skip
        assert ("decoding", 12, 12) in told


class TestRefusals:
    def test_a_supernet(self, tiny: Tiny, tmp_path: Path) -> None:
        supernet = build_detector(tiny_space(), elastic=True, seed=0)
        save_detector(tmp_path / "supernet", supernet, class_names=CLASS_NAMES, input=INPUT)
        with pytest.raises(CommandError, match=r"holds a supernet, in which 20 blocks still have several candidates"):
            evaluate(tmp_path / "supernet", tiny.folder)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite(self, value: float, tiny: Tiny, tmp_path: Path) -> None:
        first = next(iter(tiny.model.state_dict()))
        model = changed(tiny, lambda name, values: values * value if name == first else values)
        save_detector(tmp_path / "model", model, class_names=CLASS_NAMES, input=INPUT)
        with pytest.raises(CommandError, match=rf"but 1 of \d+ tensors hold NaN or infinite values \(first: {first}\)"):
            evaluate(tmp_path / "model", tiny.folder)

    def test_an_unknown_split(self, tiny: Tiny, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"--split: .* has no split 'test'; it has val"):
            evaluate(tiny.save(tmp_path / "model"), tiny.folder, split="test")

    def test_no_class_in_common(self, tiny: Tiny, tmp_path: Path) -> None:
        message = "no class in common: the model finds cat, dog, the dataset has bright, dark"
        with pytest.raises(CommandError, match=message):
            evaluate(tiny.save(tmp_path / "model", ("cat", "dog")), tiny.folder)

    def test_no_detector_file(self, tiny: Tiny, tmp_path: Path) -> None:
        (tmp_path / "model").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
        for model, message in (
            (tmp_path / "model", "expected a nasdet detector"),
            (tmp_path / "nothing", "cannot read"),
        ):
            with pytest.raises(CommandError, match=message):
                evaluate(model, tiny.folder)

    def test_no_dataset(self, tiny: Tiny, tmp_path: Path) -> None:
        model = tiny.save(tmp_path / "model")
        with pytest.raises(CommandError, match="nothing there"):
            evaluate(model, tmp_path / "nothing")


class TestClasses:
    def test_a_long_list_is_cut(self) -> None:
        _labels, (sentence,) = match_classes(["a"], ["a", *"bcdefgh"])
        assert "classes of the dataset that the model does not know: b, c, d, e, f and 2 more" in sentence

    def test_names_cannot_write_over_a_terminal(self) -> None:
        with pytest.raises(CommandError) as caught:
            match_classes(["a\x1b[2J"], ["b"])
        assert "\\x1b[2J" in str(caught.value)
        assert str(caught.value).isprintable()

    def test_relabel(self) -> None:
        boxes = np.arange(12.0).reshape(3, 4)
        kept, scores, labels = relabel((boxes, [0.1, 0.2, 0.3], [2, 1, 0]), [5, -1, 3])
        assert np.array_equal(kept, boxes[[0, 2]])
        assert (np.asarray(scores).tolist(), np.asarray(labels).tolist()) == ([0.1, 0.3], [3, 5])

    def test_relabel_of_nothing(self) -> None:
        _boxes, _scores, labels = relabel((np.zeros((0, 4)), [], []), [0])
        assert np.asarray(labels).tolist() == []


def test_two_files_need_no_torch(repository: Path, tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 1, "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text("[]")
    code = (
        "import sys; from pathlib import Path; from nasdet_client.local.evaluate import evaluate_files\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "for voc in (False, True): evaluate_files(folder / 'gt.json', folder / 'dt.json', voc=voc)\n"
        "print(*sorted({'torch', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
