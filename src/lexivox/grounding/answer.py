"""What a map answers to a phrase: ranked voxels, whether it is here at all, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.regions import Region, connect

Measure = Literal["cosine", "margin"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is there, as measured on held-out keyframes.

    Attributes:
        here: the phrase scores higher than absent things do at the false-alarm rate.
        p_value: share of absent things that score at least as high.
        false_alarm_rate: what was accepted.
        threshold: score that a voxel must beat to count.
        num_hits: voxels of the whole map that do.
    """

    here: bool
    p_value: float
    false_alarm_rate: float
    threshold: float
    num_hits: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How well occupied voxels fit a phrase, best first.

    Attributes:
        text: the phrase.
        measure: what the score is: ``"cosine"`` between voxel feature and phrase, or ``"margin"``: by how much
            the phrase fits better than what it competes with (its negatives, and the rivals of a calibrated run).
        score: of the voxels.
        index: voxel indices.
        grid: where they lie.
        verdict: whether it is here; ``None`` where the run was never calibrated: then nobody knows.
        num_unusable: voxels without a usable feature (zero or not finite): score -inf, last in the ranking.
    """

    text: str
    measure: Measure
    score: Float[Tensor, "N"]
    index: Int64[Tensor, "N 3"]
    grid: VoxelGrid
    verdict: Verdict | None = None
    num_unusable: int = 0

    def __len__(self) -> int:
        return int(self.score.shape[0])

    @property
    def xyz(self) -> Float[Tensor, "N 3"]:
        """Voxel centres, metres in the grid's frame."""
        return self.grid.xyz_from_index(self.index)

    @property
    def here(self) -> bool | None:
        """Is it in the map? ``None`` without a calibration."""
        return None if self.verdict is None else self.verdict.here

    @property
    def threshold(self) -> float | None:
        """Score above which a voxel counts: the calibrated one; 0 for a margin over negatives; else unknown."""
        if self.verdict is not None:
            return self.verdict.threshold
        return 0.0 if self.measure == "margin" else None

    def top(self, count: int) -> Answer:
        """The best voxels only."""
        return replace(self, score=self.score[:count], index=self.index[:count])

    def above(self, score: float) -> Answer:
        """The voxels that beat a score."""
        return self.top(int((self.score > score).sum()))

    def hits(self, above: float | None = None) -> Answer:
        """The voxels that count as found; none where the verdict is "not here".

        Args:
            above: a score to beat instead, whatever the verdict.

        Raises:
            ConfigError: a plain cosine without a calibration says nothing about which voxels count.
        """
        if above is not None:
            return self.above(above)
        if self.here is False:
            return self.top(0)
        if self.threshold is None:
            raise ConfigError(
                "hits must be told which voxels count; got a score that was never calibrated. "
                "Run 'lexivox calibrate RUN' once, name negatives, or give a score: above=0.5."
            )
        return self.above(self.threshold)

    def regions(self, above: float | None = None, min_voxels: int = 1) -> list[Region]:
        """The hits joined to things with oriented boxes, best first.

        Args:
            above: as in :meth:`hits`.
            min_voxels: smaller regions are left out.

        Raises:
            ConfigError: what :meth:`hits` raises.
        """
        found = self.hits(above)
        return [region for region in connect(self.grid, found.index, found.score) if len(region) >= min_voxels]

    def heat(self, fill: float = torch.nan) -> Float[Tensor, "X Y Z"]:
        """The scores as a volume, ``fill`` where no voxel was scored."""
        volume = torch.full(self.grid.shape, fill)
        volume[self.index[:, 0], self.index[:, 1], self.index[:, 2]] = self.score
        return volume

    def sentence(self) -> str:
        """The answer in words, for people."""
        if self.verdict is None:
            best = f"best {self.measure} {float(self.score[0]):.3f}" if len(self) else "no occupied voxel"
            return f"{self.text}: {best}; not calibrated, so nobody knows whether it is here"
        found = f"here, {self.verdict.num_hits} voxels" if self.verdict.here else "not here"
        chance = f"{100 * self.verdict.p_value:.1f} %"
        return f"{self.text}: {found} ({chance} of absent things score as high)"
