"""Compiled voxel traversal for the CPU; the rule is that of :mod:`lexivox.geometry.rays`, rounding included.

No fast-math and no parallel loop: one would change roundings, the other gains nothing on a shared grid.
``no_type_check`` keeps run-time checkers from wrapping functions that only the compiler calls.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@numba.njit(**_OPTIONS)
@no_type_check
def _clip_axis(begin, end, box):
    """Where the segment of fractions t in [0, 1] enters and leaves the slab [0, box) of one axis."""
    direction = end - begin
    if direction == 0.0:
        return (-math.inf, math.inf) if 0.0 <= begin < box else (math.inf, -math.inf)
    t_lower, t_upper = (0.0 - begin) / direction, (box - begin) / direction
    return min(t_lower, t_upper), max(t_lower, t_upper)


@numba.njit(**_OPTIONS)
@no_type_check
def _axis_walk(begin, end, t_near, t_far, box, stride):
    """One axis of a clipped segment: first voxel, crossings, start, 1 / extent, next plane, sign, step."""
    direction = end - begin
    start = min(max(begin + t_near * direction, 0.0), box)
    stop = begin + t_far * direction if t_far < 1.0 else end
    stop = min(max(stop, 0.0), box)
    first = int(min(math.floor(start), box - 1.0))
    steps = int(min(math.floor(stop), box - 1.0)) - first
    if steps > 0:
        return first, steps, start, 1.0 / (stop - start), first + 1.0, 1.0, stride
    if steps < 0:
        return first, -steps, start, 1.0 / (stop - start), first + 0.0, -1.0, -stride
    return first, 0, start, 0.0, 0.0, 0.0, 0


@numba.njit(**_OPTIONS)
@no_type_check
def _mark_walk(walk_x, walk_y, walk_z, flat, num_marks, free):
    """Mark the first ``num_marks`` voxels: always cross the nearest plane, x before y before z when equal."""
    _, left_x, start_x, inverse_x, plane_x, sign_x, step_x = walk_x
    _, left_y, start_y, inverse_y, plane_y, sign_y, step_y = walk_y
    _, left_z, start_z, inverse_z, plane_z, sign_z, step_z = walk_z
    t_x = (plane_x - start_x) * inverse_x if left_x else math.inf
    t_y = (plane_y - start_y) * inverse_y if left_y else math.inf
    t_z = (plane_z - start_z) * inverse_z if left_z else math.inf
    for _ in range(num_marks):
        free[flat] = True
        if t_x <= t_y and t_x <= t_z:
            flat, left_x, plane_x = flat + step_x, left_x - 1, plane_x + sign_x
            t_x = (plane_x - start_x) * inverse_x if left_x > 0 else math.inf
        elif t_y <= t_z:
            flat, left_y, plane_y = flat + step_y, left_y - 1, plane_y + sign_y
            t_y = (plane_y - start_y) * inverse_y if left_y > 0 else math.inf
        else:
            flat, left_z, plane_z = flat + step_z, left_z - 1, plane_z + sign_z
            t_z = (plane_z - start_z) * inverse_z if left_z > 0 else math.inf


@numba.njit(**_OPTIONS)
@no_type_check
def _mark_segment(begin, end, box, strides, free):
    """Clip one segment in voxel coordinates to the grid and mark what it passes before its end."""
    near_x, far_x = _clip_axis(begin[0], end[0], box[0])
    near_y, far_y = _clip_axis(begin[1], end[1], box[1])
    near_z, far_z = _clip_axis(begin[2], end[2], box[2])
    t_near = max(max(near_x, near_y), max(near_z, 0.0))
    t_far = min(min(far_x, far_y), min(far_z, 1.0))
    begins_inside = 0.0 <= begin[0] < box[0] and 0.0 <= begin[1] < box[1] and 0.0 <= begin[2] < box[2]
    ends_inside = 0.0 <= end[0] < box[0] and 0.0 <= end[1] < box[1] and 0.0 <= end[2] < box[2]
    if not (t_near < t_far or begins_inside or ends_inside):
        return
    walk_x = _axis_walk(begin[0], end[0], t_near, t_far, box[0], strides[0])
    walk_y = _axis_walk(begin[1], end[1], t_near, t_far, box[1], strides[1])
    walk_z = _axis_walk(begin[2], end[2], t_near, t_far, box[2], strides[2])
    flat = walk_x[0] * strides[0] + walk_y[0] * strides[1] + walk_z[0] * strides[2]
    num_marks = walk_x[1] + walk_y[1] + walk_z[1] + (0 if ends_inside else 1)
    _mark_walk(walk_x, walk_y, walk_z, flat, num_marks, free)


@numba.njit(
    "void(float64[:,::1], float64[:,::1], UniTuple(f8,3), UniTuple(f8,3), UniTuple(i8,3), boolean[::1])",
    **_OPTIONS,
)
@no_type_check
def mark_free(origins, ends, lower, size, shape, free):
    """Set ``free`` (flattened in x, y, z order) where a segment passes before the voxel of its end.

    ``origins`` holds one row for all ``ends`` or one row for each. Segments with a NaN or
    infinity are skipped.
    """
    box = (float(shape[0]), float(shape[1]), float(shape[2]))
    strides = (shape[1] * shape[2], shape[2], 1)
    next_origin = 0 if origins.shape[0] == 1 else 1
    for ray in range(ends.shape[0]):
        origin, end_m = origins[ray * next_origin], ends[ray]
        begin = (
            (origin[0] - lower[0]) / size[0],
            (origin[1] - lower[1]) / size[1],
            (origin[2] - lower[2]) / size[2],
        )
        end = (
            (end_m[0] - lower[0]) / size[0],
            (end_m[1] - lower[1]) / size[1],
            (end_m[2] - lower[2]) / size[2],
        )
        if math.isfinite(end[0] - begin[0]) and math.isfinite(end[1] - begin[1]) and math.isfinite(end[2] - begin[2]):
            _mark_segment(begin, end, box, strides, free)
