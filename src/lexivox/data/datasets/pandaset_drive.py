"""One drive of PandaSet on disk: where its files are, its poses, intrinsics and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from lexivox.errors import DataError
from lexivox.geometry.transform import RigidTransform

CAMERAS = (
    "front_camera", "front_right_camera", "front_left_camera", "back_camera", "left_camera", "right_camera",
)  # fmt: skip


class PandasetDrive:
    """A folder such as ``pandaset/002``; its small JSON files are read once, when first needed.

    Raises:
        DataError: a file is missing or damaged, or does not cover a frame.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self._documents: dict[str, Any] = {}

    def choose_keyframes(self, wanted: Sequence[int] | None) -> list[int]:
        """Frame numbers on disk, or the wanted ones, which must all be there."""
        found = sorted(int(path.name[:2]) for path in (self.folder / "lidar").glob("[0-9][0-9].pkl.gz"))
        if not found:
            raise DataError(f"drive {self.name} must hold keyframes lidar/NN.pkl.gz; got none in {self.folder}")
        missing = [frame for frame in wanted or () if frame not in found]
        if missing:
            raise DataError(
                f"keyframes of drive {self.name} must be on disk; got {missing[:8]}, found {found}. "
                f"Complete {self.folder}"
            )
        return found if wanted is None else list(wanted)

    def lidar_path(self, frame: int) -> Path:
        return self.folder / "lidar" / f"{frame:02d}.pkl.gz"

    def image_path(self, camera: str, frame: int) -> Path:
        return self.folder / "camera" / camera / f"{frame:02d}.jpg"

    def semseg_path(self, frame: int) -> Path:
        return self.folder / "annotations" / "semseg" / f"{frame:02d}.pkl.gz"

    def cuboid_path(self, frame: int) -> Path:
        return self.folder / "annotations" / "cuboids" / f"{frame:02d}.pkl.gz"

    def lidar_pose(self, frame: int) -> RigidTransform:
        """global_from_pose: PandaSet's LiDAR pose frame in the world."""
        return self._entry("lidar/poses.json", frame, _pose)

    def camera_pose(self, camera: str, frame: int) -> RigidTransform:
        """global_from_cam at the camera's own exposure."""
        return self._entry(f"camera/{camera}/poses.json", frame, _pose)

    def lidar_time_ns(self, frame: int) -> int:
        return self._entry("lidar/timestamps.json", frame, _time_ns)

    def camera_time_ns(self, camera: str, frame: int) -> int:
        return self._entry(f"camera/{camera}/timestamps.json", frame, _time_ns)

    def image_from_cam(self, camera: str) -> Float64[Tensor, "3 3"]:
        name = f"camera/{camera}/intrinsics.json"
        return self._parse(name, self._document(name), _intrinsics)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Something about the whole drive that is worked out once."""
        if name not in self._documents:
            self._documents[name] = make()
        return self._documents[name]

    def _entry(self, name: str, frame: int, parse: Callable[[Any], Any]) -> Any:
        document = self._document(name)
        if not isinstance(document, list) or frame >= len(document):
            raise DataError(f"{name} of drive {self.name} must cover frame {frame}; got less: {self.folder}")
        return self._parse(name, document[frame], parse)

    def _parse(self, name: str, entry: Any, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{name} of drive {self.name} must follow PandaSet's layout; got: {error!r}: {self.folder}"
            ) from error

    def _document(self, name: str) -> Any:
        if name not in self._documents:
            path = self.folder / name
            try:
                self._documents[name] = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise DataError(f"{name} of drive {self.name} must exist; got none: {path}") from None
            except ValueError as error:
                raise DataError(f"{name} of drive {self.name} must be JSON; got: {error}: {path}") from error
        return self._documents[name]


def _pose(entry: Any) -> RigidTransform:
    heading, position = entry["heading"], entry["position"]
    return RigidTransform.from_quaternion(
        [float(heading[axis]) for axis in "wxyz"], [float(position[axis]) for axis in "xyz"]
    )


def _time_ns(entry: Any) -> int:
    return round(float(entry) * 1e6) * 1000  # a float of seconds since 1970 holds no more than microseconds


def _intrinsics(entry: Any) -> Float64[Tensor, "3 3"]:
    fx, fy, cx, cy = (float(entry[name]) for name in ("fx", "fy", "cx", "cy"))
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)
