"""Which voxels hang together: connected components of a sparse set, by label propagation with pointer jumping."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

_FORWARD = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]
"""Half of the 26 neighbours: the other half are the same pairs, seen from the other side."""


def connected_components(index: Int64[Tensor, "N 3"]) -> Int64[Tensor, "N"]:
    """Number of the component of every voxel; voxels that share a face, an edge or a corner are neighbours.

    Components are numbered from 0 in the order of their first row. Rows may come in any order; a voxel given
    twice is its own neighbour. Needs about log2(N) passes over the pairs, whatever the shapes are.
    """
    if len(index) == 0:
        return torch.zeros(0, dtype=torch.int64, device=index.device)
    first, second = _neighbours(index)
    root = torch.arange(len(index), device=index.device)
    while True:
        low = torch.minimum(root[first], root[second])
        hooked = root.clone()
        for ends in (first, second):
            hooked.scatter_reduce_(0, root[ends], low, "amin")  # the root itself learns, not only its member
        hooked = _jump(hooked)
        if torch.equal(hooked, root):
            break
        root = hooked
    return root.unique(return_inverse=True)[1]  # a root is the first row of its component


def _jump(root: Int64[Tensor, "N"]) -> Int64[Tensor, "N"]:
    """Every row points at the end of its chain."""
    while not torch.equal(further := root[root], root):
        root = further
    return root


def _neighbours(index: Int64[Tensor, "N 3"]) -> tuple[Int64[Tensor, "E"], Int64[Tensor, "E"]]:
    """Pairs of rows that touch, found by their sorted keys: no dense volume, so the grid may be of any size."""
    shifted = index - index.amin(dim=0) + 1
    extent = shifted.amax(dim=0) + 2  # a free border: a step never wraps into the next line
    stride = torch.stack([extent[1] * extent[2], extent[2], torch.ones_like(extent[2])])
    keys, order = (shifted @ stride).sort(stable=True)
    pairs = [(order[:-1][keys.diff() == 0], order[1:][keys.diff() == 0])]
    for step in _FORWARD:
        wanted = keys + int((torch.tensor(step, device=index.device) * stride).sum())
        place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        found = keys[place] == wanted
        pairs.append((order[found], order[place[found]]))
    return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
