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


class Network(nn.Module):
    """Two batch norms, one behind the other, with statistics of something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.last_conv = nn.Conv2d(5, 4, 1)
        self.last_norm = nn.BatchNorm2d(4, momentum=0.3)
        for norm in self.norms():
            nn.init.uniform_(norm.weight, 0.5, 2)
            means(norm).fill_(7.0)
            variances(norm).fill_(9.0)

    def norms(self) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
        return self.norm, self.last_norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last_norm(self.last_conv(self.first(x).relu()))
        return y

    def first(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


def means(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def variances(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.running_var


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


def seen_by_first_norm(network: Network, *batches: Tensor) -> Tensor:
    """[C, values]"""
    with torch.no_grad():
        return torch.cat([network.conv(images).double().transpose(0, 1).flatten(1) for images in batches], dim=1)


@pytest.mark.parametrize("sizes", [[22], [11, 11], [16, 6], [1] * 22])
def test_exact_average_is_mean_and_variance_over_all_images(network: Network, images: Tensor, sizes: list[int]) -> None:
    values = seen_by_first_norm(network, images)
    assert recalibrate_batch_norm(network, torch.split(images, sizes)) == len(sizes)
    torch.testing.assert_close(means(network.norm).double(), values.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variances(network.norm).double(), values.var(1), rtol=1e-5, atol=1e-5)


def test_one_batch_equals_a_training_forward_in_every_layer(network: Network, images: Tensor) -> None:
    reference = copy.deepcopy(network).train()
    for norm in reference.norms():
        norm.momentum = 1.0
    reference(images)
    recalibrate_batch_norm(network, [images])
    for norm, expected in zip(network.norms(), reference.norms(), strict=True):
        torch.testing.assert_close(means(norm), means(expected))
        torch.testing.assert_close(variances(norm), variances(expected))


def test_images_of_two_sizes_weigh_by_their_area(network: Network, images: Tensor) -> None:
    small = images[:, :, :5, :5]
    values = seen_by_first_norm(network, images, small)
    recalibrate_batch_norm(network, [images, small])
    torch.testing.assert_close(means(network.norm).double(), values.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variances(network.norm).double(), values.var(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("average", ["exact", "exponential"])
def test_only_bn_buffers_change(network: Network, images: Tensor, average: str) -> None:
    before = copy.deepcopy(network)
    recalibrate_batch_norm(network, [images] * 50, average=average)
    buffers = {name for name, _ in network.named_buffers()}
    for name, tensor in network.state_dict().items():
        changed = not torch.equal(tensor, before.state_dict()[name])
        assert changed == (name in buffers), name
    assert [module.training for module in network.modules()] == [module.training for module in before.modules()]
    assert [norm.momentum for norm in network.norms()] == [0.1, 0.3]
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_statistics_before_do_not_matter(network: Network, images: Tensor) -> None:
    other = copy.deepcopy(network)
    means(other.norm).fill_(-100.0)
    recalibrate_batch_norm(network, torch.split(images, 11))
    recalibrate_batch_norm(other, torch.split(images, 11))
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers(), strict=True))


def test_exponential_average_follows_its_formula(network: Network, images: Tensor) -> None:
    batches = [images[i % 22 : i % 22 + 1] + i for i in range(60)]
    expected = torch.zeros(5, dtype=torch.float64)
    for batch in batches:
        expected = 0.9 * expected + 0.1 * seen_by_first_norm(network, batch).mean(1)
    recalibrate_batch_norm(network, batches, average="exponential", momentum=0.1)
    torch.testing.assert_close(means(network.norm).double(), expected, rtol=1e-4, atol=1e-4)


class TestRefusals:
    def test_exponential_average_below_50_batches(self, network: Network, images: Tensor) -> None:
        with pytest.raises(RecalibrationError, match=r"at least 50 batches .* got 49 batches"):
            recalibrate_batch_norm(network, [images] * 49, average="exponential", momentum=0.5)

    def test_exponential_average_whose_momentum_is_too_small_for_the_batches(
        self, network: Network, images: Tensor
    ) -> None:
        with pytest.raises(RecalibrationError, match=r"momentum 0.01 \(61% left\)"):
            recalibrate_batch_norm(network, [images] * 50, average="exponential", momentum=0.01)
        assert math.isclose(0.99**50, 0.61, abs_tol=0.01)

    def test_no_images(self, network: Network) -> None:
        with pytest.raises(RecalibrationError, match="at least one batch"):
            recalibrate_batch_norm(network, [])

    def test_a_layer_that_never_ran_is_named(self, network: Network, images: Tensor) -> None:
        with pytest.raises(RecalibrationError, match=r"1 BN layers, first 'last_norm'"):
            recalibrate_batch_norm(network, [images], forward=network.first)
