"""Slow twin of the inverse warp (spec occflownet 3.5): point by point, box by box."""

from __future__ import annotations

import math

UNLABELLED, GROUND = 255, 0.15


def to_now(point, boxes_then, boxes_now, min_speed, time_s, margin, grid):
    """What ``Motion.to_now`` says of one point; boxes are dicts track -> (center, size, yaw, speed, label).

    Returns (xyz, is_moved, is_vacant, is_unknown, label).
    """
    moving = []
    for track in sorted({*boxes_then, *boxes_now}):
        then, now = boxes_then.get(track), boxes_now.get(track)
        if then and now:
            farthest = max(math.dist(a, b) for a, b in zip(corners(then), corners(now), strict=True))
            is_moving = farthest > min_speed * abs(time_s)
        else:
            speed = (then or now)[3]
            is_moving = not speed <= min_speed
        if is_moving:
            moving.append((then, now))
    rides = nearest([(own, pair) for pair in moving if pair[0] and (own := inside(point, pair[0], margin))])
    if rides:
        then, now = rides
        if now is None:
            return point, False, False, True, then[4]
        own = into(point, then)
        carried = tuple(a + b for a, b in zip(turn(own, now[2]), now[0], strict=True))
        if not in_grid(carried, grid):
            return point, False, False, True, then[4]
        return carried, True, False, False, then[4]
    stands = nearest([(own, pair) for pair in moving if pair[1] and (own := inside(point, pair[1], margin))])
    return (point, False, True, False, stands[1][4]) if stands else (point, False, False, False, UNLABELLED)


def corners(box):
    (x, y, z), (length, width, _), yaw, *_ = box
    for sign_x in (-1, 1):
        for sign_y in (-1, 1):
            px, py, _ = turn((sign_x * length / 2, sign_y * width / 2, 0.0), yaw)
            yield x + px, y + py, z


def turn(xyz, yaw):
    x, y, z = xyz
    return math.cos(yaw) * x - math.sin(yaw) * y, math.sin(yaw) * x + math.cos(yaw) * y, z


def into(point, box):
    return turn([a - b for a, b in zip(point, box[0], strict=True)], -box[2])


def inside(point, box, margin):
    """The point in the box's own axes where the box, enlarged but at its lower side, which is cut off, holds it."""
    own, half = into(point, box), [size / 2 for size in box[1]]
    fits = all(abs(a) <= h + margin for a, h in zip(own, half, strict=True)) and own[2] >= -half[2] + GROUND
    return own if fits else None


def nearest(found):
    return min(found, key=lambda item: sum(a * a for a in item[0]))[1] if found else None


def in_grid(point, grid):
    return all(low <= p < high for p, low, high in zip(point, grid.lower_m, grid.upper_m, strict=True))
