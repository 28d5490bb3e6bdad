"""Weights of classes against their frequency (spec occflownet 2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

OCC3D_VOXELS = (
    1_163_161, 2_309_034, 188_743, 2_997_643, 20_317_180, 852_476, 243_808, 2_457_947, 497_017, 2_731_022, 7_224_789,
    214_411_435, 5_565_043, 63_191_967, 76_098_082, 128_860_031, 141_625_221,
)  # fmt: skip
"""Voxels of each class in the training split of Occ3D-nuScenes, which is what OccFlowNet weighs by."""

LIDARSEG_RAYS = (
    2_854_504, 7_291_443, 141_614, 4_239_939, 32_248_552, 1_583_610, 364_372, 2_346_381, 582_961, 4_829_021,
    14_073_691, 191_019_309, 6_249_651, 55_095_657, 58_484_771, 193_834_360, 131_378_779,
)  # fmt: skip
"""Returns of each class in the training split of nuScenes-lidarseg: what rays actually meet."""

ClassWeightKind = Literal["none", "occ3d_voxels", "lidarseg_rays", "batch"]


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """How much each class counts.

    Attributes:
        kind: ``"occ3d_voxels"`` and ``"lidarseg_rays"`` take the numbers of nuScenes (classes in the order of its 16
            with 0 for the rest), the former as published; ``"batch"`` counts the rows at hand.
    """

    kind: ClassWeightKind = "none"

    def of(self, label: Int64[Tensor, "R"], ignore: int = 255) -> Float[Tensor, "R"]:
        """A weight for each row; 0 where the label is ignored."""
        known = label != ignore
        weight = torch.zeros(len(label), device=label.device)
        if self.kind == "none" or not bool(known.any()):
            return weight + known.to(weight)
        count = _KNOWN.get(self.kind)
        counted = torch.bincount(label[known]) if count is None else torch.tensor(count, device=label.device)
        weight[known] = log_inverse_frequency(counted)[label[known]]
        return weight


def log_inverse_frequency(count: Int64[Tensor, "K"]) -> Float[Tensor, "K"]:
    """``log(total / count)`` with mean 1 over the classes that occur; 0 for those that do not."""
    count = count.double()
    occurs = count > 0
    weight = torch.where(occurs, (count.sum() / count.clamp_min(1.0)).log(), 0.0)
    mean = weight[occurs].mean() if bool(weight.any()) else weight.new_ones(())
    return torch.where(occurs & bool(weight.any()), weight / mean, occurs.to(weight)).float()


_KNOWN = {"occ3d_voxels": OCC3D_VOXELS, "lidarseg_rays": LIDARSEG_RAYS}
