"""Anchors on a pyramid whose strides are known."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator


class StrideAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision ships no types
    """torchvision's anchors at declared strides.

    torchvision divides image by feature size, which is off for images that the strides do not divide: 100 pixels
    give 13 cells at stride 8, and 100 // 13 = 7.
    """

    def __init__(
        self,
        strides: Sequence[int],
        sizes: Sequence[tuple[float, ...]],
        aspect_ratios: tuple[float, ...],
        *,
        geometry: str = "torchvision",
    ) -> None:
        """`sizes`: square roots of areas in pixels, per level. `geometry`: one of ANCHOR_GEOMETRIES."""
        super().__init__(tuple(sizes), (aspect_ratios,) * len(sizes))
        self.strides = tuple(strides)
        if geometry == "detectron":
            self.cell_anchors = [
                detectron_cells(stride, own, aspect_ratios) for stride, own in zip(strides, sizes, strict=True)
            ]

    def on_levels(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """One [H * W * A, 4] tensor of xyxy boxes per level; centres lie on multiples of the stride."""
        device = levels[0].device
        # Coordinates beyond 256 need more than the 8 bits of bfloat16.
        dtype = torch.promote_types(levels[0].dtype, torch.float32)
        cells = [cell.to(device=device, dtype=dtype) for cell in self.cell_anchors]
        anchors = []
        for level, stride, cell in zip(levels, self.strides, cells, strict=True):
            height, width = level.shape[-2:]
            ys = torch.arange(height, device=device, dtype=dtype) * stride
            xs = torch.arange(width, device=device, dtype=dtype) * stride
            grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
            shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)
            anchors.append((shifts + cell).reshape(-1, 4))
        return anchors


def detectron_cells(stride: int, sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """[A, 4] xyxy around the middle of a cell, ratio by ratio; the ratio is rounded at the size of the stride.

    Detectron counts the last pixel of a box in; with the right and lower side moved by one pixel, its arithmetic of
    boxes is that of ours.
    """
    ratios = torch.tensor(aspect_ratios)
    widths = (stride / ratios.sqrt()).round()
    heights = (widths * ratios).round()
    scales = torch.tensor(sizes) / stride
    half = torch.stack((widths, heights), dim=1)[:, None] * scales[:, None] / 2  # [ratios, sizes, 2]
    middle = stride / 2
    return torch.cat((middle - half, middle + half), dim=-1).flatten(0, 1)
