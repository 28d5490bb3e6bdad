"""Keyframes ready for training: images of the model's size, teacher features attached, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple, replace

import torch
import torch.nn.functional as F

from lexivox.data.cache import FeatureCache, content_key
from lexivox.data.transforms import resize_images
from lexivox.data.types import PointFeatures, Sample, SampleDataset
from lexivox.supervision.targets import TeacherReading, balance_weights, teacher_point_features
from lexivox.teachers.base import ImageTeacher

OnProgress = Callable[[int, int], None]


class PreparedSamples:
    """A data set seen through a teacher.

    Args:
        dataset: keyframes as they were recorded.
        image_hw: what images are brought to, after the teacher has seen them in full.
        teacher: ``None`` where no supervision needs features.
        cache: where features are kept between runs.
        max_points: so many rows per keyframe keep a feature; the others are dropped before they are stored. 0 = all.
        keep: keyframes held in memory.
        reading: how the teacher's maps become features of points.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        image_hw: tuple[int, int],
        teacher: ImageTeacher | None,
        cache: FeatureCache,
        max_points: int = 30_000,
        keep: int = 256,
        reading: TeacherReading | None = None,
    ) -> None:
        self.dataset, self.image_hw, self.teacher, self.cache = dataset, image_hw, teacher, cache
        self.max_points, self.keep, self.reading = max_points, keep, reading or TeacherReading()
        self.is_prepared = False
        self._weights: dict[int, torch.Tensor] = {}
        self._kept: OrderedDict[int, Sample] = OrderedDict()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        recorded = self.dataset[index]
        sample = resize_images(replace(recorded, point_features=self._features(index, recorded)), self.image_hw)
        self._kept[index] = sample
        if len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return sample

    def prepare(self, balance_power: float, on_progress: OnProgress = lambda done, total: None) -> None:
        """Make what is missing in the cache, then weigh points against the imbalance of the whole split."""
        for index in range(len(self)):
            _ = self[index]
            on_progress(index + 1, len(self))
        if self.teacher is not None and balance_power > 0.0:
            self._balance(balance_power)
        self.is_prepared = True

    def _balance(self, power: float) -> None:
        features = [self[index].point_features for index in range(len(self))]
        known = [f for f in features if f is not None]
        weights = balance_weights([F.normalize(f.feature.float(), dim=-1) for f in known], power=power)
        self._weights = dict(enumerate(weights))
        self._kept = OrderedDict(
            (index, replace(sample, point_features=self._weighted(index, sample.point_features)))
            for index, sample in self._kept.items()
        )

    def _weighted(self, index: int, known: PointFeatures | None) -> PointFeatures | None:
        if known is None or index not in self._weights:
            return known
        return replace(known, weight=self._weights[index])

    def _features(self, index: int, sample: Sample) -> PointFeatures | None:
        if self.teacher is None:
            return None
        teacher = self.teacher
        key = content_key(
            "point features 1",
            *(() if self.reading == TeacherReading() else map(str, astuple(self.reading))),
            getattr(teacher, "fingerprint", teacher.space),
            self.max_points,
            sample.lidar.xyz,
            sample.ego_from_lidar.matrix(),
            *[part for v in sample.views for part in (v.image, v.image_from_cam, v.ego_from_cam.matrix())],
        )
        stored = self.cache.get_or_make(key, lambda: self._compute(sample, teacher))
        known = PointFeatures(stored["index"], stored["feature"], torch.ones(len(stored["index"])))
        return self._weighted(index, known)

    def _compute(self, sample: Sample, teacher: ImageTeacher) -> dict[str, torch.Tensor]:
        known = teacher_point_features(sample, teacher, self.reading)
        generator = torch.Generator().manual_seed(sample.timestamp_ns % 2**31)
        rows = torch.randperm(len(known.index), generator=generator)[: self.max_points or None].sort().values
        return {"index": known.index[rows], "feature": known.feature[rows]}
