"""What may have happened to a calibration or to images, each undone on an :class:`EdgeView`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.data.doctor.edges import EdgeView, edges_of
from lexivox.data.types import Sample
from lexivox.geometry.transform import RigidTransform

SIZE_STEP = 1.015
"""Ratio of neighbouring sizes that are tried; agreement halves within one percent, the finer steps come later."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Faults of one name that may have happened, undone together: one, or all steps of a search.

    Attributes:
        fault: a name of ``FAULTS``.
        mends: what to do, in words that follow "if", for each.
        undo: the view without the fault; with a leading dimension of all steps where there are several.
        finer: steps beside one of them, smaller.
        credit: what their agreement counts for. An image on its head keeps its verticals, and much agrees by accident.
    """

    fault: str
    mends: tuple[str, ...]
    undo: Callable[[EdgeView], EdgeView]
    finer: Callable[[int], Suspects | None] = lambda _: None
    credit: float = 1.0

    def one(self, k: int) -> Suspects:
        """A single one of them."""
        return replace(
            self, mends=(self.mends[k],), undo=lambda view: self.undo(view).at(k), finer=lambda _: self.finer(k)
        )

    @property
    def mend(self) -> str:
        return self.mends[0]

    @property
    def is_searched(self) -> bool:
        """True for one of hundreds of steps of a search, which finds a little in noise too."""
        return self.fault in ("image-size", "cropped")


def gross() -> tuple[Suspects, ...]:
    """Faults after which nothing fits: poses, axes, frames and images turned around."""
    return (*_images(), *_poses(), *_axes(), *_sweeps())


def sizes(view: EdgeView) -> Iterator[Suspects]:
    """Intrinsics of images of another size, from a quarter to four times, and cut images.

    Where the principal point lies tells about how much; what it does not know is searched.
    """
    yield _resized([(SIZE_STEP**step, SIZE_STEP**step) for step in range(-92, 93) if step])
    height, width = view.image_hw
    wide = width / max(2 * float(view.image_from_cam[0, 2]), 1.0)
    high = height / max(2 * float(view.image_from_cam[1, 2]), 1.0)
    yield _resized([(wide * SIZE_STEP**i, high * SIZE_STEP**j) for i, j in product(range(-5, 6), repeat=2)])
    yield _cropped([percent / 100 for percent in (*range(-40, -3), *range(4, 41))])


def slight_sizes() -> Suspects:
    """Intrinsics that are off by a few percent."""
    return _resized([(1.006**step, 1.006**step) for step in range(-10, 11) if step])


def turns(degrees: Sequence[float]) -> Iterator[Suspects]:
    """The cameras turned a little about the car's vertical axis, or up and down."""
    yield _turned("up axis of the car", degrees, 2)
    yield _turned("left axis of the camera", degrees, 0)


def already_moved(samples: Sequence[Sample]) -> Iterator[Suspects]:
    """Points that were in the ego frame before their reader moved them there."""
    unmoved = {}
    for sample in samples:
        xyz = sample.ego_from_lidar.inverse().apply(sample.lidar.xyz.double()).float()
        unmoved[sample.token] = edges_of(xyz.double(), sample.ego_from_lidar)

    def undo(view: EdgeView) -> EdgeView:
        edges, sector = unmoved[view.token]
        return replace(view, edges=edges, sector=sector)

    yield Suspects("lidar-frame", ("take the points for ones in the ego frame already",), undo)


def swapped(view: EdgeView, other: EdgeView) -> EdgeView:
    """The view with the image of another camera of its keyframe."""
    return replace(view, prominence=other.prominence)


# -------------------------------------------------------------------------------------------- one of a kind


def _images() -> Iterator[Suspects]:
    mirror = "flip the images left to right (or mirror the intrinsics if the flip was meant)"
    yield Suspects("mirrored", (mirror,), lambda view: replace(view, prominence=view.prominence.flip(1)))
    flip = "flip the images top to bottom"
    yield Suspects("upside-down", (flip,), lambda view: replace(view, prominence=view.prominence.flip(0)), credit=0.6)
    turn = "turn the images by half a turn"
    turned = Suspects("upside-down", (turn,), lambda view: replace(view, prominence=view.prominence.flip(0, 1)))
    yield replace(turned, credit=0.6)


def _poses() -> Iterator[Suspects]:
    for undo, fault, mend in (
        (RigidTransform.inverse, "extrinsics-inverted", "invert"),
        (_transposed, "rotation-transposed", "transpose the rotation of"),
    ):
        yield Suspects(fault, (f"{mend} the poses of the cameras on the car",), _camera_on_car(undo))
        yield Suspects(fault, (f"{mend} the matrices between cameras and LiDAR (lidar2img)",), _camera_on_lidar(undo))
        yield Suspects(fault, (f"{mend} the pose of the LiDAR on the car",), _lidar_on_car(undo))


def _axes() -> Iterator[Suspects]:
    for name, columns in (
        ("of OpenGL (x right, y up, z back)", ((1, 0, 0), (0, -1, 0), (0, 0, -1))),
        ("of a vehicle (x forward, y left, z up)", ((0, 0, 1), (-1, 0, 0), (0, -1, 0))),
    ):
        turn = RigidTransform(torch.tensor(columns, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        mend = f"turn the cameras' axes {name} to x right, y down, z forward"
        yield Suspects("camera-axes", (mend,), _camera_on_car(lambda pose, t=turn: pose @ t))


def _sweeps() -> Iterator[Suspects]:
    for degrees in (90, -90, 180):
        turn = RigidTransform.from_yaw(torch.pi * degrees / 180)
        mend = f"turn the points by {degrees:+d} degrees about the LiDAR's vertical axis"
        yield Suspects("lidar-frame", (mend,), _lidar_on_car(lambda pose, t=turn: pose @ t))
    mirror = RigidTransform(torch.diag(torch.tensor([1.0, -1.0, 1.0]).double()), torch.zeros(3).double())
    for degrees in (0, 90):
        turn = mirror @ RigidTransform.from_yaw(torch.pi * degrees / 180)
        mend = "mirror the points: their axes are left-handed"
        yield Suspects("lidar-frame", (mend,), _lidar_on_car(lambda pose, t=turn: pose @ t))


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


# ------------------------------------------------------------------------------------------ steps of a search


def _resized(ratios: Sequence[tuple[float, float]], step: float = SIZE_STEP) -> Suspects:
    """Ratios across and down."""
    scale = torch.tensor([(wide, high, 1.0) for wide, high in ratios], dtype=torch.float64)[:, :, None]

    def finer(k: int) -> Suspects:
        (wide, high), small = ratios[k], step ** (1 / 3)
        return _resized([(wide * small**i, high * small**j) for i, j in product(range(-3, 4), repeat=2)], small)

    def undo(view: EdgeView) -> EdgeView:
        return replace(view, image_from_cam=view.image_from_cam * scale)

    return Suspects("image-size", tuple(_resized_mend(*ratio) for ratio in ratios), undo, finer)


def _resized_mend(wide: float, high: float) -> str:
    by = f"{wide:.3f}" if abs(wide / high - 1) < 0.008 else f"{wide:.3f} across and {high:.3f} down"
    return f"multiply the first two rows of the intrinsics by {by}: they are of images of another size"


def _cropped(shares: Sequence[float]) -> Suspects:
    """Shares of the image's height."""

    def undo(view: EdgeView) -> EdgeView:
        moved = view.image_from_cam.repeat(len(shares), 1, 1)
        moved[:, 1, 2] -= torch.tensor(shares, dtype=torch.float64) * view.image_hw[0]
        return replace(view, image_from_cam=moved)

    mends = [
        f"lower cy of the intrinsics by {share:.1%} of the image's height: rows were "
        f"{'cut off' if share > 0 else 'added'} at the top"
        for share in shares
    ]
    finer = lambda k: _cropped([shares[k] + i * 0.0025 for i in range(-4, 5)])  # noqa: E731
    return Suspects("cropped", tuple(mends), undo, finer)


def _turned(axis_name: str, degrees: Sequence[float], axis: int) -> Suspects:
    turn = _rotations(axis, degrees)

    def undo(view: EdgeView) -> EdgeView:
        pose = view.ego_from_cam
        rotation = pose.rotation @ turn if axis == 0 else turn @ pose.rotation  # about its own axis, or the car's
        return replace(view, ego_from_cam=RigidTransform(rotation, pose.translation.expand(len(turn), 3)))

    mends = tuple(f"turn the cameras by {d:+.2g} degrees about the {axis_name}" for d in degrees)
    finer = lambda k: _turned(axis_name, [degrees[k] + i * 0.05 for i in range(-6, 7)], axis)  # noqa: E731
    return Suspects("turned", mends, undo, finer)


def _rotations(axis: int, degrees: Sequence[float]) -> Float64[Tensor, "K 3 3"]:
    yaw = torch.stack([RigidTransform.from_yaw(torch.pi * d / 180).rotation for d in degrees])
    return yaw if axis == 2 else torch.roll(yaw, (axis + 1, axis + 1), (1, 2))
