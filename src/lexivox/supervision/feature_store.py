"""Features of a data set's points: asked of the teacher once, kept in the cache, read from there."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import cached_property

import torch

from lexivox.data.cache import FeatureCache, Key, content_key
from lexivox.data.types import PointFeatures, Sample, SampleDataset
from lexivox.ops.low_rank import LowRank
from lexivox.supervision.storage import BASIS_KEYFRAMES, PointChoice, Storage, learn_basis, restore, store
from lexivox.supervision.targets import TeacherReading, teacher_point_features
from lexivox.teachers.base import ImageTeacher, PointTeacher


class FeatureStore:
    """What one teacher says about the points of one data set.

    Args:
        dataset: where a basis is learnt.
        teacher: the teacher.
        cache: where features are kept between runs; every file names the teacher and its space.
        reading: how the teacher's maps become features of points.
        max_points: so many rows per keyframe at most; 0 = all.
        storage: in which form.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        teacher: ImageTeacher,
        cache: FeatureCache,
        *,
        reading: TeacherReading | None = None,
        max_points: int = 30_000,
        storage: Storage | None = None,
    ) -> None:
        self.dataset, self.teacher, self.cache = dataset, teacher, cache
        self.storage = storage or Storage()
        self.choice = PointChoice(reading or TeacherReading(), max_points)

    def features(self, sample: Sample) -> PointFeatures:
        """Features of the points that cameras see, as the form gives them back.

        Raises:
            DataError: a feature is missing, not finite, or too large for half precision.
        """
        if isinstance(self.teacher, PointTeacher):  # its features lie on disk already
            return self.choice.of(sample, self.teacher.point_features(sample))
        basis = self.basis if self.storage.has_basis else None
        stored = self.cache.get_or_make(
            self.key(sample),
            lambda: store(sample, self.teacher, self.storage, self.choice, basis),
            self.about,
        )
        return restore(sample, stored, self.storage, self.choice, basis)

    @property
    def about(self) -> dict[str, str]:
        """What every file says of itself."""
        return {"space": self.teacher.space, "teacher": self._teacher_name, "storage": self.storage.kind}

    @property
    def _teacher_name(self) -> str:
        return str(getattr(self.teacher, "fingerprint", self.teacher.space))

    def key(self, sample: Sample) -> Key:
        """Everything that the stored features of a keyframe depend on."""
        form = [] if self.storage == Storage() else [*map(str, astuple(self.storage))]
        reading = [] if self.choice.reading == TeacherReading() else [*map(str, astuple(self.choice.reading))]
        return content_key(
            "point features 2",
            *(["maps"] if self.storage.has_maps else [*reading, self.choice.max_points]),
            *form,
            *([self._basis_key] if self.storage.has_basis else []),
            *self._seen(sample),
        )

    def _seen(self, sample: Sample) -> list[str | torch.Tensor]:
        return [
            self._teacher_name,
            sample.lidar.xyz,
            sample.ego_from_lidar.matrix(),
            *[part for v in sample.views for part in (v.image, v.image_from_cam, v.ego_from_cam.matrix())],
        ]

    # -------------------------------------------------------------------------------------------- basis

    @cached_property
    def _basis_samples(self) -> list[Sample]:
        count = min(BASIS_KEYFRAMES, len(self.dataset))
        return [self.dataset[index * len(self.dataset) // count] for index in range(count)]

    @cached_property
    def _basis_key(self) -> Key:
        parts = [content_key(*self._seen(sample)) for sample in self._basis_samples]
        return content_key("basis 1", self.storage.rank, *map(str, astuple(self._basis_reading)), *parts)

    @property
    def _basis_reading(self) -> TeacherReading:
        """Maps are stored as the teacher gives them, whatever is made of them later."""
        return replace(self.choice.reading, unit=self.choice.reading.unit and not self.storage.has_maps)

    @cached_property
    def basis(self) -> LowRank:
        """The run's basis, learnt from evenly spaced keyframes; in the cache like the rest."""
        stored = self.cache.get_or_make(self._basis_key, self._learn_basis, self.about)
        return LowRank(stored["mean"].float(), stored["basis"].float())

    def _learn_basis(self) -> dict[str, torch.Tensor]:
        reading, teacher = self._basis_reading, self.teacher
        known = learn_basis(
            self._basis_samples,
            lambda sample: teacher_point_features(sample, teacher, reading).feature,
            self.storage.rank,
        )
        return {"mean": known.mean, "basis": known.basis}
