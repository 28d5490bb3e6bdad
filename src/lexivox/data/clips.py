"""Which keyframes stand around one: clips cut from anything that gives samples in order of drive and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

from lexivox.data.sample import Clip, Sample, SampleDataset


@runtime_checkable
class Drives(Protocol):
    """Samples by number, and the drive that each belongs to."""

    @property
    def drives(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True)
class Horizon:
    """Which neighbours a clip holds.

    Attributes:
        offsets: in keyframes *of the given samples*, ascending, never 0. Where these are every second keyframe of a
            recording, so are the neighbours: none is ever taken from keyframes that were left out, or held out.
        with_images: those of them whose pixels somebody asks for.
    """

    offsets: tuple[int, ...] = ()
    with_images: tuple[int, ...] = ()

    @classmethod
    def of(cls, offsets: Sequence[int], with_images: Sequence[int] = ()) -> Horizon:
        """Everything asked for, once each."""
        return cls(tuple(sorted({*offsets, *with_images} - {0})), tuple(sorted({*with_images} - {0})))


def neighbours(drives: Sequence[str], index: int, offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of an offset and a number, for the neighbours that exist in the same drive; borders repeat nothing."""
    places = [(offset, index + offset) for offset in offsets]
    return [(o, i) for o, i in places if 0 <= i < len(drives) and drives[i] == drives[index]]


def clip_at(samples: Drives, index: int, horizon: Horizon) -> Clip:
    """The clip around keyframe ``index``."""
    found = neighbours(samples.drives, index, horizon.offsets)
    others = (_seen(samples, i, o in horizon.with_images) for o, i in found)
    return Clip(samples[index], tuple(offset for offset, _ in found), tuple(others))


def blind_clip_at(samples: Drives, index: int, offsets: Sequence[int], read: Callable[[int], Sample]) -> Clip:
    """The clip around keyframe ``index``, nothing of which has pixels; ``read`` is :func:`blind_reader`'s."""
    found = neighbours(samples.drives, index, offsets)
    return Clip(read(index), tuple(offset for offset, _ in found), tuple(read(place) for _, place in found))


def blind_reader(samples: Drives, keep: int) -> Callable[[int], Sample]:
    """Reads keyframes without their pixels and keeps the last ones: neighbouring clips share most of theirs."""
    return lru_cache(maxsize=keep)(lambda index: _seen(samples, index, with_images=False))


@dataclass(frozen=True, slots=True)
class WithPast:
    """Brings along the neighbours whose images a model looks at: ``model.predict(with_past(sample))``.

    Attributes:
        dataset: where the keyframes come from; one that it does not hold stays alone.
        offsets: the model's ``image_offsets``.
    """

    dataset: SampleDataset
    offsets: tuple[int, ...]

    def __call__(self, sample: Sample) -> Clip:
        if not self.offsets or sample.token not in self.dataset.tokens:
            return Clip(sample)
        found = neighbours(self.dataset.drives, self.dataset.tokens.index(sample.token), self.offsets)
        return Clip(sample, tuple(offset for offset, _ in found), tuple(self.dataset[index] for _, index in found))


def _seen(samples: Drives, index: int, with_images: bool) -> Sample:
    if with_images:
        return samples[index]
    read = getattr(samples, "without_images", None)  # readers that need not decode them
    return read(index) if read else without_pixels(samples[index])


def without_pixels(sample: Sample) -> Sample:
    """The views keep their size and calibration, not their images."""
    return replace(sample, views=tuple(replace(view, image=view.image[:0]) for view in sample.views))
