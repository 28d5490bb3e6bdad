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

DepthLoss = Literal["mse", "l1", "huber_log", "silog"]

TINY = 1e-6
"""Least number inside a logarithm or a root."""

NEAR_M, SILOG_LAMBDA = 0.5, 0.85


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
        return weighted_mean(F.cross_entropy(logit, label, reduction="none"), row_weight)
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
    return weighted_mean((predicted - target.detach().to(predicted)).square().mean(1), weight)


def feature_cosine(
    predicted: Float[Tensor, "P D"],
    target: Float[Tensor, "P D"],
    weight: Float[Tensor, "P"] | None = None,
) -> Float[Tensor, ""]:
    """One minus the cosine to the teacher, weighted mean over points; lengths do not matter."""
    predicted = _accurate(predicted)
    return weighted_mean(1.0 - F.cosine_similarity(predicted, target.detach().to(predicted), dim=1), weight)


def langocc_loss(
    predicted: Float[Tensor, "P D"],
    target: Float[Tensor, "P D"],
    weight: Float[Tensor, "P"] | None = None,
) -> Float[Tensor, ""]:
    """Squared distance of unit vectors, itself weighed by how wrong the row is, without a gradient through that.

    ``stop_gradient(2 (1 - cos)) * |p - t|^2`` (LangOcc; spec occflownet 7): hard rows count more.
    """
    target = target.detach().to(_accurate(predicted))
    distance = (F.normalize(_accurate(predicted), dim=1) - F.normalize(target, dim=1)).square().sum(1)
    return weighted_mean(distance.detach() * distance, weight)  # of unit vectors |p - t|^2 = 2 (1 - cos)


def focal_cross_entropy(
    logit: Float[Tensor, "P K"], label: Shaped[Tensor, "P"], gamma: float = 2.0, *, ignore: int = IGNORED_LABEL
) -> Float[Tensor, ""]:
    """Mean of ``(1 - p_y)^gamma`` times the cross-entropy: easy rows count less (Lin et al. 2017)."""
    logit, label = _keep(_accurate(logit), label, ignore)
    if len(label) == 0:
        return _nothing(logit)
    cost = F.cross_entropy(logit, label, reduction="none")
    return ((-torch.expm1(-cost)) ** gamma * cost).mean()


def sem_scal(
    prob: Float[Tensor, "P K"], label: Shaped[Tensor, "P"], *, ignore: int = IGNORED_LABEL
) -> Float[Tensor, ""]:
    """Scene-class affinity (MonoScene; spec occflownet 4): for each class that occurs minus the logs of its soft
    precision, recall and specificity, added; the mean over these classes.
    """
    prob, label = _keep(_accurate(prob), label, ignore)
    if len(label) == 0:
        return _nothing(prob)
    truth = F.one_hot(label, prob.shape[1]).to(prob.dtype)
    present = truth.any(0)
    return _affinity(prob[:, present], truth[:, present]).mean()


def geo_scal(
    prob_occupied: Float[Tensor, "P"], is_occupied: Shaped[Tensor, "P"], *, ignore: int = IGNORED_LABEL
) -> Float[Tensor, ""]:
    """The same three terms, once, for occupied against free. ``is_occupied`` is 0, 1 or ``ignore``."""
    prob, label = _keep(_accurate(prob_occupied), is_occupied, ignore)
    if len(label) == 0 or not bool(label.any()):
        return _nothing(prob)
    return _affinity(prob[:, None], label[:, None].to(prob.dtype))[0]


def _affinity(prob: Float[Tensor, "P K"], truth: Float[Tensor, "P K"]) -> Float[Tensor, "K"]:
    hit, others = (prob * truth).sum(0), (1.0 - truth).sum(0)
    precision = hit / prob.sum(0).clamp_min(TINY)
    recall = hit / truth.sum(0)
    specificity = ((1.0 - prob) * (1.0 - truth)).sum(0) / others.clamp_min(1.0)
    logs = [precision.clamp_min(TINY).log(), recall.clamp_min(TINY).log()]
    logs.append(torch.where(others > 0, specificity.clamp_min(TINY).log(), 0.0))
    return -torch.stack(logs).sum(0)


def depth_loss(
    predicted_m: Float[Tensor, "R"],
    measured_m: Float[Tensor, "R"],
    kind: DepthLoss = "mse",
    weight: Float[Tensor, "R"] | None = None,
    near_m: float = NEAR_M,
) -> Float[Tensor, ""]:
    """How far rendered depths are from measured ones (spec occflownet 2.5, A7); a weighted mean over rays.

    Args:
        kind: ``"mse"`` in square metres, in which what is far dominates; ``"l1"`` in metres; ``"huber_log"`` of the
            logarithms, quadratic below a tenth; ``"silog"`` forgives a common factor in part (lambda 0.85).
        near_m: added before logarithms are taken; 0 is published for ``"silog"``.
    """
    predicted, measured = _accurate(predicted_m), measured_m.to(_accurate(predicted_m))
    if kind == "mse":
        return weighted_mean((predicted - measured).square(), weight)
    if kind == "l1":
        return weighted_mean((predicted - measured).abs(), weight)
    # Half a metre is added: the logarithm of a ray that ends at once must not drown all others.
    gap = (predicted.clamp_min(0.0) + near_m).clamp_min(TINY).log() - (measured + near_m).clamp_min(TINY).log()
    if kind == "huber_log":
        return weighted_mean(F.huber_loss(gap, torch.zeros_like(gap), reduction="none", delta=0.1), weight)
    square, mean = weighted_mean(gap.square(), weight), weighted_mean(gap, weight)
    return (square - SILOG_LAMBDA * mean.square()).clamp_min(TINY).sqrt()


def weighted_mean(value: Float[Tensor, "P"], weight: Float[Tensor, "P"] | None) -> Float[Tensor, ""]:
    """0 where nothing has weight."""
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
