"""Where rays first meet an occupied voxel: compiled on the CPU when numba is installed, pure torch elsewhere.

The rule (Amanatides and Woo 1987): from the cell of the origin step across the nearest border, x before z and y
before z where two are equally near and y before x, and stop at the first occupied cell or at the last one of
the grid. The distance of a ray is that at which it *leaves* this cell, as RayIoU wants it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.ops.traversal import has_compiled_kernels


def first_hits(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """The cell where each ray of each origin ends, as a flat index, and the distance at which it leaves it.

    Args:
        origins: continuous voxel coordinates, inside the grid.
        directions: unit vectors in voxel coordinates.

    Raises:
        ShapeError: an origin outside the grid.
    """
    size = origins.new_tensor(occupied.shape)
    if not bool(((origins >= 0) & (origins < size)).all()):
        raise ShapeError(
            f"ray origins must lie inside a grid of {tuple(occupied.shape)} voxels; got "
            f"{origins.tolist()[:3]}. Leave out those beyond its border."
        )
    if occupied.device.type == "cpu" and has_compiled_kernels():
        return first_hits_numba(occupied, origins, directions)
    return first_hits_torch(occupied, origins, directions)


def first_hits_numba(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """:func:`first_hits` by the compiled kernel; tensors on the CPU only."""
    from lexivox.ops.kernels import first_hit_numba

    shape = (len(origins), len(directions))
    voxel = torch.empty(shape, dtype=torch.int64)
    distance = torch.empty(shape, dtype=torch.float64)
    first_hit_numba.first_hits(
        occupied.contiguous().numpy(),
        origins.double().contiguous().numpy(),
        directions.double().contiguous().numpy(),
        voxel.view(-1).numpy(),
        distance.view(-1).numpy(),
    )
    return voxel, distance.to(origins.dtype)


def first_hits_torch(
    occupied: Bool[Tensor, "X Y Z"], origins: Float[Tensor, "O 3"], directions: Float[Tensor, "R 3"]
) -> tuple[Int64[Tensor, "O R"], Float[Tensor, "O R"]]:
    """:func:`first_hits` in torch, on any device: all rays step together, those that ended drop out."""
    origin = origins.double().repeat_interleave(len(directions), 0)
    direction = directions.double().repeat(len(origins), 1)
    step = direction.sign().long()
    cell = origin.long()
    border = (cell + (step > 0)).double()
    t = torch.where(step == 0, torch.inf, (border - origin) / direction)
    delta = torch.where(step == 0, torch.inf, 1.0 / direction.abs())
    size = torch.tensor(occupied.shape, device=occupied.device)
    voxel = torch.zeros(len(origin), dtype=torch.int64, device=occupied.device)
    distance = torch.zeros(len(origin), dtype=torch.float64, device=occupied.device)
    alive = torch.arange(len(origin), device=occupied.device)
    while len(alive):
        axis = _nearest_axis(t)
        rows = torch.arange(len(alive), device=alive.device)
        leaves = t[rows, axis]
        flat = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
        hit = occupied.reshape(-1)[flat]
        t[rows, axis] += delta[rows, axis]
        cell[rows, axis] += step[rows, axis]
        done = hit | ((cell < 0) | (cell >= size)).any(1)
        voxel[alive[done]], distance[alive[done]] = flat[done], leaves[done]
        alive, t, cell, step, delta = (part[~done] for part in (alive, t, cell, step, delta))
    shape = (len(origins), len(directions))
    return voxel.reshape(shape), distance.reshape(shape).to(origins.dtype)


def _nearest_axis(t: Float[Tensor, "R 3"]) -> Int64[Tensor, "R"]:
    x, y, z = t.unbind(1)
    is_x = (x < y) & (x < z)
    return torch.where(is_x, 0, torch.where(y < z, 1, 2))
