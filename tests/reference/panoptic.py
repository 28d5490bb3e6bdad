"""Panoptic counts, segment by segment."""

from __future__ import annotations

import numpy as np


def panoptic_counts(pred_label, pred_id, true_label, true_id, num_classes, *, void, min_points):
    """(tp, fp, fn) x classes and the sum of matched IoUs per class."""
    kept = true_label != void
    pred_label, pred_id, true_label, true_id = (a[kept] for a in (pred_label, pred_id, true_label, true_id))
    counts, iou_sum = np.zeros((3, num_classes), int), np.zeros(num_classes)
    for c in (c for c in range(num_classes) if c != void):
        pred = [(pred_label == c) & (pred_id == i) for i in np.unique(pred_id[pred_label == c])]
        true = [(true_label == c) & (true_id == i) for i in np.unique(true_id[true_label == c])]
        matched_pred, matched_true = set(), set()
        for i, p in enumerate(pred):
            for j, t in enumerate(true):
                iou = (p & t).sum() / (p | t).sum()
                if iou > 0.5:
                    counts[0, c] += 1
                    iou_sum[c] += iou
                    matched_pred.add(i)
                    matched_true.add(j)
        counts[1, c] = sum(p.sum() >= min_points for i, p in enumerate(pred) if i not in matched_pred)
        counts[2, c] = sum(t.sum() >= min_points for j, t in enumerate(true) if j not in matched_true)
    return counts, iou_sum
