"""How well outlines of the sweep lie on edges of the images, for one calibration or for hundreds at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.data.doctor.edges import NUM_SECTORS, EdgeView

BORDER, MIN_DEPTH_M, NUM_STRIPS = 0.04, 1.0, 16
"""Edges at the left and right border of an image are left out; strips of the images say how spread they are."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of views, kept by sector so that its error can be told; leading dimensions are calibrations.

    Attributes:
        total: sum over the edges of each sector.
        count: edges of each sector inside an image.
        strips: edges in each vertical strip of the images.
    """

    total: Float64[Tensor, "*k S"]
    count: Float64[Tensor, "*k S"]
    strips: Float64[Tensor, "*k T"]

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.total + other.total, self.count + other.count, self.strips + other.strips)

    def __getitem__(self, k: int) -> Agreement:
        return Agreement(self.total[k], self.count[k], self.strips[k])

    @property
    def num_edges(self) -> Float64[Tensor, "*k"]:
        return self.count.sum(-1)

    @property
    def mean(self) -> Float64[Tensor, "*k"]:
        return self.total.sum(-1) / self.num_edges.clamp_min(1)

    @property
    def spread(self) -> Float64[Tensor, "*k"]:
        """How many strips hold edges, effectively: edges crowded in one strip agree or disagree by chance."""
        return self.strips.sum(-1) ** 2 / self.strips.square().sum(-1).clamp_min(1)

    @property
    def error(self) -> Float64[Tensor, "*k"]:
        """Standard error of the mean, by leaving out one sector after the other."""
        return _jackknife(self._without())

    def gain_over(self, other: Agreement) -> tuple[float, float]:
        """By how much it agrees better, and how many standard errors that is."""
        gain = float(self.mean - other.mean)
        return gain, gain / max(float(_jackknife(self._without() - other._without())), 1e-6)

    def _without(self) -> Tensor:
        """Mean with each sector left out."""
        left = (self.num_edges[..., None] - self.count).clamp_min(1)
        return (self.total.sum(-1, keepdim=True) - self.total) / left


def _jackknife(without: Tensor) -> Tensor:
    num = without.shape[-1]
    return ((without - without.mean(-1, keepdim=True)).square().sum(-1) * (num - 1) / num).sqrt()


def agreement(views: Sequence[EdgeView]) -> Agreement:
    """Of all edges that the views' calibrations put into their images.

    Views with leading dimensions hold as many calibrations each; those without are the same in all of them.
    """
    return reduce(Agreement.__add__, (_of_view(view) for view in views))


def _of_view(view: EdgeView) -> Agreement:
    """One product for all calibrations, then only the pairs (calibration, edge) inside the image."""
    matrix = _place_from_ego(view)
    batch, rows = matrix.shape[:-2], matrix.reshape(-1, 3, 4)
    depth_m = rows[:, 2, :3] @ view.edges.T + rows[:, 2, 3:]
    kept = (depth_m > MIN_DEPTH_M).any(0).nonzero()[:, 0]  # by no calibration in front of the camera: half of all
    edges, sector, depth_m = view.edges[kept].T, view.sector[kept], depth_m[:, kept]
    right = rows[:, 0, :3] @ edges + rows[:, 0, 3:]
    down = rows[:, 1, :3] @ edges + rows[:, 1, 3:]
    inside = (depth_m > MIN_DEPTH_M) & ((right - 0.5 * depth_m).abs() < (0.5 - BORDER) * depth_m)
    inside &= (down - 0.5 * depth_m).abs() < 0.5 * depth_m
    k, edge = inside.nonzero(as_tuple=True)
    height, width = view.prominence.shape
    place = right[k, edge] / depth_m[k, edge]
    row = (down[k, edge] / depth_m[k, edge] * height).long().clamp_(0, height - 1)
    value = view.prominence[row, (place * width).long()].double()
    of_sector, of_strip = k * NUM_SECTORS + sector[edge], k * NUM_STRIPS + (place * NUM_STRIPS).long()
    return Agreement(
        torch.bincount(of_sector, value, len(rows) * NUM_SECTORS).double().reshape(*batch, NUM_SECTORS),
        torch.bincount(of_sector, minlength=len(rows) * NUM_SECTORS).double().reshape(*batch, NUM_SECTORS),
        torch.bincount(of_strip, minlength=len(rows) * NUM_STRIPS).double().reshape(*batch, NUM_STRIPS),
    )


def _place_from_ego(view: EdgeView) -> Float64[Tensor, "*k 3 4"]:
    """From the ego frame to depth times the place in the image, from 0 to 1 across and down."""
    cam_from_ego = view.ego_from_cam.inverse()
    pose = torch.cat([cam_from_ego.rotation, cam_from_ego.translation[..., None]], dim=-1)
    size = pose.new_tensor([view.image_hw[1], view.image_hw[0], 1.0])
    return view.image_from_cam / size[:, None] @ pose
