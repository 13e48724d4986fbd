"""From a supernet and a genotype to a standalone network with the same output."""

import torch

from nasdet_core.detectors.detector import Detector
from nasdet_core.search_spaces.base import Genotype


def extract(supernet: Detector, genotype: Genotype) -> Detector:
    """A standalone detector that holds copies of the weights and buffers that `genotype` uses.

    The channel split stays the supernet's: its weights mean nothing under the other one. Device, dtype, memory format
    and train/eval mode are those of the supernet. BN statistics come along as they are; recalibrate them first.
    """
    with torch.device("meta"):  # nothing is initialised, so nothing is drawn from torch's generator
        standalone = Detector(supernet.space.fixed(genotype), elastic=False)
    copies = {name: tensor.detach().clone() for name, tensor in supernet.subnet_state_dict(genotype).items()}
    standalone.load_state_dict(copies, strict=True, assign=True)
    return standalone.train(supernet.training)
