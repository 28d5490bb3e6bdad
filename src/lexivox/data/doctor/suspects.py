"""What may have happened to a calibration or to images, each undone on an :class:`EdgeView`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.data.doctor.edges import EdgeView, edge_views
from lexivox.data.types import Sample
from lexivox.geometry.transform import RigidTransform

SIZE_STEP = 1.015
"""Ratio of neighbouring sizes that are tried; agreement halves within one percent, the finer steps come later."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A fault that may have happened, and a view as it would be without it.

    Attributes:
        fault: a name of ``FAULTS``.
        mend: what to do, in words that follow "if".
        undo: the view with the fault taken back.
        finer: suspects beside it, in smaller steps.
        credit: what its agreement counts for. An image on its head keeps its verticals, and much agrees by accident.
    """

    fault: str
    mend: str
    undo: Callable[[EdgeView], EdgeView]
    finer: Callable[[], Iterator[Suspect]] = lambda: iter(())
    credit: float = 1.0

    @property
    def is_searched(self) -> bool:
        """True for one of hundreds of steps of a search, which finds a little in noise too."""
        return self.fault in ("image-size", "cropped")


def gross() -> tuple[Suspect, ...]:
    """Faults after which nothing fits: poses, axes, frames and images turned around."""
    return (*_images(), *_poses(), *_axes(), *_sweeps())


def sizes(view: EdgeView) -> Iterator[Suspect]:
    """Intrinsics of images of another size, from a quarter to four times, and cut images.

    Where the principal point lies tells about how much; what it does not know is searched.
    """
    for step in range(-92, 93):
        if step:
            yield _resized(SIZE_STEP**step, SIZE_STEP**step)
    height, width = view.image_hw
    wide = width / max(2 * float(view.image_from_cam[0, 2]), 1.0)
    high = height / max(2 * float(view.image_from_cam[1, 2]), 1.0)
    for i, j in product(range(-5, 6), repeat=2):
        yield _resized(wide * SIZE_STEP**i, high * SIZE_STEP**j)
    for percent in (*range(-40, -3), *range(4, 41)):
        yield _cropped(percent / 100)


def slight_sizes() -> Iterator[Suspect]:
    """Intrinsics that are off by a few percent."""
    for step in range(-10, 11):
        if step:
            yield _resized(1.006**step, 1.006**step)


def turns(degrees: Sequence[float]) -> Iterator[Suspect]:
    """The cameras turned a little about the car's vertical axis, or up and down."""
    for angle in degrees:
        yield _turned("up axis of the car", angle, 2)
        yield _turned("left axis of the camera", angle, 0)


def already_moved(samples: Sequence[Sample]) -> Iterator[Suspect]:
    """Points that were in the ego frame before their reader moved them there."""
    unmoved = {}
    for sample in samples:
        xyz = sample.ego_from_lidar.inverse().apply(sample.lidar.xyz.double()).float()
        whole = replace(sample, lidar=replace(sample.lidar, xyz=xyz))
        unmoved |= {(view.token, view.camera): view for view in edge_views(whole)}
    mend = "take the points for ones in the ego frame already"
    yield Suspect("lidar-frame", mend, lambda view: unmoved[view.token, view.camera])


def swapped(view: EdgeView, other: EdgeView) -> EdgeView:
    """The view with the image of another camera of its keyframe."""
    return replace(view, prominence=other.prominence)


# ------------------------------------------------------------------------------------------------ one by one


def _images() -> Iterator[Suspect]:
    mirror = "flip the images left to right (or mirror the intrinsics if the flip was meant)"
    yield Suspect("mirrored", mirror, lambda view: replace(view, prominence=view.prominence.flip(1)))
    flip = "flip the images top to bottom"
    yield Suspect("upside-down", flip, lambda view: replace(view, prominence=view.prominence.flip(0)), credit=0.6)
    turn = "turn the images by half a turn"
    yield Suspect("upside-down", turn, lambda view: replace(view, prominence=view.prominence.flip(0, 1)), credit=0.6)


def _poses() -> Iterator[Suspect]:
    for undo, fault, mend in (
        (RigidTransform.inverse, "extrinsics-inverted", "invert"),
        (_transposed, "rotation-transposed", "transpose the rotation of"),
    ):
        yield Suspect(fault, f"{mend} the poses of the cameras on the car", _camera_on_car(undo))
        yield Suspect(fault, f"{mend} the matrices between cameras and LiDAR (lidar2img)", _camera_on_lidar(undo))
        yield Suspect(fault, f"{mend} the pose of the LiDAR on the car", _lidar_on_car(undo))


def _axes() -> Iterator[Suspect]:
    for name, columns in (
        ("of OpenGL (x right, y up, z back)", ((1, 0, 0), (0, -1, 0), (0, 0, -1))),
        ("of a vehicle (x forward, y left, z up)", ((0, 0, 1), (-1, 0, 0), (0, -1, 0))),
    ):
        turn = RigidTransform(torch.tensor(columns, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        mend = f"turn the cameras' axes {name} to x right, y down, z forward"
        yield Suspect("camera-axes", mend, lambda view, t=turn: replace(view, ego_from_cam=view.ego_from_cam @ t))


def _sweeps() -> Iterator[Suspect]:
    for degrees in (90, -90, 180):
        turn = RigidTransform.from_yaw(torch.pi * degrees / 180)
        mend = f"turn the points by {degrees:+d} degrees about the LiDAR's vertical axis"
        yield Suspect("lidar-frame", mend, _lidar_on_car(lambda pose, t=turn: pose @ t))
    mirror = RigidTransform(torch.diag(torch.tensor([1.0, -1.0, 1.0]).double()), torch.zeros(3).double())
    for degrees in (0, 90):
        turn = mirror @ RigidTransform.from_yaw(torch.pi * degrees / 180)
        mend = "mirror the points: their axes are left-handed"
        yield Suspect("lidar-frame", mend, _lidar_on_car(lambda pose, t=turn: pose @ t))


def _camera_on_car(change: Callable[[RigidTransform], RigidTransform]) -> Callable[[EdgeView], EdgeView]:
    return lambda view: replace(view, ego_from_cam=change(view.ego_from_cam))


def _camera_on_lidar(change: Callable[[RigidTransform], RigidTransform]) -> Callable[[EdgeView], EdgeView]:
    def undo(view: EdgeView) -> EdgeView:
        lidar_from_cam = view.ego_from_lidar.inverse() @ view.ego_from_cam
        return replace(view, ego_from_cam=view.ego_from_lidar @ change(lidar_from_cam))

    return undo


def _lidar_on_car(change: Callable[[RigidTransform], RigidTransform]) -> Callable[[EdgeView], EdgeView]:
    def undo(view: EdgeView) -> EdgeView:
        pose = change(view.ego_from_lidar)
        edges = (pose @ view.ego_from_lidar.inverse()).apply(view.edges)
        return replace(view, edges=edges, ego_from_lidar=pose)

    return undo


def _transposed(pose: RigidTransform) -> RigidTransform:
    return RigidTransform(pose.rotation.transpose(-1, -2), pose.translation)


def _resized(wide: float, high: float, step: float = SIZE_STEP) -> Suspect:
    scale = torch.tensor([wide, high, 1.0], dtype=torch.float64)[:, None]
    by = f"{wide:.3f}" if abs(wide / high - 1) < 0.008 else f"{wide:.3f} across and {high:.3f} down"
    mend = f"multiply the first two rows of the intrinsics by {by}: they are of images of another size"

    def finer() -> Iterator[Suspect]:
        small = step ** (1 / 3)
        for i, j in product(range(-3, 4), repeat=2):
            yield _resized(wide * small**i, high * small**j, small)

    return Suspect("image-size", mend, lambda view: replace(view, image_from_cam=view.image_from_cam * scale), finer)


def _cropped(share: float) -> Suspect:
    def undo(view: EdgeView) -> EdgeView:
        moved = view.image_from_cam.clone()
        moved[1, 2] -= share * view.image_hw[0]
        return replace(view, image_from_cam=moved)

    what = "cut off" if share > 0 else "added"
    mend = f"lower cy of the intrinsics by {share:.1%} of the image's height: rows were {what} at the top"
    return Suspect("cropped", mend, undo, lambda: (_cropped(share + i * 0.0025) for i in range(-4, 5)))


def _turned(axis_name: str, degrees: float, axis: int) -> Suspect:
    turn = RigidTransform(_rotation(axis, torch.pi * degrees / 180), torch.zeros(3, dtype=torch.float64))

    def undo(view: EdgeView) -> EdgeView:
        pose = view.ego_from_cam
        if axis == 0:  # about its own axis
            return replace(view, ego_from_cam=pose @ turn)
        return replace(view, ego_from_cam=RigidTransform(turn.rotation @ pose.rotation, pose.translation))

    mend = f"turn the cameras by {degrees:+.2g} degrees about the {axis_name}"
    return Suspect("turned", mend, undo, lambda: (_turned(axis_name, degrees + i * 0.05, axis) for i in range(-6, 7)))


def _rotation(axis: int, angle_rad: float) -> Float64[Tensor, "3 3"]:
    yaw = RigidTransform.from_yaw(angle_rad).rotation
    return yaw if axis == 2 else torch.roll(yaw, (axis + 1, axis + 1), (0, 1))
