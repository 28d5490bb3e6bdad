"""A keyframe as the annotator works with it: its sample, and where every camera sees every point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lexivox.annotate.masks import PixelBox, Segmenter
from lexivox.annotate.points import Clean, Proposal, matching_points, propose_points
from lexivox.data.retrieval import RetrievalAnnotation
from lexivox.data.types import CameraView, Sample, SampleDataset
from lexivox.errors import ConfigError, DataError
from lexivox.supervision.targets import project_lidar

UNSEEN_GREY = 128
GROUND_REACH_M, GROUND_SHARE = 15.0, 0.1


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A sample with the pixels ``uv`` of its points in each view, and True in ``visible`` where the view sees them."""

    sample: Sample
    uv: Float[Tensor, "V P 2"]
    visible: Bool[Tensor, "V P"]

    @classmethod
    def of(cls, sample: Sample) -> Keyframe:
        """Project the sweep of a sample into its cameras."""
        return cls(sample, *project_lidar(sample))

    @property
    def xyz_ego(self) -> Float[Tensor, "P 3"]:
        """The sweep in the ego frame, metres."""
        return self.sample.ego_from_lidar.apply(self.sample.lidar.xyz).float()

    @property
    def ground_m(self) -> float:
        """About how high the road lies around the car, ego frame: low points are mostly road."""
        xyz = self.xyz_ego
        near = xyz[:, 2][xyz[:, :2].norm(dim=1) < GROUND_REACH_M]
        return float(near.quantile(GROUND_SHARE)) if len(near) else 0.0

    def view(self, camera: str) -> tuple[int, CameraView]:
        """A camera's row and view.

        Raises:
            ConfigError: there is no such camera.
        """
        for row, view in enumerate(self.sample.views):
            if view.name == camera:
                return row, view
        names = ", ".join(view.name for view in self.sample.views)
        raise ConfigError(f"camera of keyframe {self.sample.token} must be one of {names}; got '{camera}'.")

    def colors(self) -> UInt8[Tensor, "P 3"]:
        """Of every point the colour of its pixel in the first camera that sees it; grey where none does."""
        color = torch.full((self.sample.lidar.num_points, 3), UNSEEN_GREY, dtype=torch.uint8)
        for view, uv, seen in reversed(list(zip(self.sample.views, self.uv, self.visible, strict=True))):
            column, row = uv[seen].floor().long().unbind(-1)
            height, width = view.image_hw
            color[seen] = view.image[:, row.clamp_max(height - 1), column.clamp_max(width - 1)].T
        return color

    def propose(self, camera: str, mask: Bool[Tensor, "H W"], clean: Clean | None = None) -> Proposal:
        """The points in a mask on one of the images.

        Raises:
            ConfigError: no such camera, or too many points to clean up.
        """
        row, _ = self.view(camera)
        return propose_points(self.sample.lidar.xyz, self.uv[row], self.visible[row], mask, clean)

    def annotation(self, query: str, split: str, points: Tensor | np.ndarray) -> RetrievalAnnotation:
        """``query`` means these rows of the sweep.

        Raises:
            DataError: no point, a point that the sweep has not, or a query or split that cannot be written.
        """
        mask, rows = torch.zeros(self.sample.lidar.num_points, dtype=torch.bool), torch.as_tensor(points).long()
        if not len(rows):
            raise DataError(f"annotation of keyframe {self.sample.token} must hold points; got none. Add some.")
        if int(rows.min()) < 0 or int(rows.max()) >= len(mask):
            raise DataError(
                f"points of an annotation of keyframe {self.sample.token} must lie in 0..{len(mask) - 1}; "
                f"got {int(rows.min())}..{int(rows.max())}."
            )
        mask[rows] = True
        query = " ".join(query.split())
        return RetrievalAnnotation(self.sample.token, split, query, mask, matching_points(self.visible))


def find_keyframe(dataset: SampleDataset, token: str) -> Keyframe:
    """The keyframe of a token.

    Raises:
        DataError: the data set has none, or it cannot be read.
    """
    if token not in dataset.tokens:
        raise DataError(
            f"keyframe must be one of the {len(dataset)} of {dataset.name}, e.g. {', '.join(dataset.tokens[:2])}; "
            f"got '{token}'."
        )
    return Keyframe.of(dataset[list(dataset.tokens).index(token)])


def segment(keyframe: Keyframe, camera: str, box: PixelBox, segmenter: Segmenter) -> Bool[Tensor, "H W"]:
    """The mask of the object in a box on one of the images.

    Raises:
        ConfigError: no such camera, or the box lies outside its image.
    """
    return segmenter.mask(keyframe.view(camera)[1].image, box)
