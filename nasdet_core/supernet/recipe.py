"""Recipes: everything that decides how a supernet is trained, a finalist tuned and a candidate scored.

A recipe is a frozen value that round-trips through JSON; the platform hashes it to know a supernet again. An
unknown key is refused by name, a value out of range names the range. This module imports no torch.

The defaults are our presets for small data on few cores. DetNAS's published settings (Chen et al. 2019,
arXiv:1903.10979, COCO stage) are the `detnas()` constructors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, Self

from nasdet_core.data.input_format import PIXEL_FORMATS
from nasdet_core.errors import RecipeError

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one_cycle", "cosine", "linear", "step")
PRECISIONS = ("fp32", "bf16")
PATH_SAMPLINGS = ("uniform",)
INITIALISATIONS = ("framework", "detnas")
STARTS = ("supernet", "scratch")
STRATEGIES = ("supernet",)
AVERAGES = ("exact", "exponential")

# An exponential average over less than this keeps too much of the values that it was reset to.
MIN_EXPONENTIAL_BATCHES = 50
LARGEST_REST = 0.01  # share of the reset statistics that may be left


def enough_for_exponential(batches: int, momentum: float) -> bool:
    """Whether an exponential average of BN statistics over that many batches forgets where it began."""
    return batches >= MIN_EXPONENTIAL_BATCHES and (1 - momentum) ** batches <= LARGEST_REST


def _check_number(key: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse what is not a finite number in [low, high]; `True` is not a number here."""
    kinds = (int,) if whole else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]  # `good` guards it
        kind = "a whole number" if whole else "a number"
        raise RecipeError(f"{key}: expected {kind} from {low:g} to {high:g}, got {value!r}")


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RecipeError(f"{key}: expected one of {', '.join(choices)}, got {value!r}")


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _check_flag(key: str, value: object) -> None:
    if not isinstance(value, bool):
        raise RecipeError(f"{key}: expected true or false, got {value!r}")


class Recipe:
    """What all recipes share: strict reading from JSON and writing to it. `section` names it in messages."""

    section = "recipe"

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]  # subclasses are dataclasses

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> Self:
        """Read a recipe; keys that are left out get their defaults, unknown keys are refused by name."""
        if not isinstance(mapping, Mapping):
            raise RecipeError(f"{cls.section}: expected a mapping of settings, got {mapping!r}")
        unknown = sorted(str(key) for key in mapping if key not in cls.known_keys())
        if unknown:
            known = ", ".join(cls.known_keys())
            raise RecipeError(f"{cls.section}: unknown key {unknown[0]!r}; known keys are {known}")
        return cls(**cls._converted(mapping))

    @classmethod
    def _converted(cls, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """JSON lists become tuples, so that recipes stay hashable values."""
        return {key: tuple(value) if isinstance(value, list) else value for key, value in mapping.items()}

    def to_json(self) -> dict[str, Any]:
        """The whole recipe, defaults included, in JSON types."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return,call-overload]  # subclasses are dataclasses


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclasses.dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """How any detector is trained: length, optimiser, schedule, input and augmentation."""

    section = "training"

    epochs: float = 60
    steps: int | None = None  # when given, it is the length and `epochs` is not read
    image_size: tuple[int, int] = (192, 256)  # (height, width) of a landscape picture's bucket, in pixels
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 5e-3  # the peak
    weight_decay: float = 1e-4
    momentum: float = 0.9  # of SGD; the first beta of AdamW
    bias_learning_rate_factor: float = 1.0  # DetNAS: 2
    decay_biases: bool = True  # DetNAS: false; "bias" = every parameter of that name, BN's included
    schedule: str = "one_cycle"
    warmup: float = 0.3  # share of the steps in which the rate rises to its peak
    warmup_start: float = 0.04  # first rate as a share of the peak
    milestones: tuple[float, ...] = (
        2 / 3,
        8 / 9,
    )  # of schedule "step": the rate drops tenfold at these shares
    gradient_clip: float | None = 10.0  # largest norm of the whole gradient; none: no clipping
    precision: str = "fp32"
    horizontal_flip: bool = True
    vertical_flip: bool = False
    init: str = "framework"
    pixel_format: str = "rgb_normalized"

    def __post_init__(self) -> None:
        name = self.section
        _check_number(f"{name}.epochs", self.epochs, 1e-3, 100_000)
        if self.steps is not None:
            _check_number(f"{name}.steps", self.steps, 1, 100_000_000, whole=True)
        if not _is_pair(self.image_size):
            raise RecipeError(f"{name}.image_size: expected [height, width] in pixels, got {self.image_size!r}")
        for side in self.image_size:
            _check_number(f"{name}.image_size", side, 32, 4096, whole=True)
        _check_number(f"{name}.batch_size", self.batch_size, 1, 4096, whole=True)
        _check_choice(f"{name}.optimizer", self.optimizer, OPTIMIZERS)
        _check_number(f"{name}.learning_rate", self.learning_rate, 1e-9, 100)
        _check_number(f"{name}.weight_decay", self.weight_decay, 0, 10)
        _check_number(f"{name}.momentum", self.momentum, 0, 0.9999)
        _check_number(f"{name}.bias_learning_rate_factor", self.bias_learning_rate_factor, 0, 100)
        _check_flag(f"{name}.decay_biases", self.decay_biases)
        _check_choice(f"{name}.schedule", self.schedule, SCHEDULES)
        _check_number(f"{name}.warmup", self.warmup, 0, 1)
        _check_number(f"{name}.warmup_start", self.warmup_start, 0, 1)
        if not isinstance(self.milestones, tuple):
            raise RecipeError(f"{name}.milestones: expected a list of shares of the steps, got {self.milestones!r}")
        for share in self.milestones:
            _check_number(f"{name}.milestones", share, 0, 1)
        if any(later <= earlier for earlier, later in itertools.pairwise(self.milestones)):
            raise RecipeError(f"{name}.milestones: expected shares that ascend, got {list(self.milestones)}")
        if self.schedule != "step" and self.milestones != TrainingRecipe.milestones:
            raise RecipeError(
                f"{name}.milestones: expected schedule step, the only one they act in, got {self.schedule}; "
                f"leave milestones out or use schedule: step"
            )
        if self.gradient_clip is not None:
            _check_number(f"{name}.gradient_clip", self.gradient_clip, 1e-6, 1e6)
        _check_choice(f"{name}.precision", self.precision, PRECISIONS)
        _check_flag(f"{name}.horizontal_flip", self.horizontal_flip)
        _check_flag(f"{name}.vertical_flip", self.vertical_flip)
        _check_choice(f"{name}.init", self.init, INITIALISATIONS)
        _check_choice(f"{name}.pixel_format", self.pixel_format, PIXEL_FORMATS)

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> Self:
        recipe = super().from_json(mapping)
        if mapping.get("steps") is not None and "epochs" in mapping:
            raise RecipeError(f"{cls.section}: give epochs or steps, not both; got both")
        return recipe

    def to_json(self) -> dict[str, Any]:
        mapping = super().to_json()
        del mapping["epochs" if self.steps is not None else "steps"]
        return mapping

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of optimiser steps on data of which one pass takes `steps_per_epoch` steps."""
        return self.steps if self.steps is not None else max(1, round(self.epochs * steps_per_epoch))


@dataclasses.dataclass(frozen=True)
class SupernetRecipe(TrainingRecipe):
    """How a supernet is trained. The defaults: mean AP 0.46 of the candidates on 205 blood cell pictures (BCCD).

    At a rate of 2e-3 it was 0.40, and there DetNAS's plain single-path training reached 0.24 in the same 60 epochs.
    `warm_start` is the share of the steps spent on one path before its weights go into every choice; 0 is plain.
    """

    section = "supernet"

    warm_start: float = 0.25
    path_sampling: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_number(f"{self.section}.warm_start", self.warm_start, 0, 0.95)
        _check_choice(f"{self.section}.path_sampling", self.path_sampling, PATH_SAMPLINGS)

    @classmethod
    def detnas(cls) -> SupernetRecipe:
        """DetNAS's COCO stage, Faster R-CNN with FPN (RetinaNet: learning rate 0.01).

        Batch 16, 90,000 steps of SGD from 0.02, divided by ten at 60,000 and 80,000, warm-up over 500 steps
        from a third; biases at twice the rate without decay; BGR 0..255; shorter side 800. It starts from
        ImageNet weights, which have to be imported first. No gradient clipping, no warm start, horizontal
        flips only.
        """
        return cls(
            steps=90_000, image_size=(800, 1333), batch_size=16, warm_start=0.0, optimizer="sgd",
            learning_rate=0.02, weight_decay=1e-4, momentum=0.9, bias_learning_rate_factor=2.0,
            decay_biases=False, schedule="step", warmup=500 / 90_000, warmup_start=1 / 3,
            milestones=(60_000 / 90_000, 80_000 / 90_000), gradient_clip=None, horizontal_flip=True,
            vertical_flip=False, init="detnas", pixel_format="bgr_255",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FinalRecipe(Recipe):
    """How the winners are trained to the end; what is not stated here is taken from the supernet's recipe."""

    section = "final"

    top: int = 1
    epochs: float = 10
    start: str = "supernet"
    seeds: int = 1
    learning_rate: float = 8e-3  # AdamW; 1e-3 from the same weights: AP lower by 0.05 on blood cells and on digits
    batch_size: int | None = None  # none: the supernet's

    def __post_init__(self) -> None:
        _check_number("final.top", self.top, 1, 1000, whole=True)
        _check_number("final.epochs", self.epochs, 1e-3, 100_000)
        _check_choice("final.start", self.start, STARTS)
        _check_number("final.seeds", self.seeds, 1, 100, whole=True)
        _check_number("final.learning_rate", self.learning_rate, 1e-9, 100)
        if self.batch_size is not None:
            _check_number("final.batch_size", self.batch_size, 1, 4096, whole=True)

    def training(self, supernet: SupernetRecipe) -> TrainingRecipe:
        """The complete recipe of a finalist (and of a baseline's last stretch)."""
        shared = {name: getattr(supernet, name) for name in TrainingRecipe.known_keys()}
        own = {"epochs": self.epochs, "steps": None, "learning_rate": self.learning_rate}
        if self.batch_size is not None:
            own["batch_size"] = self.batch_size
        return TrainingRecipe(**{**shared, **own})


@dataclasses.dataclass(frozen=True)
class RecalibrationRecipe(Recipe):
    """How BN statistics are estimated anew for one candidate. See `batch_norm.recalibrate_batch_norm`."""

    section = "evaluation.recalibration"

    average: str = "exact"
    images: int = 128  # 32 lose the order of candidates, 205 add nothing (BCCD)
    batch_size: int = 16
    momentum: float = 0.1  # of the exponential average

    def __post_init__(self) -> None:
        _check_choice(f"{self.section}.average", self.average, AVERAGES)
        _check_number(f"{self.section}.images", self.images, 1, 1_000_000, whole=True)
        _check_number(f"{self.section}.batch_size", self.batch_size, 1, 4096, whole=True)
        _check_number(f"{self.section}.momentum", self.momentum, 1e-6, 1)
        if self.average == "exact":
            if self.momentum != RecalibrationRecipe.momentum:
                raise RecipeError(
                    f"{self.section}.momentum: expected average exponential, the only one it acts in, got "
                    f"momentum {self.momentum:g} with average exact; leave momentum out"
                )
        elif not self.enough(self.images):
            batches = self.batches(self.images)
            raise RecipeError(
                f"{self.section}.images: expected at least {MIN_EXPONENTIAL_BATCHES} batches and at most "
                f"{LARGEST_REST:.0%} of the reset values left for average exponential, got {self.images} images in "
                f"{batches} batches of {self.batch_size} with momentum {self.momentum:g} "
                f"({(1 - self.momentum) ** batches:.1%} left); use more images or average: exact"
            )

    def batches(self, pictures: int) -> int:
        """Number of batches that a split of so many pictures gives."""
        return math.ceil(min(self.images, pictures) / self.batch_size)

    def enough(self, pictures: int) -> bool:
        """Whether a split of so many pictures suffices for the average."""
        return self.average == "exact" or enough_for_exponential(self.batches(pictures), self.momentum)


@dataclasses.dataclass(frozen=True)
class EvaluationRecipe(Recipe):
    """How one candidate of a search is scored."""

    section = "evaluation"

    strategy: str = "supernet"
    recalibration: RecalibrationRecipe = RecalibrationRecipe()
    batch_size: int = 16

    def __post_init__(self) -> None:
        _check_choice("evaluation.strategy", self.strategy, STRATEGIES)
        _check_number("evaluation.batch_size", self.batch_size, 1, 4096, whole=True)

    @classmethod
    def _converted(cls, mapping: Mapping[str, Any]) -> dict[str, Any]:
        values = super()._converted(mapping)
        if "recalibration" in values:
            values["recalibration"] = RecalibrationRecipe.from_json(values["recalibration"])
        return values

    @classmethod
    def detnas(cls) -> EvaluationRecipe:
        """500 batches of 8 training images under an exponential average, as the public DetNAS code
        intends."""
        exponential = RecalibrationRecipe(average="exponential", images=4000, batch_size=8, momentum=0.1)
        return cls(recalibration=exponential, batch_size=8)
