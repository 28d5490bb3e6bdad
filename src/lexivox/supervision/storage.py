"""In which form a teacher's features lie on disk (spec pop3d 5.4: the published cache takes 1.8 TB).

A form turns maps of the views into arrays and back into features of points. What is lost on the way is measured
in ``docs/teachers.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.data.cache import Arrays
from lexivox.data.types import PointFeatures, Sample
from lexivox.ops.low_rank import LowRank, fit_low_rank
from lexivox.supervision.targets import TeacherReading, point_features, teacher_maps, teacher_point_features
from lexivox.teachers.base import ImageTeacher

StorageKind = Literal["points-float16", "points-pca", "maps", "maps-pca"]
BASIS_KEYFRAMES, BASIS_ROWS = 8, 4096
"""A basis is learnt from so many keyframes, and at most so many rows of each."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A form and its sizes.

    Attributes:
        kind: features at points, or the teacher's maps, which are read at points when they are needed; in float16,
            or as coefficients of a basis (PCA) that is learnt once for a run, one byte each.
        rank: directions of the basis.
        pool: maps only: so many cells by so many are averaged before they are stored.
    """

    kind: StorageKind = "points-float16"
    rank: int = 64
    pool: int = 1

    @property
    def has_maps(self) -> bool:
        return self.kind.startswith("maps")

    @property
    def has_basis(self) -> bool:
        return self.kind.endswith("pca")


@dataclass(frozen=True, slots=True)
class PointChoice:
    """Which rows of a keyframe are kept, the same ones always.

    Attributes:
        reading: how maps become features of points.
        max_points: so many at most; 0 = all.
    """

    reading: TeacherReading
    max_points: int

    def of(self, sample: Sample, known: PointFeatures) -> PointFeatures:
        generator = torch.Generator().manual_seed(sample.timestamp_ns % 2**31)
        rows = torch.randperm(len(known.index), generator=generator)[: self.max_points or None].sort().values
        return PointFeatures(known.index[rows], known.feature[rows], known.weight[rows])


def store(
    sample: Sample, teacher: ImageTeacher, storage: Storage, choice: PointChoice, basis: LowRank | None
) -> Arrays:
    """What to write for a keyframe.

    Raises:
        DataError: a feature is not finite.
    """
    if storage.has_maps:
        arrays: Arrays = {}
        for number, maps in enumerate(teacher_maps(sample, teacher)):
            height, width = (-(-side // storage.pool) for side in maps.shape[-2:])
            pooled = F.adaptive_avg_pool2d(maps, (height, width))  # spans the image, whatever the division leaves
            arrays |= {f"{number}.{key}": value for key, value in _pack_map(pooled, basis).items()}
        return arrays
    known = choice.of(sample, teacher_point_features(sample, teacher, choice.reading))
    return {"index": known.index.int(), **_pack(known.feature, basis)}


def restore(
    sample: Sample, stored: Arrays, storage: Storage, choice: PointChoice, basis: LowRank | None
) -> PointFeatures:
    """Features of points from what :func:`store` wrote."""
    if storage.has_maps:
        maps = [_unpack_map(stored, str(number), basis) for number in range(len(sample.views))]
        dim = maps[0].shape[1] if maps else 0
        return choice.of(sample, point_features(sample, maps, choice.reading, dim))
    feature = _unpack(stored, basis)
    if basis is not None and choice.reading.unit:
        feature = F.normalize(feature, dim=-1)
    return PointFeatures(stored["index"].long(), feature, torch.ones(len(feature)))


def learn_basis(samples: Iterable[Sample], features_of: Callable[[Sample], Float[Tensor, "N D"]], rank: int) -> LowRank:
    """A basis for the features of some keyframes at their points."""
    rows = []
    for sample in samples:
        feature = features_of(sample)
        rows.append(feature[:: max(1, -(-len(feature) // BASIS_ROWS))])
    return fit_low_rank(torch.cat(rows), rank)


def _pack(rows: Float[Tensor, "N D"], basis: LowRank | None) -> Arrays:
    if basis is None:
        return {"feature": rows}
    code, scale = basis.encode(rows)
    return {"code": code, "scale": scale}


def _unpack(stored: Arrays, basis: LowRank | None) -> Float[Tensor, "N D"]:
    return stored["feature"] if basis is None else basis.decode(stored["code"], stored["scale"])


def _pack_map(maps: Float[Tensor, "1 D h w"], basis: LowRank | None) -> Arrays:
    rows = maps[0].flatten(1).T
    return {**_pack(rows, basis), "hw": torch.tensor(maps.shape[-2:], dtype=torch.int32)}


def _unpack_map(stored: Arrays, name: str, basis: LowRank | None) -> Float[Tensor, "1 D h w"]:
    own = {key.split(".", 1)[1]: value for key, value in stored.items() if key.startswith(f"{name}.")}
    height, width = own["hw"].tolist()
    return _unpack(own, basis).float().T.unflatten(1, (height, width))[None]
