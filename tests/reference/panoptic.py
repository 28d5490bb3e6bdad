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


def ray_panoptic_counts(said, said_id, true, true_id, error_m, num_classes, *, things, within_m, min_rays):
    """(tp, fp, fn) x classes and the sum of matched IoUs per class, segment by segment, of rays that meet something."""

    def true_segments(c):
        rays = set(np.flatnonzero(true == c).tolist())
        found = []
        for i in sorted(set(true_id[true == c].tolist())) if c in things else []:
            if i > 0 and len(set(true[true_id == i].tolist())) == 1:
                found.append(set(np.flatnonzero((true == c) & (true_id == i)).tolist()))
        rest = rays.difference(*found) if found else rays
        return found + ([rest] if rest else [])

    near = set(np.flatnonzero(error_m < within_m).tolist())
    counts, iou_sum = np.zeros((3, num_classes), int), np.zeros(num_classes)
    for c in range(num_classes):
        pred = [
            set(np.flatnonzero((said == c) & (said_id == i)).tolist()) for i in sorted(set(said_id[said == c].tolist()))
        ]
        gt = true_segments(c)
        hits = set()
        for i, p in enumerate(pred):
            for j, t in enumerate(gt):
                shared = len(p & t & near)
                iou = shared / (len(p) + len(t) - shared)
                if iou > 0.5:
                    counts[0, c] += 1
                    iou_sum[c] += iou
                    hits |= {("p", i), ("t", j)}
        counts[1, c] = sum(len(p) >= min_rays for i, p in enumerate(pred) if ("p", i) not in hits)
        counts[2, c] = sum(len(t) >= min_rays for j, t in enumerate(gt) if ("t", j) not in hits)
    return counts, iou_sum
