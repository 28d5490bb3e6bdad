"""Keyframes ready for training: images of the model's size, teacher features attached, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from lexivox.data.clips import without_pixels
from lexivox.data.image_fit import ImageFit
from lexivox.data.types import PointFeatures, Sample, SampleDataset
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.targets import balance_weights

OnProgress = Callable[[int, int], None]

KEPT_BYTES = 1 << 30
"""Of images that are kept in memory: every keyframe of a small city, some forty of nuScenes at full size."""

USUAL_VIEWS = 6


class PreparedSamples:
    """A data set seen through a teacher.

    Args:
        dataset: keyframes as they were recorded.
        fit: how images are brought to the network's size, after the teacher has seen them in full.
        features: what a teacher says about its points; ``None`` where no supervision needs it.
        keep: keyframes held in memory; None = as many as fit into ``KEPT_BYTES``, at most 256.
    """

    def __init__(
        self, dataset: SampleDataset, fit: ImageFit, features: FeatureStore | None, keep: int | None = None
    ) -> None:
        self.dataset, self.fit, self.features = dataset, fit, features
        fitting = KEPT_BYTES // (3 * USUAL_VIEWS * fit.image_hw[0] * fit.image_hw[1])
        self.keep = min(max(fitting, 1), 256) if keep is None else keep
        self.is_prepared = False
        self._weights: dict[int, torch.Tensor] = {}
        self._kept: OrderedDict[int, Sample] = OrderedDict()

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def drives(self) -> Sequence[str]:
        """The drive of each keyframe."""
        return self.dataset.drives

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        sample = self._prepared(index, self.dataset[index])
        self._kept[index] = sample
        if len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return sample

    def without_images(self, index: int) -> Sample:
        """The keyframe as a neighbour, without pixels; where nobody needs them the reader does not decode them."""
        read = getattr(self.dataset, "without_images", None)
        if index in self._kept or read is None or self.features is not None:  # features are found by their images
            return without_pixels(self[index])
        return self._prepared(index, read(index))

    def _prepared(self, index: int, recorded: Sample) -> Sample:
        return self.fit.scaled(replace(recorded, point_features=self._features(index, recorded)))

    def prepare(self, balance_power: float, on_progress: OnProgress = lambda done, total: None) -> None:
        """Make what is missing in the cache, then weigh points against the imbalance of the whole split."""
        for index in range(len(self)):
            _ = self[index]
            on_progress(index + 1, len(self))
        if self.features is not None and balance_power > 0.0:
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
        if self.features is None:
            return None
        return self._weighted(index, self.features.features(sample))
