"""From the body of a specification to a frozen value that the services work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from nasdet_core.algorithms.build import algorithm_options
from nasdet_core.errors import RecipeError, UnknownNameError
from nasdet_core.supernet.recipe import EvaluationRecipe, FinalRecipe, Recipe, SupernetRecipe
from services.common.specification.body import (
    SCHEMA,
    LimitBody,
    SpecificationBody,
    read_body,
    refuse_unknown_keys,
)
from services.common.specification.errors import SpecificationError, field_error

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
Reuse = Literal["auto", "never"] | int
OBJECTIVE = "box_map"
BASELINE_KEYS = ("backbone", "neck", "head")
OPTION_KINDS = (int, float, str, type(None))


@dataclass(frozen=True)
class FinalSection:
    """The finalists, and what they are measured against."""

    recipe: FinalRecipe
    baseline: Mapping[str, Any] | None  # None: choice 0 everywhere
    control: bool  # also train a candidate that was drawn at random


@dataclass(frozen=True)
class Specification:
    """What one search shall do, with every default filled in. `to_json` is the form that is stored."""

    name: str
    dataset: str
    detector: Mapping[str, Any]
    limits: tuple[LimitBody, ...]
    supernet: SupernetRecipe
    reuse: Reuse
    algorithm: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of the algorithm, as given
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    final: FinalSection = field(default_factory=lambda: FinalSection(FinalRecipe(), None, True))
    gpu_hours: float | None = None
    wall_hours: float | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """A body from which `parse_specification` makes an equal specification."""
        final = {**recipe_json(self.final.recipe), "control": self.final.control}
        if self.final.baseline is not None:
            final["baseline"] = dict(self.final.baseline)
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "dataset": self.dataset,
            "detector": dict(self.detector),
            "objectives": [OBJECTIVE],
            "limits": [limit.model_dump(mode="json", exclude_none=True) for limit in self.limits],
            "supernet": {**recipe_json(self.supernet), "reuse": self.reuse},
            "search": {"algorithm": self.algorithm, **self.options},
            "evaluation": recipe_json(self.evaluation),
            "final": final,
            "seed": self.seed,
        }
        budget = {"gpu_hours": self.gpu_hours, "wall_hours": self.wall_hours}
        if any(hours is not None for hours in budget.values()):
            body["budget"] = {key: hours for key, hours in budget.items() if hours is not None}
        return body


def parse_specification(body: Mapping[str, Any]) -> Specification:
    """Read a specification. Raises SpecificationError with the path of each field that is wrong.

    Everything that hangs on the search space (unknown parts, genotypes, limits that nothing satisfies, the
    algorithm's options) is checked by `check_at_submit`.
    """
    read = read_body(body)
    _check_objectives(read.objectives)
    for index, limit in enumerate(read.limits):
        if limit.metric == "params" and limit.image_size is not None:
            message = "parameters do not depend on the image size; leave it out"
            raise field_error(f"limits.{index}.image_size", message)
    algorithm, options = _algorithm(read.search)
    return Specification(
        name=read.name or read.dataset,
        dataset=read.dataset,
        detector=read.detector.model_dump(),
        limits=tuple(read.limits),
        supernet=_recipe(SupernetRecipe, "supernet", read.supernet, ("reuse",)),
        reuse=_reuse(read.supernet),
        algorithm=algorithm,
        options=options,
        evaluation=_recipe(EvaluationRecipe, "evaluation", read.evaluation),
        final=_final(read),
        gpu_hours=read.budget.gpu_hours if read.budget else None,
        wall_hours=read.budget.wall_hours if read.budget else None,
        seed=read.seed,
    )


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON that its `from_json` reads again: of `epochs` and `steps` only the one that counts."""
    values = recipe.to_json()
    if values.get("steps") is not None:
        values.pop("epochs", None)
    return values


def _recipe(kind: type[AnyRecipe], loc: str, section: Mapping[str, Any], also: tuple[str, ...] = ()) -> AnyRecipe:
    refuse_unknown_keys(loc, section, (*kind.known_keys(), *also))
    try:
        return kind.from_json({key: value for key, value in section.items() if key not in also})
    except RecipeError as error:
        raise field_error(loc, str(error)) from error


def _final(read: SpecificationBody) -> FinalSection:
    recipe = _recipe(FinalRecipe, "final", read.final, ("baseline", "control"))
    control = read.final.get("control", True)
    if not isinstance(control, bool):
        raise field_error("final.control", f"expected true or false, got {control!r}")
    baseline = read.final.get("baseline")
    if baseline is not None and not isinstance(baseline, Mapping):
        raise field_error("final.baseline", f"expected a mapping such as {{backbone: ...}}, got {baseline!r}")
    if baseline is not None:
        refuse_unknown_keys("final.baseline", baseline, BASELINE_KEYS)
    return FinalSection(recipe, baseline, control)


def _reuse(section: Mapping[str, Any]) -> Reuse:
    reuse: Any = section.get("reuse", "auto")
    if reuse in ("auto", "never") or (isinstance(reuse, int) and not isinstance(reuse, bool) and reuse >= 1):
        return reuse  # type: ignore[no-any-return]  # the condition is its type
    raise field_error("supernet.reuse", f"expected auto, never or the number of a supernet, got {reuse!r}")


def _algorithm(section: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = dict(section)
    name = options.pop("algorithm", None)
    if not isinstance(name, str):
        raise field_error("search.algorithm", f"expected the name of an algorithm such as detnas, got {name!r}")
    try:
        known = tuple(algorithm_options(name))
    except UnknownNameError as error:
        raise field_error("search.algorithm", str(error)) from error
    refuse_unknown_keys("search", options, known)
    for key, value in options.items():
        if not isinstance(value, OPTION_KINDS):
            raise field_error(f"search.{key}", f"expected a number or a name, got {value!r}")
    return name, options


def _check_objectives(objectives: list[Any]) -> None:
    """This version searches for AP alone; everything else is refused by name."""
    for index, objective in enumerate(objectives):
        loc = f"objectives.{index}"
        if isinstance(objective, Mapping):
            refuse_unknown_keys(loc, objective, ("metric", "direction"))
            direction = objective.get("direction", "maximize")
            if direction != "maximize":
                raise field_error(f"{loc}.direction", f"{OBJECTIVE} is maximized, got {direction!r}")
            objective = objective.get("metric")
        if objective != OBJECTIVE:
            raise field_error(
                loc,
                f"this version searches for {OBJECTIVE} alone, got {objective!r}; bound costs with `limits`",
            )
    if len(objectives) > 1:
        raise SpecificationError(field_error("objectives", f"{OBJECTIVE} is given twice").errors)
