"""Recipes are strict values: unknown keys and values out of range are refused by name."""

import json
import subprocess
import sys

import pytest

from nasdet_core.errors import RecipeError
from nasdet_core.supernet.recipe import (
    EvaluationRecipe,
    FinalRecipe,
    RecalibrationRecipe,
    SupernetRecipe,
    TrainingRecipe,
)


@pytest.mark.parametrize(
    "recipe",
    [
        SupernetRecipe(),
        SupernetRecipe.detnas(),
        SupernetRecipe(steps=7, image_size=(64, 96)),
        FinalRecipe(top=2, batch_size=4),
        EvaluationRecipe(),
        EvaluationRecipe.detnas(),
    ],
)
def test_recipe_survives_json(recipe: SupernetRecipe | FinalRecipe | EvaluationRecipe) -> None:
    assert type(recipe).from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


class TestRefusals:
    def test_unknown_key_is_named_beside_the_known_ones(self) -> None:
        with pytest.raises(RecipeError, match=r"supernet: unknown key 'epoch'; known keys are epochs, steps"):
            SupernetRecipe.from_json({"epoch": 3})

    def test_unknown_key_of_the_inner_recipe_is_named(self) -> None:
        with pytest.raises(RecipeError, match=r"evaluation.recalibration: unknown key 'image'"):
            EvaluationRecipe.from_json({"recalibration": {"image": 3}})

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("epochs", 0),
            ("epochs", "60"),
            ("epochs", True),
            ("epochs", float("nan")),
            ("batch_size", 2.5),
            ("batch_size", 0),
            ("warm_start", 1.0),
            ("image_size", [192]),
            ("image_size", 192),
            ("image_size", [192, 0]),
            ("optimizer", "adam"),
            ("schedule", "cosin"),
            ("precision", "fp16"),
            ("path_sampling", "fair"),
            ("learning_rate", -1),
            ("gradient_clip", 0),
            ("vertical_flip", 1),
            ("milestones", [0.5, 2]),
            ("milestones", 0.5),
        ],
    )
    def test_bad_value_is_refused_with_its_key(self, key: str, value: object) -> None:
        with pytest.raises(RecipeError, match=rf"supernet\.{key}: expected .* got"):
            SupernetRecipe.from_json({key: value})

    def test_epochs_and_steps_together_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="epochs or steps"):
            SupernetRecipe.from_json({"epochs": 3, "steps": 100})

    @pytest.mark.parametrize("milestones", [[0.9, 0.5], [0.5, 0.5]])
    def test_milestones_that_do_not_ascend_are_refused(self, milestones: list[float]) -> None:
        with pytest.raises(RecipeError, match=r"supernet\.milestones: expected shares that ascend, got \[0"):
            SupernetRecipe.from_json({"schedule": "step", "milestones": milestones})

    def test_milestones_of_a_schedule_that_has_none_are_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"supernet\.milestones: expected schedule step, .* got cosine"):
            SupernetRecipe(schedule="cosine", milestones=(0.5, 0.75))
        assert SupernetRecipe(schedule="step", milestones=(0.5, 0.75)).milestones == (0.5, 0.75)

    def test_momentum_of_the_exact_average_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"evaluation\.recalibration\.momentum: .* got momentum 0\.2 with"):
            EvaluationRecipe.from_json({"recalibration": {"momentum": 0.2}})

    @pytest.mark.parametrize(
        ("images", "momentum", "numbers"),
        [
            (392, 0.5, r"got 392 images in 49 batches of 8 with momentum 0\.5 \(0\.0% left\)"),
            (400, 0.01, r"got 400 images in 50 batches of 8 with momentum 0\.01 \(60\.5% left\)"),
        ],
    )
    def test_too_few_images_for_the_exponential_average_are_refused(
        self, images: int, momentum: float, numbers: str
    ) -> None:
        with pytest.raises(RecipeError, match=rf"recalibration\.images: expected at least 50 batches .* {numbers}"):
            RecalibrationRecipe(average="exponential", images=images, batch_size=8, momentum=momentum)

    def test_a_list_instead_of_a_mapping_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="final: expected a mapping"):
            FinalRecipe.from_json([1, 2])  # type: ignore[arg-type]  # the wrong type is the point


def test_finalist_takes_what_it_does_not_state_from_the_supernet() -> None:
    supernet = SupernetRecipe(image_size=(96, 128), batch_size=4, weight_decay=0.5, steps=99)
    training = FinalRecipe(epochs=3, learning_rate=0.25).training(supernet)
    assert training == TrainingRecipe(
        epochs=3, learning_rate=0.25, image_size=(96, 128), batch_size=4, weight_decay=0.5
    )
    assert FinalRecipe(batch_size=2).training(supernet).batch_size == 2


def test_detnas_recipe_has_the_published_schedule() -> None:
    recipe = SupernetRecipe.detnas()
    assert recipe.total_steps(1) == 90_000
    assert [round(share * 90_000) for share in recipe.milestones] == [60_000, 80_000]
    assert round(recipe.warmup * 90_000) == 500
    assert recipe.warm_start == 0


def test_a_split_must_have_enough_pictures_for_the_exponential_average() -> None:
    recipe = RecalibrationRecipe(average="exponential", images=4000, batch_size=8)
    assert [recipe.batches(pictures) for pictures in (392, 393, 9999)] == [49, 50, 500]
    assert [recipe.enough(pictures) for pictures in (392, 393)] == [False, True]
    assert RecalibrationRecipe().enough(1)


def test_recipes_import_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import nasdet_core.supernet.recipe"
    subprocess.run([sys.executable, "-c", code], check=True)
