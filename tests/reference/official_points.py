"""Scores of labelled points as the official tools go about it: their order, their types, their divisions by zero."""

from __future__ import annotations

import numpy as np


class Panoptic:
    """Of SemanticKITTI and nuScenes: void points of the truth go first, then class by class, ids of both sides + 1."""

    EPS = 1e-15

    def __init__(self, num_classes, ignore, min_points):
        self.num_classes, self.ignore, self.min_points = num_classes, ignore, min_points
        self.include = [c for c in range(num_classes) if c not in ignore]
        self.confusion = np.zeros((num_classes, num_classes), np.int64)  # rows are predicted
        self.tp, self.fp, self.fn = (np.zeros(num_classes, np.int64) for _ in range(3))
        self.iou_sum = np.zeros(num_classes)

    def add(self, said, said_id, true, true_id):
        np.add.at(self.confusion, (said, true), 1)
        for void in self.ignore:
            kept = true != void
            said, said_id, true, true_id = said[kept], said_id[kept], true[kept], true_id[kept]
        for c in self.include:
            self._add_class(c, (said_id + 1) * (said == c), (true_id + 1) * (true == c))

    def _add_class(self, c, said, true):
        (said_ids, said_areas), (true_ids, true_areas) = (np.unique(v[v > 0], return_counts=True) for v in (said, true))
        is_matched = {"said": np.zeros(len(said_ids), bool), "true": np.zeros(len(true_ids), bool)}
        both = (said > 0) & (true > 0)
        for s, t in {*zip(said[both].tolist(), true[both].tolist(), strict=True)}:
            i, j = list(said_ids).index(s), list(true_ids).index(t)
            shared = np.sum((said == s) & (true == t))
            iou = float(shared) / float(true_areas[j] + said_areas[i] - shared)
            if iou > 0.5:
                self.tp[c] += 1
                self.iou_sum[c] += iou
                is_matched["said"][i] = is_matched["true"][j] = True
        self.fn[c] += np.sum((true_areas >= self.min_points) & ~is_matched["true"])
        self.fp[c] += np.sum((said_areas >= self.min_points) & ~is_matched["said"])

    def scores(self):
        """PQ, SQ, RQ, IoU of every class; means are over ``include``, a class that never occurs being 0."""
        tp = self.tp.astype(float)
        sq = self.iou_sum / np.maximum(tp, self.EPS)
        rq = tp / np.maximum(tp + 0.5 * self.fp + 0.5 * self.fn, self.EPS)
        conf = self.confusion.astype(float)
        conf[:, self.ignore] = 0
        hit = conf.diagonal()
        union = np.maximum(conf.sum(axis=1) + conf.sum(axis=0) - hit, self.EPS)
        return {"pq": sq * rq, "sq": sq, "rq": rq, "iou": hit / union}


def kitti_lidarseg(scans, num_classes=20, ignore=0):
    """(mean IoU, IoU of every class, accuracy) of (said, true) scans."""
    conf = np.zeros((num_classes, num_classes), np.int64)
    for said, true in scans:
        np.add.at(conf, (said, true), 1)
    conf[:, ignore] = 0
    tp = np.diag(conf)
    fp, fn = conf.sum(axis=1) - tp, conf.sum(axis=0) - tp
    include = [c for c in range(num_classes) if c != ignore]
    iou = tp / (tp + fp + fn + 1e-15)
    return iou[include].mean(), iou, tp.sum() / (tp[include].sum() + fp[include].sum() + 1e-15)


def nuscenes_lidarseg(scans, num_classes=17, ignore=0):
    """(mean IoU, IoU of every class) of (said, true) scans; what is said is 1 to 16."""
    table = np.zeros((num_classes, num_classes), int)
    for said, true in scans:
        count = np.bincount(num_classes * true.astype(int) + said, minlength=num_classes**2)
        confusion = count.reshape(num_classes, num_classes)
        confusion[ignore, :] = 0
        confusion[:, ignore] = 0
        table += confusion
    hit = np.diagonal(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = hit / (table.sum(1) + table.sum(0) - hit).astype(np.float32)
    return np.nanmean(iou), iou


def pop3d_iou(pairs, classes, ignore):
    """IoU of every class and their mean, of (said, true) arrays; a class that is never true counts as 1."""
    seen, correct, positive = (np.zeros(len(classes)) for _ in range(3))
    for said, true in pairs:
        said, true = said[true != ignore], true[true != ignore]
        for place, c in enumerate(classes):
            seen[place] += np.sum(true == c)
            correct[place] += np.sum((true == c) & (said == c))
            positive[place] += np.sum(said == c)
    iou = [1.0 if s == 0 else c / (s + p - c) for s, c, p in zip(seen, correct, positive, strict=True)]
    return iou, float(np.mean(iou))


def eigen_depth(said, true, low, high):
    """abs_rel, sq_rel, mae, rmse, rmse_log, three shares: the usual evaluation loop, one array of all pixels."""
    valid = (true > 0) & (true >= low) & (true <= high)
    said, true = np.clip(said[valid].astype(float), low, high), true[valid].astype(float)
    ratio = np.maximum(true / said, said / true)
    return {
        "abs_rel": np.mean(np.abs(true - said) / true),
        "sq_rel_m": np.mean((true - said) ** 2 / true),
        "mae_m": np.mean(np.abs(true - said)),
        "rmse_m": np.sqrt(np.mean((true - said) ** 2)),
        "rmse_log": np.sqrt(np.mean((np.log(true) - np.log(said)) ** 2)),
        **{f"delta_{k}": (ratio < 1.25**k).mean() for k in (1, 2, 3)},
    }


def guo_ece(confidence, right, num_bins=15):
    """Expected calibration error: bins (m - 1) / M < c <= m / M (Guo et al. 2017)."""
    error = 0.0
    for m in range(1, num_bins + 1):
        inside = (confidence > (m - 1) / num_bins) & (confidence <= m / num_bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error
