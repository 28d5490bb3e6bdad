"""Losses on packed rows, each a scalar in float32 (float64 stays): flatten volumes before.

Nothing to learn from (no rows, all ignored, no weight) gives a 0 that belongs to the graph, never a NaN.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

IGNORED_LABEL = 255


def rows_from_volume(volume: Float[Tensor, "B K *size"]) -> Float[Tensor, "P K"]:
    """A class volume as one row per voxel, in the order of ``label.flatten()``."""
    return volume.movedim(1, -1).flatten(0, -2)


def cross_entropy(
    logit: Float[Tensor, "P K"],
    label: Shaped[Tensor, "P"],
    *,
    class_weight: Float[Tensor, "K"] | None = None,
    row_weight: Float[Tensor, "P"] | None = None,
    ignore: int = IGNORED_LABEL,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the rows that are not ignored, weighted by row or by class if asked, not by both."""
    if row_weight is not None:
        row_weight = row_weight[label != ignore]
    logit, label = _keep(_accurate(logit), label, ignore)
    if len(label) == 0:
        return _nothing(logit)
    if row_weight is not None:
        return _weighted_mean(F.cross_entropy(logit, label, reduction="none"), row_weight)
    weight = None if class_weight is None else class_weight.to(logit)
    return F.cross_entropy(logit, label, weight)


def lovasz_softmax(
    prob: Float[Tensor, "P K"],
    label: Shaped[Tensor, "P"],
    *,
    classes: Literal["present", "all"] = "present",
    ignore: int = IGNORED_LABEL,
) -> Float[Tensor, ""]:
    """One minus the Jaccard index of each class, made convex, averaged (Berman et al. 2018; spec POP-3D 4.2).

    Args:
        prob: class probabilities, after softmax.
        label: class of every row.
        classes: average over the classes that some label has, or over all.
    """
    prob, label = _keep(_accurate(prob), label, ignore)
    if len(label) == 0:
        return _nothing(prob)
    truth = F.one_hot(label, prob.shape[1]).to(prob.dtype)
    error, order = (truth - prob).abs().sort(dim=0, descending=True)
    loss = (error * lovasz_gradient(truth.gather(0, order))).sum(0)
    return loss.mean() if classes == "all" else loss[truth.any(0)].mean()


def lovasz_hinge(
    logit: Float[Tensor, "P"], label: Shaped[Tensor, "P"], *, ignore: int = IGNORED_LABEL
) -> Float[Tensor, ""]:
    """The binary Lovasz loss on margins; ``logit`` above 0 means label 1."""
    logit, label = _keep(_accurate(logit), label, ignore)
    if len(label) == 0:
        return _nothing(logit)
    truth = label.to(logit.dtype)
    error, order = (1.0 - logit * (2.0 * truth - 1.0)).sort(descending=True)
    return (F.relu(error) * lovasz_gradient(truth[order])).sum()


def lovasz_gradient(truth: Float[Tensor, "P *classes"]) -> Float[Tensor, "P *classes"]:
    """What each error adds to the Jaccard loss, for 0/1 truths sorted by falling error along the rows."""
    total = truth.sum(0)
    intersection = total - truth.cumsum(0)
    union = total + (1.0 - truth).cumsum(0)
    jaccard = 1.0 - intersection / union
    return jaccard.diff(dim=0, prepend=torch.zeros_like(jaccard[:1]))


def feature_mse(
    predicted: Float[Tensor, "P D"],
    target: Float[Tensor, "P D"],
    weight: Float[Tensor, "P"] | None = None,
) -> Float[Tensor, ""]:
    """Squared distance to the teacher, mean over channels, then the weighted mean over points (spec 4.3)."""
    predicted = _accurate(predicted)
    return _weighted_mean((predicted - target.detach().to(predicted)).square().mean(1), weight)


def feature_cosine(
    predicted: Float[Tensor, "P D"],
    target: Float[Tensor, "P D"],
    weight: Float[Tensor, "P"] | None = None,
) -> Float[Tensor, ""]:
    """One minus the cosine to the teacher, weighted mean over points; lengths do not matter."""
    predicted = _accurate(predicted)
    return _weighted_mean(1.0 - F.cosine_similarity(predicted, target.detach().to(predicted), dim=1), weight)


def _weighted_mean(value: Float[Tensor, "P"], weight: Float[Tensor, "P"] | None) -> Float[Tensor, ""]:
    weight = torch.ones_like(value) if weight is None else weight.to(value)
    total = weight.sum()
    return (value * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _accurate(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _keep(score: Tensor, label: Tensor, ignore: int) -> tuple[Tensor, Int64[Tensor, "_"]]:
    label = label.to(torch.int64)
    keep = label != ignore
    # Copying all rows costs more than asking whether one is ignored.
    return (score, label) if bool(keep.all()) else (score[keep], label[keep])


def _nothing(score: Tensor) -> Float[Tensor, ""]:
    return score.sum() * 0.0
