"""What a backbone, a detector file or the detector of a specification costs. Torch is not needed for any of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdet_client.errors import CommandError
from nasdet_client.local.model_file import SUFFIX, read_model_header
from nasdet_client.local.spec_file import read_specification
from nasdet_core.errors import NasDetError
from nasdet_core.search_spaces.base import BackbonePart, Genotype, ImageSize, Part
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.parts import SPACES, build_named, known_names
from nasdet_core.search_spaces.settings import parse_genotype
from nasdet_core.search_spaces.shufflenet_chain import CLASSIFIER_IMAGE_SIZE, DetNasBackbone
from nasdet_core.supernet.recipe import SupernetRecipe

Json = dict[str, Any]

SPECIFICATION_SUFFIXES = (".yaml", ".yml")
WHOLE_DETECTORS = "a detector file (MODEL.safetensors), or a specification (SPEC.yaml with --classes N)"


@dataclass(frozen=True)
class CostOptions:
    """What a cost is asked for with; None where nothing was said."""

    genotype: str | None = None
    image_size: ImageSize | None = None  # (height, width) in pixels
    width: float | None = None  # factor on all channels
    last_conv: int | None = None  # channels of the ImageNet form's last convolution
    classes: int | None = None  # object classes of the data


def cost_of(target: str, options: CostOptions) -> Json:
    """MACs and parameters, per part and in total, of a name of the registry, a specification or a detector file.

    Raises CommandError for anything else, and for an option that would not act on it.
    """
    try:
        if target in SPACES:
            return _backbone_cost(target, options)
        path = Path(target)
        if path.suffix.lower() in SPECIFICATION_SUFFIXES:
            return _specification_cost(path, options)
        if path.exists() or path.suffix.lower() == SUFFIX or len(path.parts) > 1:
            return _file_cost(path, options)
    except NasDetError as error:
        raise CommandError(str(error)) from error
    raise CommandError(f"unknown space or model {target!r}; known names are {known_names()}; or give {WHOLE_DETECTORS}")


def _backbone_cost(name: str, options: CostOptions) -> Json:
    """A backbone alone, at 224x224 unless told otherwise; `classifier` always at 224x224."""
    part: Part = build_named(name, {} if options.width is None else {"width": options.width})
    if not isinstance(part, BackbonePart):
        raise CommandError(
            f"expected a backbone, but {name!r} is a {part.role}: what it costs hangs on the levels it gets; known "
            f"backbones are {known_names('backbone')}; for whole detectors give {WHOLE_DETECTORS}"
        )
    _refuse(options, "classes", f"{name!r} is a backbone and has no object classes")
    size = options.image_size or CLASSIFIER_IMAGE_SIZE
    if part.blocks and options.genotype is None:
        _refuse(options, "last_conv", f"{name!r} is a space; the last convolution is counted for one genotype")
        return _space_cost(name, part, size)
    genes = _genotype(name, part, options.genotype)
    cost = part.cost(genes, size)
    backbone: Json = cost.to_json()
    if isinstance(part, DetNasBackbone):
        backbone["classifier"] = part.classifier_cost(genes, last_conv=options.last_conv).to_json()
    else:
        _refuse(options, "last_conv", f"{name!r} has no ImageNet form with a last convolution")
    return {**cost.to_json(), "image_size": list(size), "parts": {"backbone": backbone}}


def _space_cost(name: str, part: BackbonePart, size: ImageSize) -> Json:
    """From the cheapest to the dearest candidate of every block; each figure has its own two extremes."""
    factors = part.cost_factors(size)
    if factors is None:
        raise CommandError(f"the cost of {name!r} is no sum over its blocks; give one of its networks with --genotype")
    extremes: Json = {}
    for figure in ("macs", "params"):
        fixed = getattr(factors.constant, figure)
        tables = [[getattr(cost, figure) for cost in table] for table in factors.choices]
        extremes[figure] = {"smallest": fixed + sum(map(min, tables)), "largest": fixed + sum(map(max, tables))}
    supernet = {"params": part.supernet_params()} if isinstance(part, DetNasBackbone) else None
    return {
        "space": name,
        "image_size": list(size),
        "blocks": len(part.blocks),
        "genotypes": math.prod(len(block.candidates) for block in part.blocks),
        **extremes,
        "supernet": supernet,
    }


def _specification_cost(file: Path, options: CostOptions) -> Json:
    """The detector of a search specification, at the supernet's image size unless told otherwise."""
    body = read_specification(file)
    _refuse(options, "width", f"{file} says the width of its backbone")
    _refuse(options, "last_conv", "a detector has no last convolution")
    if "detector" not in body:
        raise CommandError(f"expected a specification with `detector:` in {file}, but that key is missing")
    if options.classes is None:
        raise CommandError(f"expected the number of object classes, which {file} does not say; give it as --classes N")
    try:
        space = DetectorSpace.from_description(body["detector"], options.classes)
        size = options.image_size or _supernet_size(body)
    except NasDetError as error:
        raise CommandError(f"{file}: {error}") from error
    return _detector_cost(str(file), space, options, size)


def _supernet_size(body: Mapping[str, Any]) -> ImageSize:
    recipe = body.get("supernet") or {}
    if isinstance(recipe, Mapping):
        recipe = {key: value for key, value in recipe.items() if key != "reuse"}  # the platform's, not the recipe's
    return SupernetRecipe.from_json(recipe).image_size


def _file_cost(file: Path, options: CostOptions) -> Json:
    """The detector that a file describes, at its own input size unless told otherwise; its weights are not read."""
    header = read_model_header(file)
    for key, has in (("width", "its width"), ("classes", "its classes")):
        _refuse(options, key, f"{file} says {has}")
    _refuse(options, "last_conv", "a detector has no last convolution")
    return _detector_cost(str(file), header.space, options, options.image_size or header.input.image_size)


def _detector_cost(name: str, space: DetectorSpace, options: CostOptions, size: ImageSize) -> Json:
    cost = space.cost(_genotype(name, space, options.genotype), size)
    return {
        **cost.total.to_json(),
        "image_size": list(size),
        "classes": space.num_classes,
        "parts": {role: part.to_json() for role, part in cost.parts.items()},
    }


def _genotype(name: str, part: BackbonePart | DetectorSpace, text: str | None) -> Genotype:
    blocks = len(part.blocks)
    if not blocks:
        if text is not None:
            raise CommandError(f"{name!r} is a fixed network and takes no genotype; leave --genotype out")
        return ()
    if text is None:
        raise CommandError(
            f"expected a genotype of {blocks} choices for {name!r}, which is searched; "
            f'give one, e.g. --genotype all-0, or --genotype "{" ".join(["0"] * blocks)}"'
        )
    try:
        genes = parse_genotype(text, blocks)
        part.validate(genes)
    except NasDetError as error:
        raise CommandError(f"--genotype: {error}") from error
    return genes


def _refuse(options: CostOptions, key: str, why: str) -> None:
    """An option that would change nothing is refused by name."""
    if getattr(options, key) is not None:
        raise CommandError(f"{why}; leave --{key.replace('_', '-')} out")
