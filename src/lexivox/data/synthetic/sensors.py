"""The rig: six cameras and a spinning 32-beam LiDAR on a car, placed as in nuScenes.

All exposures and the whole sweep happen at the time of the keyframe: nothing is smeared by motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexivox.data.synthetic.shapes import Array, yaw_matrix

LIDAR_XYZ_M = (0.94, 0.0, 1.84)
MAX_RANGE_M = 70.0
NUM_RINGS = 32
FULL_WIDTH_PX = 1600.0

# name, yaw in degrees counter-clockwise from forward, focal length at 1600 px, position in ego
_CAMERAS = (
    ("CAM_FRONT", 0.0, 1266.0, (1.70, 0.02, 1.51)),
    ("CAM_FRONT_RIGHT", -55.0, 1266.0, (1.55, -0.49, 1.50)),
    ("CAM_FRONT_LEFT", 55.0, 1266.0, (1.52, 0.49, 1.51)),
    ("CAM_BACK", 180.0, 809.0, (0.03, 0.0, 1.57)),
    ("CAM_BACK_LEFT", 110.0, 1266.0, (1.04, 0.48, 1.56)),
    ("CAM_BACK_RIGHT", -110.0, 1266.0, (1.02, -0.48, 1.56)),
)
CAMERA_NAMES = tuple(name for name, *_ in _CAMERAS)

_CAM_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # x right, y down, z forward


@dataclass(frozen=True, slots=True)
class CameraRig:
    """One camera: intrinsics in pixels of its image, pose in the ego frame."""

    name: str
    image_from_cam: Array  # (3, 3)
    rotation: Array  # (3, 3) ego from cam
    position: Array  # (3,)


@dataclass(frozen=True, slots=True)
class Rig:
    """The sensors of one drive. ``lidar_directions (3, 32, azimuths)``: unit vectors, LiDAR frame."""

    cameras: tuple[CameraRig, ...]
    image_hw: tuple[int, int]
    lidar_rotation: Array
    lidar_position: Array
    elevation_rad: Array
    lidar_directions: Array


def make_rig(rng: np.random.Generator, image_hw: tuple[int, int], num_azimuths: int) -> Rig:
    """A rig whose calibration differs a little from drive to drive, as real cars do."""
    cameras = tuple(_camera(rng, image_hw, *spec) for spec in _CAMERAS)
    elevation = np.deg2rad(np.linspace(-30.67, 10.67, NUM_RINGS))
    azimuth = 2 * np.pi * np.arange(num_azimuths) / num_azimuths
    directions = np.stack(
        [
            np.cos(elevation)[:, None] * np.sin(azimuth),
            np.cos(elevation)[:, None] * np.cos(azimuth),
            np.repeat(np.sin(elevation)[:, None], num_azimuths, axis=1),
        ]
    )
    return Rig(cameras, image_hw, yaw_matrix(-np.pi / 2), np.array(LIDAR_XYZ_M), elevation, directions)


def _camera(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    name: str,
    yaw_deg: float,
    focal_px: float,
    position: tuple[float, float, float],
) -> CameraRig:
    height, width = image_hw
    focal = focal_px / FULL_WIDTH_PX * width * rng.uniform(0.99, 1.01)
    center = np.array([width, height]) * (0.5 + rng.uniform(-0.01, 0.01, 2))
    intrinsics = np.array([[focal, 0.0, center[0]], [0.0, focal, center[1]], [0.0, 0.0, 1.0]])
    yaw = np.deg2rad(yaw_deg + rng.uniform(-1.0, 1.0))
    shift = rng.uniform(-0.02, 0.02, 3)
    return CameraRig(name, intrinsics, yaw_matrix(yaw) @ _CAM_AXES, np.asarray(position) + shift)
