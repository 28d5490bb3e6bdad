"""Which voxels a supervision asks about: all of them, or a random share that fits the budget of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lexivox.data.types import IGNORED, Batch, LabelledPoints
from lexivox.ops.losses import cross_entropy, lovasz_softmax

UNOBSERVED_SHARE = 0.25
"""Part of the budget that goes to voxels which no ray reached."""


def choose_voxels(
    batch: Batch, volumes: Sequence[UInt8[Tensor, "X Y Z"]], max_voxels: int, generator: torch.Generator
) -> LabelledPoints:
    """At most ``max_voxels`` voxels per sample (0 = all), drawn evenly, so that losses stay unbiased."""
    chosen = [_choose(volume.flatten(), max_voxels, generator) for volume in volumes]
    label = torch.cat([volume.flatten()[rows].long() for volume, rows in zip(volumes, chosen, strict=True)])
    counts = torch.tensor([len(rows) for rows in chosen])
    xyz = batch.grid.xyz_from_index(batch.grid.index_from_flat(torch.cat(chosen)))
    return LabelledPoints(xyz, torch.repeat_interleave(torch.arange(len(volumes)), counts), label)


def _choose(label: UInt8[Tensor, "N"], max_voxels: int, generator: torch.Generator) -> Int64[Tensor, "M"]:
    if not max_voxels or len(label) <= max_voxels:
        return torch.arange(len(label))
    unseen = int(max_voxels * UNOBSERVED_SHARE)
    parts = ((label != IGNORED, max_voxels - unseen), (label == IGNORED, unseen))
    return torch.cat([_draw(mask.nonzero()[:, 0], count, generator) for mask, count in parts])


def _draw(rows: Int64[Tensor, "N"], count: int, generator: torch.Generator) -> Int64[Tensor, "M"]:
    # Drawing with replacement is far cheaper than a permutation of hundreds of thousands of rows.
    if len(rows) <= count:
        return rows
    return rows[torch.randint(len(rows), (count,), generator=generator)]


def class_terms(
    logit: Float[Tensor, "N K"], target: LabelledPoints, lovasz: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy and weighted Lovász over the rows whose label is known (POP-3D eq. 4)."""
    known = target.label != IGNORED
    prob = logit[known].softmax(dim=-1)
    ce = cross_entropy(logit, target.label, row_weight=target.weight)
    return ce, lovasz * lovasz_softmax(prob, target.label[known])


def unobserved_term(logit: Float[Tensor, "N K"], label: Int64[Tensor, "N"], free_label: int) -> Float[Tensor, ""]:
    """Cross-entropy towards free where no ray passed.

    Without it nothing keeps a model from filling what nobody sees; at full weight it is the published dense
    target, which also calls the inside of every wall free.
    """
    unseen = logit[label == IGNORED]
    free = torch.full((len(unseen),), free_label, device=unseen.device)
    return cross_entropy(unseen, free)
