"""Complete voxel truth from the solids themselves.

Rule: a voxel is occupied when it shares space with a solid (touching faces do not count); the ground fills
the one layer that holds its surface, z = 0 of the world. Where several solids share a voxel the later of this
order wins: ground, raised pavement, buildings, trees, poles and signs, then actors. The class of ground and
pavement is that of the column's centre.
"""

from __future__ import annotations

import numpy as np
import torch

from lexivox.data.synthetic.concepts import CLASS_FROM_RAW, FREE_LABEL, RAW_FROM_CONCEPT, Concept
from lexivox.data.synthetic.materials import Material
from lexivox.data.synthetic.shapes import BALL, PLANE, ROUND, Array, Shapes
from lexivox.data.synthetic.street import Street
from lexivox.data.types import VoxelLabels
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

GAP_M = 2e-4
ROUNDS = 5


def voxel_truth(shapes: Shapes, street: Street, grid: VoxelGrid, world_from_grid: RigidTransform) -> VoxelLabels:
    """Class (0..16, 17 free) and flow of every voxel; the grid's z axis must be the world's."""
    label = np.full(grid.shape, FREE_LABEL, dtype=np.int64)
    flow = np.zeros((*grid.shape, 2), dtype=np.float32)
    turn = world_from_grid.rotation.numpy()
    shift = world_from_grid.translation.numpy()
    lower, size = np.array(grid.lower_m), np.array(grid.voxel_size_m)
    _fill_ground(label, street, lower, size, turn, shift)
    corners = (shapes.corners() - shift) @ turn
    first = np.clip(np.floor((corners.min(axis=1) - lower) / size), 0, grid.shape).astype(np.int64)
    last = np.clip(np.ceil((corners.max(axis=1) - lower) / size), 0, grid.shape).astype(np.int64)
    inside = (first < last).all(axis=1) & (shapes.kind != PLANE)
    order = np.argsort(_rank(shapes), kind="stable")
    for row in order[inside[order]].tolist():
        window = tuple(slice(a, b) for a, b in zip(first[row], last[row], strict=True))
        centers = _centers(first[row], last[row], lower, size)
        touched = _touches(shapes, row, centers, size / 2 - GAP_M, turn, shift)
        touched = touched.reshape([s.stop - s.start for s in window])
        label[window][touched] = _classes(shapes, row, street, centers, turn, shift).reshape(touched.shape)[touched]
        flow[window][touched] = (turn.T[:2, :2] @ shapes.velocity[row]).astype(np.float32)
    return VoxelLabels(grid, torch.from_numpy(label), torch.from_numpy(flow), FREE_LABEL)


def _rank(shapes: Shapes) -> Array:
    rank = np.full(len(shapes), 4)
    rank[shapes.track > 0] = 5
    rank[np.isin(shapes.concept, (Concept.TRUNK, Concept.CROWN))] = 3
    rank[shapes.concept == Concept.WALL] = 2
    rank[shapes.material == Material.SLAB] = 1
    return rank


def _centers(first: Array, last: Array, lower: Array, size: Array) -> Array:
    """Centres ``(3, n)`` of a block of voxels, in the grid's frame."""
    axes = [lo + (np.arange(a, b) + 0.5) * s for a, b, lo, s in zip(first, last, lower, size, strict=True)]
    return np.stack([a.reshape(-1) for a in np.meshgrid(*axes, indexing="ij")])


def _classes(shapes: Shapes, row: int, street: Street, centers: Array, turn: Array, shift: Array) -> Array:
    raw = np.full(centers.shape[1], shapes.raw[row] or RAW_FROM_CONCEPT[shapes.concept[row]])
    if shapes.material[row] == Material.SLAB:
        world = turn @ centers + shift[:, None]
        concept = street.concept_at(world[0], world[1])
        raw = RAW_FROM_CONCEPT[np.where(concept == Concept.ROAD, np.uint8(Concept.KERB), concept)]
    return CLASS_FROM_RAW[raw]


def _fill_ground(label: Array, street: Street, lower: Array, size: Array, turn: Array, shift: Array) -> None:
    layer = int(np.floor((-1e-6 - shift[2] - lower[2]) / size[2]))
    if not 0 <= layer < label.shape[2]:
        return
    centers = _centers(np.zeros(3, np.int64), np.array([*label.shape[:2], 1]), lower, size)
    world = turn @ centers + shift[:, None]
    concept = street.concept_at(world[0], world[1])
    label[:, :, layer] = CLASS_FROM_RAW[RAW_FROM_CONCEPT[concept]].reshape(label.shape[:2])


def _touches(shapes: Shapes, row: int, centers: Array, reach: Array, turn: Array, shift: Array) -> Array:
    """True for voxels that share a point with the solid.

    Alternating projections: step from the voxel's centre to the solid, back into the voxel, and so on; two
    convex bodies meet exactly when the steps come to rest in both.
    """
    to_shape = (shapes.rotation[row] / shapes.half[row]).T @ turn
    offset = (shapes.rotation[row] / shapes.half[row]).T @ (shift - shapes.center[row])
    from_shape = np.linalg.inv(to_shape)
    found = np.zeros(centers.shape[1], dtype=bool)
    active, point = np.arange(centers.shape[1]), centers
    for _ in range(ROUNDS):
        q = to_shape @ point + offset[:, None]
        nearest = _into_shape(int(shapes.kind[row]), shapes.taper[row], q)
        inside = (np.abs(nearest - q) < 1e-6).all(axis=0)
        found[active[inside]] = True
        active, nearest = active[~inside], nearest[:, ~inside]
        middle = centers[:, active]
        point = np.clip(from_shape @ (nearest - offset[:, None]), middle - reach[:, None], middle + reach[:, None])
    return found


def _into_shape(kind: int, taper: Array, q: Array) -> Array:
    """A near point of the canonical solid; points inside stay where they are."""
    if kind == BALL:
        return q / np.maximum(np.linalg.norm(q, axis=0), 1.0)
    z = np.clip(q[2], -1.0, 1.0)
    limit_x, limit_y = (1.0 - t / 2 * (z + 1.0) for t in taper)
    if kind == ROUND:
        scale = np.minimum(1.0, limit_x / np.maximum(np.hypot(q[0], q[1]), 1e-9))
        return np.stack([q[0] * scale, q[1] * scale, z])
    return np.stack([np.clip(q[0], -limit_x, limit_x), np.clip(q[1], -limit_y, limit_y), z])
