"""Which path a training step uses (single-path uniform sampling, Guo et al. 2019, arXiv:1904.00420)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace


@dataclass(frozen=True)
class UniformPathSampler:
    """Every block draws each of its candidates with equal probability, independently of the others."""

    space: DetectorSpace
    seed: int

    def path(self, step: int) -> Genotype:
        """The path of one step: depends on (seed, step) alone, so a resumed training draws the same ones."""
        return self.space.sample(random.Random(f"{self.seed}:path:{step}"))
