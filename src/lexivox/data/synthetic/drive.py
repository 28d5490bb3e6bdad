"""A drive through a synthetic street: keyframes at 2 Hz, rendered when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lexivox.data.synthetic.actors import Actor, EgoPlan, make_cast
from lexivox.data.synthetic.capture import Pictures, Scene, Sweep, take_pictures, take_sweep
from lexivox.data.synthetic.concepts import CLASS_FROM_RAW
from lexivox.data.synthetic.layout import build_scenery
from lexivox.data.synthetic.light import Light, make_light
from lexivox.data.synthetic.sensors import CameraRig, Rig, make_rig
from lexivox.data.synthetic.shapes import Array, Shapes, join, yaw_matrix
from lexivox.data.synthetic.street import Street, make_street
from lexivox.data.synthetic.truth import voxel_truth
from lexivox.data.types import Boxes, CameraView, LidarSweep, PointLabels, Sample, VoxelLabels
from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

KEYFRAME_S = 0.5
MAX_TRACKS = 1000  # what the panoptic files of nuScenes can number
SEEN_M = 100.0
START_US = 1_700_000_000_000_000


class SyntheticDrive:
    """A drive of ``num_keyframes`` keyframes; ``drive[i]`` is a complete :class:`~lexivox.data.types.Sample`.

    Args:
        seed: decides everything: street, light, actors, calibration, noise.
        num_keyframes: length at 2 Hz.
        image_hw: height and width of the six images.
        num_azimuths: columns of the LiDAR (1084 for the real one).
        grid: with a grid, samples carry its complete voxel labels.
        name: of the drive, ``scene-<seed>`` by default.

    Raises:
        ConfigError: a count or size is not above zero, or the drive is too long to number its actors.
    """

    def __init__(
        self,
        seed: int,
        num_keyframes: int = 20,
        image_hw: tuple[int, int] = (160, 288),
        num_azimuths: int = 720,
        grid: VoxelGrid | None = None,
        name: str | None = None,
    ) -> None:
        if min(num_keyframes, *image_hw, num_azimuths) < 1:
            raise ConfigError(
                "num_keyframes, image_hw and num_azimuths of a synthetic drive must be above 0; "
                f"got {num_keyframes}, {image_hw}, {num_azimuths}."
            )
        self.seed, self.num_keyframes, self.grid = seed, num_keyframes, grid
        self.name = name or f"scene-{seed:04d}"
        rng = np.random.default_rng([seed, 1])
        self._start_m, self.speed = rng.uniform(-8.0, 8.0), rng.uniform(4.0, 8.5)
        duration_s = KEYFRAME_S * num_keyframes
        self.street: Street = make_street(rng, self.speed * duration_s)
        self.light: Light = make_light(rng)
        self.rig: Rig = make_rig(rng, image_hw, num_azimuths)
        lane = int(rng.integers(self.street.num_lanes))
        self._lane_y = -self.street.lane_m * (lane + 0.5) + rng.uniform(-0.3, 0.3)
        self._sway = (rng.uniform(0.0, 0.35), rng.uniform(0.0, 2 * np.pi), rng.uniform(25.0, 60.0))
        self.scenery: Shapes = build_scenery(rng, self.street)
        self.actors: list[Actor] = make_cast(
            rng, self.street, EgoPlan(self._lane_y, self._start_m, self.speed, duration_s)
        )
        if len(self.actors) >= MAX_TRACKS:
            raise ConfigError(
                f"num_keyframes of a synthetic drive must leave it below {MAX_TRACKS} actors; got "
                f"{num_keyframes} keyframes with {len(self.actors)} actors. Write several shorter drives."
            )
        self.global_from_world = RigidTransform.from_yaw(
            rng.uniform(-np.pi, np.pi), [rng.uniform(200, 1800), rng.uniform(200, 1800), 0.0]
        )

    def __len__(self) -> int:
        return self.num_keyframes

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @property
    def drives(self) -> list[str]:
        """The drive of each keyframe: this one."""
        return [self.name] * len(self)

    # ---------------------------------------------------------------------- where and when

    def timestamp_us(self, index: int) -> int:
        return START_US + self.seed * 10_000_000_000 + round(index * KEYFRAME_S * 1e6)

    def token(self, kind: str, index: int = 0) -> str:
        """A 32-digit hexadecimal name, the same in every run."""
        return md5(f"lexivox/{self.seed}/{self.name}/{kind}/{index}".encode(), usedforsecurity=False).hexdigest()

    def world_from_ego(self, index: int) -> RigidTransform:
        """The ego drives at a steady speed and weaves gently in its lane."""
        x = self._start_m + self.speed * KEYFRAME_S * index
        size, phase, period = self._sway
        angle = 2 * np.pi * x / period + phase
        yaw = np.arctan(size * 2 * np.pi / period * np.cos(angle))
        return RigidTransform.from_yaw(float(yaw), [x, self._lane_y + size * np.sin(angle), 0.0])

    def global_from_ego(self, index: int) -> RigidTransform:
        return self.global_from_world @ self.world_from_ego(index)

    @property
    def ego_from_lidar(self) -> RigidTransform:
        return RigidTransform(torch.from_numpy(self.rig.lidar_rotation), torch.from_numpy(self.rig.lidar_position))

    def ego_from_cam(self, camera: CameraRig) -> RigidTransform:
        return RigidTransform(torch.from_numpy(camera.rotation), torch.from_numpy(camera.position))

    def scene(self, index: int) -> Scene:
        """The solids within sight at keyframe ``index``."""
        pose, time_s = self.world_from_ego(index), index * KEYFRAME_S
        rotation, position = pose.rotation.numpy(), pose.translation.numpy()
        shapes = join([self.scenery, *(actor.at(time_s) for actor in self.actors)])
        corners = shapes.corners()
        low, high = corners.min(axis=1)[:, :2], corners.max(axis=1)[:, :2]
        gap = np.linalg.norm(np.maximum(np.maximum(low - position[:2], position[:2] - high), 0), axis=1)
        near = gap < SEEN_M
        return Scene(self.street, self.light, shapes[near], corners[near], rotation, position)

    # ---------------------------------------------------------------------- what is seen

    def pictures(self, index: int, scene: Scene | None = None) -> Pictures:
        """Render the six views."""
        rng = np.random.default_rng([self.seed, 2, index])
        return take_pictures(scene or self.scene(index), self.rig, rng)

    def pixel_labels(self, index: int) -> UInt8[Tensor, "V H W"]:
        """Fine concept (``concepts.CONCEPT_NAMES``) of every pixel of every view."""
        return torch.from_numpy(self.pictures(index).concept)

    def sweep(self, index: int, scene: Scene | None = None) -> Sweep:
        """One turn of the LiDAR."""
        rng = np.random.default_rng([self.seed, 3, index])
        return take_sweep(scene or self.scene(index), self.rig, rng)

    def voxel_labels(self, index: int, grid: VoxelGrid, scene: Scene | None = None) -> VoxelLabels:
        """Complete truth on any grid in the ego or LiDAR frame."""
        scene = scene or self.scene(index)
        world_from_grid = self.world_from_ego(index)
        if grid.frame == "lidar":
            world_from_grid = world_from_grid @ self.ego_from_lidar
        return voxel_truth(scene.shapes, self.street, grid, world_from_grid)

    def boxes(self, index: int, sweep: Sweep) -> Boxes:
        """Boxes, in the ego frame, of the actors that at least one LiDAR point fell on; in order of track."""
        tracks = set(np.unique(sweep.track).tolist())
        seen = [actor for actor in self.actors if actor.track in tracks]
        pose = self.world_from_ego(index)
        yaw = float(torch.atan2(pose.rotation[1, 0], pose.rotation[0, 0]))
        to_ego, time_s = yaw_matrix(-yaw), index * KEYFRAME_S
        rows = [_box_row(actor, time_s, to_ego, pose.translation.numpy(), yaw) for actor in seen]
        table = torch.from_numpy(np.array(rows, dtype=np.float32).reshape(-1, 9))
        return Boxes(
            center=table[:, :3],
            size_m=table[:, 3:6],
            yaw_rad=table[:, 6],
            velocity=table[:, 7:9],
            label=torch.tensor([int(CLASS_FROM_RAW[a.raw]) for a in seen], dtype=torch.int64),
            track=torch.tensor([a.track for a in seen], dtype=torch.int64),
        )

    def __getitem__(self, index: int) -> Sample:
        return self._read(index, with_images=True)

    def without_images(self, index: int) -> Sample:
        """The same keyframe; its views have a size and calibration, but were not rendered."""
        return self._read(index, with_images=False)

    def _read(self, index: int, with_images: bool) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"keyframe {index} of a drive of {len(self)}")
        scene = self.scene(index)
        sweep = self.sweep(index, scene)
        return Sample(
            token=self.token("sample", index),
            drive=self.name,
            timestamp_ns=self.timestamp_us(index) * 1000,
            views=self._views(index, self.pictures(index, scene).rgb if with_images else None),
            lidar=_lidar_sweep(sweep),
            ego_from_lidar=self.ego_from_lidar,
            global_from_ego=self.global_from_ego(index),
            point_labels=_point_labels(sweep),
            boxes=self.boxes(index, sweep),
            voxel_labels=self.voxel_labels(index, self.grid, scene) if self.grid else None,
        )

    def _views(self, index: int, rgb: Array | None) -> tuple[CameraView, ...]:
        """Views of pictures ``(V, H, W, 3)``, or without pixels."""
        pixels = np.zeros((len(self.rig.cameras), *self.rig.image_hw, 0), np.uint8) if rgb is None else rgb
        return tuple(
            CameraView(
                camera.name,
                torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
                torch.from_numpy(camera.image_from_cam.astype(np.float32)),
                self.ego_from_cam(camera),
                self.timestamp_us(index) * 1000,
            )
            for camera, image in zip(self.rig.cameras, pixels, strict=True)
        )


def _box_row(actor: Actor, time_s: float, to_ego: Array, ego_position: Array, ego_yaw: float) -> list[float]:
    position = actor.position(time_s) + np.array([0.0, 0.0, actor.size_m[2] / 2])
    center = to_ego @ (position - ego_position)
    velocity = to_ego[:2, :2] @ actor.velocity
    yaw = (actor.yaw_rad - ego_yaw + np.pi) % (2 * np.pi) - np.pi
    return [*center, *actor.size_m, yaw, *velocity]


def _lidar_sweep(sweep: Sweep) -> LidarSweep:
    return LidarSweep(
        xyz=torch.from_numpy(sweep.xyz),
        intensity=torch.from_numpy(sweep.intensity.astype(np.float32)),
        ring=torch.from_numpy(sweep.ring.astype(np.int64)),
        batch=torch.zeros(len(sweep.xyz), dtype=torch.int64),
    )


def _point_labels(sweep: Sweep) -> PointLabels:
    return PointLabels(
        label=torch.from_numpy(CLASS_FROM_RAW[sweep.raw].astype(np.int64)),
        instance=torch.from_numpy(sweep.track),
    )
