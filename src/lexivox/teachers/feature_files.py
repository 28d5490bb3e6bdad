"""Features that were computed elsewhere, in the files of the published extraction (spec pop3d 1.6, 5.4).

For every image ``IMAGE`` of camera ``CAM`` two arrays lie on disk: ``<projections>/CAM/IMAGE__points.npy``, rows of
the sweep, and ``<features>/CAM/IMAGE.pth.npy``, their features. ``IMAGE`` ends with the exposure in microseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lexivox.data.types import CameraView, PointFeatures, Sample
from lexivox.errors import ConfigError, DataError

_POINTS, _FEATURES = "__points.npy", ".pth.npy"


class FeatureFileTeacher:
    """A teacher known by its answers only: one row for every camera that sees a point.

    Args:
        features: folder of the features.
        projections: folder of the rows.
        space: embedding space that the features live in, that of the text encoder to ask with.
        dim: their channels.
        missing: a view without a feature file is an ``"error"``, or ``"skip"`` takes it as a view without points; the
            published loader kept its points and failed later (erratum 26).
    """

    def __init__(
        self,
        features: str | Path,
        projections: str | Path,
        space: str,
        dim: int = 512,
        missing: Literal["error", "skip"] = "error",
    ) -> None:
        self.features_dir, self.projections_dir = Path(features), Path(projections)
        self.space, self.dim, self.missing = space, dim, missing
        self._known: dict[str, dict[int, str]] = {}

    def features(self, images: UInt8[Tensor, "V 3 H W"]) -> Float[Tensor, "V D h w"]:
        """There is no network here.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"features of new images must come from a network; got {len(images)} images and a folder of files. "
            "Choose another kind of teacher."
        )

    def point_features(self, sample: Sample) -> PointFeatures:
        """Features of the points that cameras see, camera by camera, as they were computed.

        Raises:
            DataError: a file is missing, or does not fit its sweep, its partner or this teacher.
        """
        index, feature = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, self.dim)]
        for view in sample.views:
            stem = self._stem(sample, view)
            if stem is not None:
                index.append(self._rows(sample, view, stem))
                feature.append(self._values(sample, view, stem, len(index[-1])))
        rows = torch.cat(index)
        return PointFeatures(rows, torch.cat(feature), torch.ones(len(rows)))

    def _stem(self, sample: Sample, view: CameraView) -> str | None:
        if view.name not in self._known:
            self._known[view.name] = _stems(self.projections_dir / view.name)
        stem = self._known[view.name].get(view.timestamp_ns // 1000)
        if stem is not None and (self.features_dir / view.name / f"{stem}{_FEATURES}").is_file():
            return stem
        if self.missing == "skip":
            return None
        what, folder = ("points", self.projections_dir) if stem is None else ("features", self.features_dir)
        raise DataError(
            f"every view must have a file of {what}; got none for sample {sample.token}, camera {view.name}. "
            f"Extract it, or let missing views be skipped: {folder / view.name}"
        )

    def _rows(self, sample: Sample, view: CameraView, stem: str) -> Int64[Tensor, "N"]:
        path = self.projections_dir / view.name / f"{stem}{_POINTS}"
        rows = _read(path, sample, view)
        if rows.ndim != 1 or not bool(((rows >= 0) & (rows < sample.lidar.num_points)).all()):
            raise DataError(
                f"rows of points must lie within the sweep of {sample.lidar.num_points}; got others in sample "
                f"{sample.token}, camera {view.name}. Project this sweep again: {path}"
            )
        return rows.long()

    def _values(self, sample: Sample, view: CameraView, stem: str, count: int) -> Float[Tensor, "N D"]:
        path = self.features_dir / view.name / f"{stem}{_FEATURES}"
        values = _read(path, sample, view).float()
        if values.shape != (count, self.dim) or not bool(values.isfinite().all()):
            wrong = "numbers that are not finite" if values.shape == (count, self.dim) else str(tuple(values.shape))
            raise DataError(
                f"features must be finite, {count} rows of {self.dim}; got {wrong} in sample {sample.token}, "
                f"camera {view.name}. Extract them again: {path}"
            )
        return values


def _stems(folder: Path) -> dict[int, str]:
    """Exposure in microseconds to the name of the image, for every image of a camera."""
    stems = [path.name.removesuffix(_POINTS) for path in folder.glob(f"*{_POINTS}")]
    return {int(stem.rsplit("__", 1)[-1]): stem for stem in stems if stem.rsplit("__", 1)[-1].isdigit()}


def _read(path: Path, sample: Sample, view: CameraView) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"file of features must be a plain npy; got {reason} for sample {sample.token}, camera {view.name}. "
            f"Extract it again: {path}"
        ) from error
