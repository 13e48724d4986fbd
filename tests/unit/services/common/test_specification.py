"""Reading specifications: what is accepted acts, everything else is refused with the path and a sentence."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.specification import (
    SpecificationError,
    check_at_submit,
    parse_specification,
    resolve,
    resolve_stored,
)

BACKBONE = {"space": "detnas-300m", "width": 0.5}
SPEC: dict[str, Any] = {
    "schema": 1,
    "name": "cells",
    "dataset": "bccd",
    "detector": {
        "backbone": BACKBONE,
        "neck": {"model": "fpn", "channels": 64},
        "head": {"model": "fcos"},
    },
    "objectives": ["box_map"],
    "limits": [{"metric": "macs", "part": "backbone", "image_size": [224, 224], "max": 80e6}],
    "supernet": {
        "epochs": 60,
        "warm_start": 0.25,
        "image_size": [192, 256],
        "batch_size": 8,
        "reuse": "auto",
    },
    "search": {"algorithm": "detnas", "population": 12, "generations": 3},
    "evaluation": {"strategy": "supernet", "recalibration": {"average": "exact", "images": 128}},
    "final": {
        "top": 1,
        "epochs": 10,
        "start": "supernet",
        "seeds": 3,
        "baseline": {"backbone": {**BACKBONE, "genotype": "all-0"}},
    },
    "budget": {"gpu_hours": 2},
    "seed": 0,
}


def refused(**changes: Any) -> str:
    with pytest.raises(SpecificationError) as caught:
        check_at_submit(parse_specification({**SPEC, **changes}))
    return str(caught.value)


class TestParse:
    def test_the_documented_example_is_read_with_every_key_acting(self) -> None:
        read = parse_specification(SPEC)
        assert (read.name, read.dataset, read.seed, read.gpu_hours) == ("cells", "bccd", 0, 2)
        assert read.supernet.image_size == (192, 256)
        assert read.reuse == "auto"
        assert read.options == {"population": 12, "generations": 3}
        assert read.evaluation.recalibration.images == 128
        assert (read.final.recipe.seeds, read.final.control) == (3, True)

    def test_the_shortest_specification_names_data_detector_and_algorithm(self) -> None:
        read = parse_specification({key: SPEC[key] for key in ("dataset", "detector", "search")})
        assert read.name == "bccd"
        assert read.limits == ()
        assert read.gpu_hours is None

    def test_both_forms_of_an_objective_mean_the_same(self) -> None:
        long = {**SPEC, "objectives": [{"metric": "box_map", "direction": "maximize"}]}
        assert parse_specification(long) == parse_specification(SPEC)

    @given(
        seed=st.integers(0, 2**32 - 1),
        width=st.sampled_from([0.5, 1.0, 2]),
        steps=st.none() | st.integers(1, 1000),
        maximum=st.floats(1, 1e12) | st.integers(1, 10**12),
        control=st.booleans(),
        reuse=st.sampled_from(["auto", "never", 3]),
    )
    @settings(max_examples=30, deadline=None)
    def test_what_is_stored_is_read_again_as_the_same(
        self, seed: int, width: float, steps: int | None, maximum: float, control: bool, reuse: str | int
    ) -> None:
        body = {
            **SPEC,
            "seed": seed,
            "detector": {**SPEC["detector"], "backbone": {"space": "detnas-300m", "width": width}},
            "supernet": {"reuse": reuse, **({} if steps is None else {"steps": steps})},
            "limits": [{"metric": "params", "max": maximum}],
            "final": {"control": control},
        }
        read = parse_specification(body)
        assert parse_specification(read.to_json()) == read

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"supernet": {"epoch": 60}}, "supernet.epoch is not a known key (did you mean epochs?); known: epochs,"),
            ({"sedd": 1}, "sedd is not a known key (did you mean seed?)"),
            ({"supernet": {"epochs": -1}}, "supernet.epochs: expected a number from 0.001 to 100000, got -1"),
            ({"supernet": {"reuse": "sometimes"}}, "supernet.reuse: expected auto, never or the number of a supernet"),
            ({"seed": -1}, "seed: expected greater than or equal to 0, got -1"),
            ({"seed": True}, "seed: expected"),
            ({"seed": "1"}, "seed: expected"),
            ({"schema": 2}, "schema: expected 1, got 2"),
            ({"dataset": "../secret"}, "dataset: expected"),
            ({"detector": {"backbone": BACKBONE}}, "detector.neck is missing"),
            ({"limits": [{"metric": "latency", "max": 1}]}, "limits.0.metric: expected 'macs' or 'params'"),
            ({"limits": [{"metric": "macs", "max": 1, "at": 2}]}, "limits.0.at is not a known key"),
            (
                {"limits": [{"metric": "params", "max": 1e9, "image_size": [1, 1]}]},
                "limits.0.image_size: parameters do not depend on the image size",
            ),
            ({"objectives": ["box_map", "macs"]}, "objectives.1: this version searches for box_map alone, got 'macs'"),
            ({"objectives": ["box_map", "box_map"]}, "objectives: box_map is given twice"),
            ({"objectives": []}, "objectives: expected"),
            ({"search": {"population": 3}}, "search.algorithm: expected the name of an algorithm"),
            ({"search": {"algorithm": "detnass"}}, "search.algorithm: unknown algorithm 'detnass'"),
            ({"search": {"algorithm": "detnas", "popluation": 3}}, "search.popluation is not a known key"),
            ({"search": {"algorithm": "random"}}, "trials was expected among the options"),
            ({"evaluation": {"recalibration": {"imgs": 1}}}, "evaluation.recalibration: unknown key 'imgs'"),
            ({"final": {"baselin": {}}}, "final.baselin is not a known key (did you mean baseline?)"),
            ({"final": {"control": 1}}, "final.control: expected true or false, got 1"),
            ({"budget": {"gpu_hours": 0}}, "budget.gpu_hours: expected greater than 0, got 0"),
            ({"budget": {"cpu_hours": 1}}, "budget.cpu_hours is not a known key (did you mean gpu_hours?)"),
            ({"name": float("nan")}, "values of JSON were expected"),
            ({"name": datetime.date(2024, 1, 1)}, "put it in quotes if it is a text"),
        ],
    )
    def test_what_is_not_understood_is_refused_with_its_path(self, changes: dict[str, Any], sentence: str) -> None:
        assert sentence in refused(**changes)

    def test_every_field_that_is_wrong_is_named(self) -> None:
        with pytest.raises(SpecificationError) as caught:
            parse_specification({**SPEC, "seed": -1, "nmae": "x"})
        assert {error.loc for error in caught.value.errors} == {"seed", "nmae"}

    def test_a_list_is_no_specification(self) -> None:
        with pytest.raises(SpecificationError, match="a mapping with schema, name"):
            parse_specification(["cells"])  # type: ignore[arg-type]  # what a client may send


class TestCheckAtSubmit:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"backbone": {"space": "detnas-400m"}}, "detector: unknown backbone 'detnas-400m'; known names are"),
            ({"backbone": {**BACKBONE, "widht": 1}}, "unknown key 'widht'; known keys are width"),
            ({"backbone": {**BACKBONE, "genotype": "0 1"}}, "a genotype of 20 choices was expected, but 2 came"),
            ({"neck": {"model": "fpn", "levels": ["c3", "c9"]}}, "detector: "),
            ({"backbone": {**BACKBONE, "genotype": "all-1"}}, "at least one searched part was expected, but all"),
        ],
    )
    def test_parts_are_built_and_must_fit(self, changes: dict[str, Any], sentence: str) -> None:
        assert sentence in refused(detector={**SPEC["detector"], **changes})

    def test_a_limit_that_nothing_satisfies_says_what_can_be_reached(self) -> None:
        message = refused(limits=[{"metric": "macs", "part": "backbone", "image_size": [224, 224], "max": 1e6}])
        assert message.startswith("limits.0: nothing satisfies the limit macs of backbone <= 1,000,000 at 224x224")
        assert "from 63,693,728 to 103,106,976 macs" in message

    def test_a_limit_on_the_whole_detector_is_refused_only_when_no_dataset_could_meet_it(self) -> None:
        one_class = resolve(parse_specification(SPEC), 1)
        least = one_class.cost(one_class.baseline).params
        check_at_submit(parse_specification({**SPEC, "limits": [{"metric": "params", "max": least}]}))
        with pytest.raises(SpecificationError, match=r"limits\.0: nothing satisfies the limit params"):
            resolve(parse_specification({**SPEC, "limits": [{"metric": "params", "max": least}]}), 80)

    @pytest.mark.parametrize(
        ("baseline", "sentence"),
        [
            ({"backbone": BACKBONE}, "final.baseline.backbone: a fixed path was expected"),
            ({"backbone": {**BACKBONE, "genotype": "0 1"}}, "final.baseline: a genotype of 20 choices"),
            (
                {"backbone": {"space": "detnas-300m", "width": 1, "genotype": "all-0"}},
                "final.baseline.backbone: the baseline must be a path of the searched space",
            ),
            (
                {"backbone": {"space": "detnas-1.3g", "width": 0.5, "genotype": "all-0"}},
                "expected detnas-300m, got detnas-1.3g",
            ),
            (
                {
                    "backbone": {**BACKBONE, "genotype": "all-0"},
                    "neck": {"model": "fpn", "channels": 32},
                },
                "final.baseline.neck: the baseline must be",
            ),
        ],
    )
    def test_a_baseline_outside_the_searched_space_is_refused(self, baseline: dict[str, Any], sentence: str) -> None:
        assert sentence in refused(final={"baseline": baseline})

    def test_too_many_candidates_are_refused(self) -> None:
        options = {"algorithm": "random", "trials": 200_000}
        assert "search: at most 100,000 candidates" in refused(search=options)

    def test_more_winners_than_candidates_are_refused(self) -> None:
        options = {"algorithm": "random", "trials": 3}
        assert refused(search=options, final={"top": 4}) == (
            "final.top: expected at most 3, the number of candidates, got 4"
        )
        check_at_submit(parse_specification({**SPEC, "search": options, "final": {"top": 3}}))


class TestResolve:
    def test_the_baseline_is_choice_0_everywhere_unless_told_otherwise(self) -> None:
        assert resolve(parse_specification({**SPEC, "final": {}}), 3).baseline == (0,) * 20
        other = {"backbone": {**BACKBONE, "genotype": "all-2", "split": "shuffle"}}
        assert resolve(parse_specification({**SPEC, "final": {"baseline": other}}), 3).baseline == (2,) * 20

    def test_a_limit_without_part_and_size_counts_the_whole_detector_at_the_supernets_size(self) -> None:
        read = parse_specification({**SPEC, "limits": [{"metric": "macs", "max": 1e12}]})
        resolved = resolve(read, 3)
        assert resolved.counted(resolved.baseline) == {"detector.macs@192x256": resolved.cost(resolved.baseline).macs}
        assert resolved.acceptance_rate == 1.0

    def test_the_acceptance_rate_hangs_on_the_specification_alone(self) -> None:
        rates = {resolve(parse_specification({**SPEC, "seed": seed}), 3).acceptance_rate for seed in (0, 1)}
        assert len(rates) == 1
        assert 0.1 < rates.pop() < 0.5

    def test_a_stored_specification_is_resolved_once(self) -> None:
        stored = parse_specification(SPEC).to_json()
        assert resolve_stored(stored, 3) is resolve_stored(dict(reversed(stored.items())), 3)
