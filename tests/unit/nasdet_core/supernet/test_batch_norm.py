"""BN recalibration: exact over all images, and nothing else is touched."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from nasdet_core.errors import RecalibrationError
from nasdet_core.supernet.batch_norm import recalibrate_batch_norm


@pytest.fixture
def images() -> Tensor:
    return torch.randn(22, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, momentum=0.3)
    )
    with torch.no_grad():
        for norm in (net[1], net[4]):
            norm.weight.uniform_(0.5, 2)
            norm.running_mean.fill_(7.0)
            norm.running_var.fill_(9.0)
    return net.eval()


def first_norm_reference(network: nn.Sequential, images: Tensor) -> tuple[Tensor, Tensor]:
    values = network[0](images).double().transpose(0, 1).flatten(1)
    return values.mean(1), values.var(1, unbiased=True)


@pytest.mark.parametrize("sizes", [[22], [11, 11], [16, 6], [1] * 22])
def test_exact_average_is_mean_and_variance_over_all_images(
    network: nn.Sequential, images: Tensor, sizes: list[int]
) -> None:
    mean, variance = first_norm_reference(network, images)
    assert recalibrate_batch_norm(network, images.split(sizes)) == len(sizes)
    torch.testing.assert_close(network[1].running_mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network[1].running_var.double(), variance, rtol=1e-5, atol=1e-5)


def test_one_batch_equals_a_training_forward_in_every_layer(network: nn.Sequential, images: Tensor) -> None:
    reference = copy.deepcopy(network).train()
    for norm in (reference[1], reference[4]):
        norm.momentum = 1.0
    reference(images)
    recalibrate_batch_norm(network, [images])
    for index in (1, 4):
        torch.testing.assert_close(network[index].running_mean, reference[index].running_mean)
        torch.testing.assert_close(network[index].running_var, reference[index].running_var)


def test_images_of_two_sizes_weigh_by_their_area(network: nn.Sequential, images: Tensor) -> None:
    small = images[:, :, :5, :5]
    values = torch.cat([network[0](x).double().transpose(0, 1).flatten(1) for x in (images, small)], dim=1)
    recalibrate_batch_norm(network, [images, small])
    torch.testing.assert_close(network[1].running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network[1].running_var.double(), values.var(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("average", ["exact", "exponential"])
def test_only_bn_buffers_change(network: nn.Sequential, images: Tensor, average: str) -> None:
    before = copy.deepcopy(network)
    recalibrate_batch_norm(network, [images] * 50, average=average)
    buffers = {name for name, _ in network.named_buffers()}
    for name, tensor in network.state_dict().items():
        changed = not torch.equal(tensor, before.state_dict()[name])
        assert changed == (name in buffers), name
    assert [module.training for module in network.modules()] == [
        module.training for module in before.modules()
    ]
    assert [network[1].momentum, network[4].momentum] == [0.1, 0.3]
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_statistics_before_do_not_matter(network: nn.Sequential, images: Tensor) -> None:
    other = copy.deepcopy(network)
    other[1].running_mean.fill_(-100.0)
    recalibrate_batch_norm(network, images.split(11))
    recalibrate_batch_norm(other, images.split(11))
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers(), strict=True))


def test_exponential_average_follows_its_formula(network: nn.Sequential, images: Tensor) -> None:
    batches = [images[i % 22 : i % 22 + 1] + i for i in range(60)]
    expected = torch.zeros(5)
    for batch in batches:
        expected = 0.9 * expected + 0.1 * network[0](batch).mean((0, 2, 3))
    recalibrate_batch_norm(network, batches, average="exponential", momentum=0.1)
    torch.testing.assert_close(network[1].running_mean, expected.detach(), rtol=1e-4, atol=1e-4)


class TestRefusals:
    def test_exponential_average_below_50_batches(self, network: nn.Sequential, images: Tensor) -> None:
        with pytest.raises(RecalibrationError, match=r"at least 50 batches .* got 49 batches"):
            recalibrate_batch_norm(network, [images] * 49, average="exponential", momentum=0.5)

    def test_exponential_average_whose_momentum_is_too_small_for_the_batches(
        self, network: nn.Sequential, images: Tensor
    ) -> None:
        with pytest.raises(RecalibrationError, match=r"momentum 0.01 \(61% left\)"):
            recalibrate_batch_norm(network, [images] * 50, average="exponential", momentum=0.01)
        assert math.isclose(0.99**50, 0.61, abs_tol=0.01)

    def test_no_images(self, network: nn.Sequential) -> None:
        with pytest.raises(RecalibrationError, match="at least one batch"):
            recalibrate_batch_norm(network, [])

    def test_a_layer_that_never_ran_is_named(self, network: nn.Sequential, images: Tensor) -> None:
        with pytest.raises(RecalibrationError, match=r"1 BN layers, first '4'"):
            recalibrate_batch_norm(network, [images], forward=network[:2])
