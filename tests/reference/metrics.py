"""Slow, obvious twins of the metrics: loops typed from the definitions."""

from __future__ import annotations

import math


def iou(prediction: list[int], target: list[int], label: int, ignore: set[int]) -> float:
    """TP / (TP + FP + FN) of one class; NaN where it is never true."""
    true_positive = false_positive = false_negative = 0
    for guess, truth in zip(prediction, target, strict=True):
        if truth in ignore:
            continue
        true_positive += guess == label and truth == label
        false_positive += guess == label and truth != label
        false_negative += guess != label and truth == label
    if true_positive + false_negative == 0:
        return math.nan
    return true_positive / (true_positive + false_positive + false_negative)


def average_precision(scores: list[float], relevant: list[bool]) -> float:
    """Step by step over the thresholds that occur: everything at or above one is retrieved."""
    area = last_recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = [r for s, r in zip(scores, relevant, strict=True) if s >= threshold]
        recall = sum(retrieved) / sum(relevant)
        area += (recall - last_recall) * sum(retrieved) / len(retrieved)
        last_recall = recall
    return area
