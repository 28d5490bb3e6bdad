"""Losses typed from their equations, one number at a time, in numpy float64."""

from __future__ import annotations

import math

import numpy as np


def jaccard_steps(truth: list[float]) -> list[float]:
    """J_0, J_1 - J_0, ... of 0/1 truths in falling order of error."""
    steps, before = [], 0.0
    for i in range(len(truth)):
        missed = sum(truth[: i + 1])
        wrong = sum(1 - t for t in truth[: i + 1])
        jaccard = 1 - (sum(truth) - missed) / (sum(truth) + wrong)
        steps.append(jaccard - before)
        before = jaccard
    return steps


def lovasz_softmax(prob: np.ndarray, label: np.ndarray, classes: str, ignore: int) -> float:
    prob, label = prob[label != ignore], label[label != ignore]
    losses = []
    for k in range(prob.shape[1]):
        if classes == "present" and k not in label:
            continue
        pairs = sorted(
            ((abs((y == k) - p), float(y == k)) for p, y in zip(prob[:, k], label, strict=True)), reverse=True
        )
        steps = jaccard_steps([truth for _, truth in pairs])
        losses.append(sum(error * step for (error, _), step in zip(pairs, steps, strict=True)))
    return sum(losses) / len(losses)


def cross_entropy(logit: np.ndarray, label: np.ndarray, class_weight: np.ndarray, ignore: int) -> float:
    total = weights = 0.0
    for row, y in zip(logit, label, strict=True):
        if y == ignore:
            continue
        total -= class_weight[y] * (row[y] - math.log(sum(math.exp(v) for v in row)))
        weights += class_weight[y]
    return total / weights


def feature_mse(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    total = 0.0
    for p, t, w in zip(predicted, target, weight, strict=True):
        total += w * sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / len(p)
    return total / weight.sum()


def feature_cosine(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    total = 0.0
    for p, t, w in zip(predicted, target, weight, strict=True):
        total += w * (1 - float(p @ t) / math.sqrt(float(p @ p) * float(t @ t)))
    return total / weight.sum()


def focal_cross_entropy(logit: np.ndarray, label: np.ndarray, gamma: float, ignore: int) -> float:
    costs = []
    for row, y in zip(logit, label, strict=True):
        if y != ignore:
            prob = math.exp(row[y]) / sum(math.exp(v) for v in row)
            costs.append(-((1 - prob) ** gamma) * math.log(prob))
    return sum(costs) / len(costs)


def affinity(prob: list[float], truth: list[bool]) -> float:
    """-log precision - log recall - log specificity of soft answers to one question."""
    hit = sum(p for p, t in zip(prob, truth, strict=True) if t)
    spared = sum(1 - p for p, t in zip(prob, truth, strict=True) if not t)
    loss = -math.log(hit / sum(prob)) - math.log(hit / sum(truth))
    return loss if all(truth) else loss - math.log(spared / (len(truth) - sum(truth)))


def sem_scal(prob: np.ndarray, label: np.ndarray, ignore: int) -> float:
    prob, label = prob[label != ignore], label[label != ignore]
    present = sorted(set(label.tolist()))
    return sum(affinity(prob[:, k].tolist(), (label == k).tolist()) for k in present) / len(present)


def depth_loss(predicted: np.ndarray, measured: np.ndarray, kind: str, weight: np.ndarray) -> float:
    near, ratio = 0.5, 0.85
    total, squares, mean = 0.0, 0.0, 0.0
    for p, m, w in zip(predicted, measured, weight / weight.sum(), strict=True):
        gap = math.log(p + near) - math.log(m + near)
        huber = gap**2 / 2 if abs(gap) < 0.1 else 0.1 * (abs(gap) - 0.05)
        total += w * {"mse": (p - m) ** 2, "l1": abs(p - m), "huber_log": huber, "silog": 0.0}[kind]
        squares, mean = squares + w * gap**2, mean + w * gap
    return math.sqrt(squares - ratio * mean**2) if kind == "silog" else total


def langocc(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    total = 0.0
    for p, t, w in zip(predicted, target, weight, strict=True):
        p, t = p / np.linalg.norm(p), t / np.linalg.norm(t)
        total += w * 2 * (1 - float(p @ t)) * float(((p - t) ** 2).sum())
    return total / weight.sum()
