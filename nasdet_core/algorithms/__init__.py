"""Torch-free search algorithms: ask for candidates, tell results."""

from nasdet_core.algorithms.base import Algorithm, CompletedTrial, Proposal
from nasdet_core.algorithms.build import ALGORITHMS, algorithm_options, build_algorithm
from nasdet_core.algorithms.detnas_evolution import DetNasEvolution
from nasdet_core.algorithms.random_search import RandomSearch

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "CompletedTrial",
    "DetNasEvolution",
    "Proposal",
    "RandomSearch",
    "algorithm_options",
    "build_algorithm",
]
