"""Torch-free descriptions of what can be searched: part spaces, the detector space, costs, limits."""

from nasdet_core.search_spaces.base import (
    ROLES,
    BackbonePart,
    ChoiceBlock,
    Cost,
    CostFactors,
    Genotype,
    HeadPart,
    ImageSize,
    LevelSpec,
    NeckPart,
    Part,
    Role,
)
from nasdet_core.search_spaces.detector_space import DetectorCost, DetectorSpace
from nasdet_core.search_spaces.fpn_neck import FpnNeck
from nasdet_core.search_spaces.heads_fixed import FasterRcnnHeadSpec, FcosHeadSpec, RetinaNetHeadSpec
from nasdet_core.search_spaces.limits import FeasibleSampler, Limit, check_reachable, reachable
from nasdet_core.search_spaces.parts import SPACES, PartEntry, build_named, build_part, find_part, list_spaces
from nasdet_core.search_spaces.published import PUBLISHED, PublishedArchitecture
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

__all__ = [
    "PUBLISHED",
    "ROLES",
    "SPACES",
    "BackbonePart",
    "ChoiceBlock",
    "Cost",
    "CostFactors",
    "DetNasBackbone",
    "DetectorCost",
    "DetectorSpace",
    "FasterRcnnHeadSpec",
    "FcosHeadSpec",
    "FeasibleSampler",
    "FpnNeck",
    "Genotype",
    "HeadPart",
    "ImageSize",
    "LevelSpec",
    "Limit",
    "NeckPart",
    "Part",
    "PartEntry",
    "PublishedArchitecture",
    "RetinaNetHeadSpec",
    "Role",
    "build_named",
    "build_part",
    "check_reachable",
    "find_part",
    "list_spaces",
    "reachable",
]
