"""Who is in the street: vehicles, people, cones and barriers, each with a box and a track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic import objects, vehicles
from lexivox.data.synthetic.concepts import RAW_FROM_CONCEPT, Concept
from lexivox.data.synthetic.shapes import Shape, Shapes, Xyz, place, stack
from lexivox.data.synthetic.street import KERB_M, Street, block_intervals

Rng = np.random.Generator

RAW_CAR, RAW_TRUCK, RAW_BUS, RAW_BICYCLE, RAW_MOTORCYCLE, RAW_PEDESTRIAN, RAW_CONE, RAW_BARRIER = (
    int(RAW_FROM_CONCEPT[concept])
    for concept in (
        Concept.CAR, Concept.TRUCK, Concept.BUS, Concept.BICYCLE, Concept.MOTORCYCLE, Concept.PEDESTRIAN, Concept.CONE,
        Concept.BARRIER,
    )
)  # fmt: skip
_BUILDERS = {
    RAW_CAR: vehicles.car,
    RAW_TRUCK: vehicles.truck,
    RAW_BUS: vehicles.bus,
    RAW_BICYCLE: vehicles.bicycle,
    RAW_MOTORCYCLE: vehicles.motorcycle,
    RAW_PEDESTRIAN: objects.pedestrian,
    RAW_CONE: objects.cone,
    RAW_BARRIER: objects.barrier,
}


@dataclass(frozen=True, slots=True)
class Actor:
    """A thing with a box. It moves on a straight line: ``start + seconds * speed * (cos yaw, sin yaw)``."""

    track: int
    raw: int
    shapes: Shapes  # around its own origin
    size_m: Xyz  # length, width, height
    start: Xyz
    yaw_rad: float
    speed: float

    @property
    def velocity(self) -> np.ndarray:
        return self.speed * np.array([np.cos(self.yaw_rad), np.sin(self.yaw_rad)])

    def position(self, time_s: float) -> np.ndarray:
        """The origin (middle of the footprint, on the ground) in the world."""
        x, y = np.asarray(self.start[:2]) + time_s * self.velocity
        return np.array([x, y, self.start[2]])

    def at(self, time_s: float) -> Shapes:
        return place(self.shapes, self.position(time_s), self.yaw_rad, self.velocity)


@dataclass(frozen=True, slots=True)
class EgoPlan:
    """The ego's lane and steady speed: where others must not be."""

    lane_y_m: float
    start_m: float
    speed: float
    duration_s: float


class Cast:
    """Collects actors and numbers their tracks from 1."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.actors: list[Actor] = []

    def add(self, raw: int, xyz: Xyz, yaw_rad: float, speed: float = 0.0) -> float:
        """Build an actor and return its length, so that the next one keeps its distance."""
        parts: list[Shape]
        if raw in (RAW_BICYCLE, RAW_MOTORCYCLE):
            parts, size = _BUILDERS[raw](self.rng, rider=speed > 0)
        else:
            parts, size = _BUILDERS[raw](self.rng)
        track = len(self.actors) + 1
        self.actors.append(Actor(track, raw, stack(parts, raw, track), size, xyz, yaw_rad, speed))
        return size[0]


def make_cast(rng: Rng, street: Street, ego: EgoPlan) -> list[Actor]:
    """Draw everybody. None drives through another: a lane has one speed, parking its own strip."""
    cast = Cast(rng)
    _traffic(cast, street, ego)
    for start, end in block_intervals(street):
        for side in (-1.0, 1.0):
            _parking(cast, street, start, end, side)
            _people(cast, street, start, end, side)
    for middle, half in street.crossings:
        _side_street(cast, street, middle, half)
    return cast.actors


def _vehicle(rng: Rng) -> int:
    kinds = (RAW_CAR, RAW_TRUCK, RAW_BUS, RAW_BICYCLE, RAW_MOTORCYCLE)
    return int(rng.choice(kinds, p=(0.66, 0.10, 0.07, 0.10, 0.07)))


def _traffic(cast: Cast, street: Street, ego: EgoPlan) -> None:
    """Fill every lane so far that it stays filled wherever the ego looks during the drive."""
    rng, end_m = cast.rng, ego.start_m + ego.speed * ego.duration_s
    for direction in (-1.0, 1.0):  # of y: right lanes (y < 0) drive along +x
        for lane in range(street.num_lanes):
            y = direction * street.lane_m * (lane + 0.5)
            is_ego_lane = direction < 0 and abs(y - ego.lane_y_m) < street.lane_m / 2
            speed = ego.speed if is_ego_lane else rng.uniform(4.0, 11.0)
            travel = -direction * speed * ego.duration_s
            x = min(-70.0, -70.0 - travel) + rng.uniform(0, 15)
            while x < max(end_m + 80.0, end_m + 80.0 - travel):
                raw = _vehicle(rng)
                if not (is_ego_lane and abs(x - ego.start_m - 1.4) < 16.0):
                    heading = 0.0 if direction < 0 else np.pi
                    x += cast.add(raw, (x, y + rng.uniform(-0.25, 0.25), 0.0), heading, speed)
                x += rng.uniform(9.0, 38.0)


def _parking(cast: Cast, street: Street, start: float, end: float, side: float) -> None:
    rng, y = cast.rng, side * (street.half_m - street.parking_m / 2 + 0.05)
    x, fill = start + 9.0, rng.uniform(0.35, 0.85)
    works = rng.uniform(start + 10, end - 22) if rng.random() < 0.35 and end - start > 40 else None
    if works is not None:
        _road_works(cast, street, works, side)
    while x < end - 11.0:
        blocked = works is not None and works - 9.0 < x < works + 14.0
        raw = RAW_CAR if rng.random() < 0.9 else RAW_TRUCK
        room = 10.0 if raw == RAW_TRUCK else 5.2
        if not blocked and rng.random() < fill and x + room < end - 5.0:
            yaw = (0.0 if side < 0 else np.pi) + rng.normal(0, 0.015) + (np.pi if rng.random() < 0.08 else 0.0)
            cast.add(raw, (x + room / 2, y + rng.uniform(-0.05, 0.05), 0.0), yaw)
        x += room + rng.uniform(0.4, 2.0)


def _road_works(cast: Cast, street: Street, x: float, side: float) -> None:
    """A stretch of the parking strip closed by barriers, with a row of cones along the lane."""
    rng, edge = cast.rng, side * (street.half_m - street.parking_m + 0.3)
    middle = side * (street.half_m - street.parking_m / 2)
    for i in range(int(rng.integers(4, 8))):
        cast.add(RAW_CONE, (x + 1.9 * i, edge + rng.uniform(-0.1, 0.1), 0.0), rng.uniform(0, 6))
    for i in range(int(rng.integers(1, 4))):
        cast.add(RAW_BARRIER, (x + 1.0 + 4.0 * i, middle + side * 0.2, 0.0), rng.normal(0, 0.1))


def _people(cast: Cast, street: Street, start: float, end: float, side: float) -> None:
    rng = cast.rng
    inner = street.half_m + KERB_M + street.verge_m + 0.9
    width = max(street.sidewalk_m - 1.5, 0.3)
    for _ in range(int(rng.poisson((end - start) / 9.0))):
        yaw = float(rng.choice([0.0, np.pi])) + rng.normal(0, 0.03)
        speed = rng.uniform(0.8, 1.7) if rng.random() < 0.75 else 0.0
        x = rng.uniform(start + 4, end - 4)
        y = side * (inner + rng.uniform(0.0, width))
        cast.add(RAW_PEDESTRIAN, (x, y, street.kerb_height_m), yaw if speed else rng.uniform(0, 6), speed)
    for _ in range(int(rng.poisson(1.0))):
        y = side * (inner - 0.75)
        raw = RAW_BICYCLE if rng.random() < 0.7 else RAW_MOTORCYCLE
        cast.add(raw, (rng.uniform(start + 5, end - 5), y, street.kerb_height_m), rng.normal(0, 0.2))


def _side_street(cast: Cast, street: Street, middle: float, half: float) -> None:
    """A car that waits to turn in, and a person on the zebra."""
    rng = cast.rng
    for side in (-1.0, 1.0):
        if rng.random() < 0.6:
            x = middle - side * half / 2  # drives towards the main street on its right-hand side
            distance = street.half_m + rng.uniform(5.5, 12.0)
            raw = RAW_CAR if rng.random() < 0.8 else _vehicle(rng)
            distance += 4.0 if raw in (RAW_BUS, RAW_TRUCK) else 0.0
            cast.add(raw, (x, side * distance, 0.0), -side * np.pi / 2)
    if rng.random() < 0.5:
        x = middle + (half + 2.2) * rng.choice([-1.0, 1.0])
        y = rng.choice([-1.0, 1.0]) * (street.half_m - rng.uniform(0.5, 1.6))
        cast.add(RAW_PEDESTRIAN, (x, y, 0.0), rng.uniform(0, 6))
