"""The types that flow through the library: a ``Sample`` on disk's side, a ``Batch`` on the network's side."""

from lexivox.data.batch import (
    FREE,
    IGNORED,
    OCCUPIED,
    Batch,
    Cameras,
    LabelledPoints,
    LanguageTargets,
    Moment,
    Rays,
    Targets,
)
from lexivox.data.sample import (
    Boxes,
    CameraView,
    Clip,
    LidarSweep,
    Movable,
    PointFeatures,
    PointLabels,
    Sample,
    SampleDataset,
    VoxelLabels,
)

__all__ = [
    "FREE",
    "IGNORED",
    "OCCUPIED",
    "Batch",
    "Boxes",
    "CameraView",
    "Cameras",
    "Clip",
    "LabelledPoints",
    "LanguageTargets",
    "LidarSweep",
    "Moment",
    "Movable",
    "PointFeatures",
    "PointLabels",
    "Rays",
    "Sample",
    "SampleDataset",
    "Targets",
    "VoxelLabels",
]
