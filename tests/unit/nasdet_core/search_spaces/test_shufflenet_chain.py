"""DetNAS's published counts, to the digit. They were measured on the authors' code at 224x224, batch 1."""

from __future__ import annotations

import pytest

from nasdet_core.errors import GenotypeError, SettingError, UnknownNameError
from nasdet_core.search_spaces import PUBLISHED, Cost, DetNasBackbone, LevelSpec, build_part
from nasdet_core.search_spaces.shufflenet_chain import candidate_cost

SIZE = (224, 224)

# name: body MACs, total MACs, body parameters, total parameters
PUBLISHED_COUNTS = {
    "detnas-coco-fpn-300m": (288_082_368, 321_219_008, 1_849_680, 3_533_112),
    "detnas-coco-retinanet-300m": (291_205_824, 324_342_464, 2_041_888, 3_725_320),
    "detnas-voc-fpn-300m": (316_387_904, 349_524_544, 1_967_696, 3_651_128),
    "detnas-voc-retinanet-300m": (327_489_344, 360_625_984, 1_796_048, 3_479_480),
    "detnas-coco-fpn-1.3g": (1_269_181_536, 1_318_374_496, 8_415_216, 10_426_328),
    "detnas-coco-fpn-3.8g": (3_937_832_864, 4_085_874_080, 26_724_428, 31_444_596),
}

# all blocks the same candidate: body MACs, body parameters, total parameters; what the classifier adds in MACs
SAME_CANDIDATE_COUNTS = {
    "detnas-300m": (
        (262_705_856, 1_473_488, 3_156_920),
        (280_518_336, 1_530_576, 3_214_008),
        (307_237_056, 1_616_208, 3_299_640),
        (325_689_280, 2_189_424, 3_872_856),
        33_136_640,
    ),
    "detnas-1.3g": (
        (1_036_681_632, 6_244_464, 8_255_576),
        (1_087_785_888, 6_402_672, 8_413_784),
        (1_164_442_272, 6_639_984, 8_651_096),
        (1_391_231_520, 9_359_208, 11_370_320),
        49_192_960,
    ),
}

# MACs of each candidate in the first block of a stage and in the others, 300M space
BLOCK_MACS = {
    "stage1.1": (13_396_992, 15_805_440, 19_418_112, 13_146_112),
    "stage1.2": (7_325_696, 8_931_328, 11_339_776, 12_343_296),
    "stage2.1": (26_304_768, 28_111_104, 30_820_608, 20_296_192),
    "stage2.4": (10_599_680, 11_603_200, 13_108_480, 16_746_240),
    "stage3.1": (30_670_080, 31_673_600, 33_178_880, 21_199_360),
    "stage3.8": (10_317_440, 10_819_200, 11_571_840, 15_899_520),
    "stage4.1": (30_387_840, 30_889_600, 31_642_240, 20_634_880),
    "stage4.4": (10_176_320, 10_427_200, 10_803_520, 15_476_160),
}


class TestPublishedCounts:
    @pytest.mark.parametrize("name", PUBLISHED_COUNTS)
    def test_published_networks(self, name: str) -> None:
        found = PUBLISHED[name]
        backbone = DetNasBackbone(found.space, split="even_odd", genotype=found.genotype)
        body, whole = backbone.cost((), SIZE), backbone.classifier_cost(())
        assert (body.macs, whole.macs, body.params, whole.params) == PUBLISHED_COUNTS[name]

    def test_every_published_network_is_counted(self) -> None:
        assert set(PUBLISHED) == set(PUBLISHED_COUNTS)

    def test_last_convolution_of_1024_gives_the_published_parameters_of_3_8g(self) -> None:
        found = PUBLISHED["detnas-coco-fpn-3.8g"]
        backbone = DetNasBackbone(found.space, genotype=found.genotype)
        assert backbone.classifier_cost((), last_conv=1024) == Cost(4_025_560_992, 29_521_972)

    @pytest.mark.parametrize("space", SAME_CANDIDATE_COUNTS)
    @pytest.mark.parametrize("candidate", range(4))
    def test_one_candidate_everywhere(self, space: str, candidate: int) -> None:
        backbone = DetNasBackbone(space)
        genotype = (candidate,) * len(backbone.blocks)
        body, whole = backbone.cost(genotype, SIZE), backbone.classifier_cost(genotype)
        *counts, classifier_macs = SAME_CANDIDATE_COUNTS[space]
        assert (body.macs, body.params, whole.params) == counts[candidate]
        assert whole.macs - body.macs == classifier_macs

    @pytest.mark.parametrize(
        ("space", "body", "total"),
        [("detnas-300m", 6_808_256, 8_491_688), ("detnas-1.3g", 28_642_008, 30_653_120)],
    )
    def test_supernet_holds_every_candidate(self, space: str, body: int, total: int) -> None:
        backbone = DetNasBackbone(space)
        assert backbone.supernet_params() == body
        assert backbone.supernet_params() + backbone.classifier_head_cost().params == total

    @pytest.mark.parametrize("block", BLOCK_MACS)
    def test_block_table(self, block: str) -> None:
        backbone = DetNasBackbone("detnas-300m")
        layer = next(layer for layer in backbone.layers if layer.name == block)
        stride = 2 ** (layer.stage + 1)
        macs = tuple(candidate_cost(layer, choice, SIZE, stride).macs for choice in range(4))
        assert macs == BLOCK_MACS[block]

    def test_stem_and_classifier_rest(self) -> None:
        backbone = DetNasBackbone("detnas-300m")
        assert backbone.stem_cost(SIZE).macs == 5_419_008
        assert backbone.classifier_head_cost().macs == 32_112_640 + 1_024_000

    def test_a_second_published_search_result_is_just_under_the_limit(self) -> None:
        backbone = build_part(
            "backbone", {"space": "detnas-300m", "genotype": "0 0 0 1 / 2 0 3 3 / 1 2 2 2 3 3 3 1 / 3 2 3 2"}
        )
        assert isinstance(backbone, DetNasBackbone)
        assert backbone.cost((), SIZE).macs == 299_936_448


def naive_cost(backbone: DetNasBackbone, choices: tuple[int, ...], size: tuple[int, int]) -> Cost:
    """Walk the network convolution by convolution, following shapes as `(n + 2p - k) // s + 1` gives them."""
    macs = params = 0

    def conv(
        shape: tuple[int, int, int], out: int, kernel: int, stride: int, *, groups: int = 1, bias: bool = False
    ) -> tuple[int, int, int]:
        nonlocal macs, params
        channels, height, width = shape
        height, width = ((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in (height, width))
        weights = out * (channels // groups) * kernel**2
        macs += weights * height * width
        params += weights + out * bias + 2 * out
        return out, height, width

    shape = conv((3, *size), backbone.stem_channels, 3, 2, bias=True)
    position = 0
    for depth, out in zip(backbone.stage_blocks, backbone.stage_channels, strict=True):
        for index in range(depth):
            stride, choice = (2 if index == 0 else 1), choices[position]
            kernel, mid, came = (3, 5, 7, 3)[choice], out // 2, shape[0]
            branch = shape if stride == 2 else (out // 2, *shape[1:])
            leaves = out - came if stride == 2 else out // 2
            if stride == 2:
                conv(conv(shape, came, kernel, 2, groups=came), came, 1, 1)
            if choice == 3:
                for k, target in enumerate((mid, mid, leaves)):
                    branch = conv(branch, branch[0], 3, stride if k == 0 else 1, groups=branch[0])
                    branch = conv(branch, target, 1, 1)
            else:
                branch = conv(conv(branch, mid, 1, 1), mid, kernel, stride, groups=mid)
                branch = conv(branch, leaves, 1, 1)
            shape = (out, *branch[1:])
            position += 1
    return Cost(macs, params)


class TestAnyWidthAndSize:
    @pytest.mark.parametrize("space", ["detnas-300m", "detnas-1.3g", "detnas-3.8g"])
    @pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 1.37])
    @pytest.mark.parametrize("size", [(224, 224), (192, 256), (201, 333), (1, 7)])
    def test_cost_equals_a_walk_over_the_convolutions(self, space: str, width: float, size: tuple[int, int]) -> None:
        backbone = DetNasBackbone(space, width=width)
        choices = tuple((3 * i + i // 4) % 4 for i in range(len(backbone.blocks)))
        assert backbone.cost(choices, size) == naive_cost(backbone, choices, size)

    def test_half_width_of_300m(self) -> None:
        backbone = DetNasBackbone("detnas-300m", width=0.5)
        assert backbone.stem_channels == 8
        assert backbone.feature_levels() == (
            LevelSpec("c2", 32, 4),
            LevelSpec("c3", 80, 8),
            LevelSpec("c4", 160, 16),
            LevelSpec("c5", 320, 32),
        )

    @pytest.mark.parametrize("width", [0.1, 0.33, 0.77, 1.9])
    def test_channels_are_multiples_of_four(self, width: float) -> None:
        backbone = DetNasBackbone("detnas-3.8g", width=width)
        assert all(channels % 4 == 0 for channels in (backbone.stem_channels, *backbone.stage_channels))

    def test_too_narrow_a_width_is_refused_with_the_channels(self) -> None:
        with pytest.raises(SettingError, match=r"each stage must be wider .* \(4, 4, 4, 4, 8\) channels"):
            DetNasBackbone("detnas-300m", width=0.01)

    @pytest.mark.parametrize("width", [0, -1, 100, float("nan"), float("inf"), True, "0.5", None])
    def test_a_width_that_is_no_width_is_refused(self, width: object) -> None:
        with pytest.raises(SettingError, match="detnas-300m: width: a number from"):
            build_part("backbone", {"space": "detnas-300m", "width": width})


class TestStructure:
    @pytest.mark.parametrize(
        ("space", "downsampling"),
        [("detnas-300m", [0, 4, 8, 16]), ("detnas-1.3g", [0, 8, 16, 32]), ("detnas-3.8g", [0, 8, 16, 32])],
    )
    def test_the_first_block_of_each_stage_halves_the_resolution(self, space: str, downsampling: list[int]) -> None:
        layers = DetNasBackbone(space).layers
        assert [i for i, layer in enumerate(layers) if layer.stride == 2] == downsampling

    def test_blocks_are_named_from_one_and_know_their_stride(self) -> None:
        blocks = DetNasBackbone("detnas-300m").blocks
        assert [(blocks[i].name, blocks[i].stride) for i in (0, 3, 4, 12, 19)] == [
            ("stage1.1", 4),
            ("stage1.4", 4),
            ("stage2.1", 8),
            ("stage3.5", 16),
            ("stage4.4", 32),
        ]
        assert blocks[0].candidates == ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "xception_3x3")


class TestDescription:
    def test_searched_by_default_with_the_supernets_split(self) -> None:
        part = build_part("backbone", {"space": "detnas-300m", "width": 0.5})
        assert part == DetNasBackbone("detnas-300m", width=0.5, split="shuffle", genotype=None)

    def test_a_fixed_genotype_splits_as_the_published_networks(self) -> None:
        part = build_part("backbone", {"space": "detnas-300m", "genotype": "all-0"})
        assert part == DetNasBackbone("detnas-300m", split="even_odd", genotype=(0,) * 20)

    def test_a_split_that_is_given_wins(self) -> None:
        part = build_part("backbone", {"space": "detnas-300m", "genotype": "all-0", "split": "shuffle"})
        assert part.settings["split"] == "shuffle"

    @pytest.mark.parametrize(
        "written", ["2 1 2 0 2 1 1 2 3 3 1 3 0 0 3 1 3 1 3 2", "2,1,2,0/2,1,1,2/3,3,1,3,0,0,3,1/3,1,3,2"]
    )
    def test_genotypes_as_text(self, written: str) -> None:
        part = build_part("backbone", {"space": "detnas-300m", "genotype": written})
        assert part.encoding(()) == PUBLISHED["detnas-coco-fpn-300m"].genotype

    def test_a_published_name_is_its_space_with_its_genotype(self) -> None:
        part = build_part("backbone", {"model": "detnas-coco-fpn-300m", "width": 0.5})
        genotype = PUBLISHED["detnas-coco-fpn-300m"].genotype
        assert part == DetNasBackbone("detnas-300m", width=0.5, split="even_odd", genotype=genotype)

    @pytest.mark.parametrize(
        ("genotype", "message"),
        [
            ("0 1", "a genotype of 20 choices was expected, but 2 came"),
            ("all-4", r"block 'stage1.1': candidate 4 is out of range 0..3 \(shuffle_3x3, "),
            ([0] * 12 + [7] + [0] * 7, r"block 'stage3.5': candidate 7 is out of range 0..3"),
            ([0] * 19 + [-1], r"block 'stage4.4': candidate -1 is out of range"),
            ([0] * 19 + [True], "whole numbers were expected, but True came"),
            ([0] * 19 + [1.0], "whole numbers were expected, but 1.0 came"),
            ("two one", "but 'two' came"),
            ("9" * 5000, "but '99999"),
            ("", "but '' came"),
            ("1 " * 6000, "at most 10000 characters"),
            (7, "a list of whole numbers, a text"),
        ],
    )
    def test_a_genotype_that_is_none_is_refused(self, genotype: object, message: str) -> None:
        with pytest.raises(GenotypeError, match=message):
            build_part("backbone", {"space": "detnas-300m", "genotype": genotype})

    def test_an_unknown_key_is_refused_by_name(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown key 'widht'; known keys are width, split, genotype"):
            build_part("backbone", {"space": "detnas-300m", "widht": 0.5})

    def test_an_unknown_split_is_refused(self) -> None:
        with pytest.raises(SettingError, match="split: one of shuffle, even_odd was expected"):
            build_part("backbone", {"space": "detnas-300m", "split": "half"})

    def test_a_finalist_keeps_the_split_unless_it_is_trained_from_scratch(self) -> None:
        searched = DetNasBackbone("detnas-300m", width=0.5)
        genotype = (1,) * 20
        assert searched.fixed(genotype) == DetNasBackbone("detnas-300m", width=0.5, split="shuffle", genotype=genotype)
        assert searched.fixed(genotype, from_scratch=True).split == "even_odd"
