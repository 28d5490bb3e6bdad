"""Scores of class volumes as the official tools go about it: their order, their types, their divisions by zero."""

from __future__ import annotations

import numpy as np

FLOAT_EPS = np.finfo(np.float32).eps


class Occ3d:
    """The challenge's histogram: rows are true, masked volumes are cut out first, 255 in the truth is left out."""

    def __init__(self, mask):
        self.mask, self.hist = mask, np.zeros((18, 18))

    def add(self, said, true, lidar, camera):
        chosen = {"none": np.ones_like(lidar), "lidar": lidar, "camera": camera, "both": lidar & camera}[self.mask]
        said, true = said[chosen].flatten(), true[chosen].flatten()
        known = (true >= 0) & (true < 18)
        pairs = 18 * true[known].astype(int) + said[known].astype(int)
        self.hist += np.bincount(pairs, minlength=324).reshape(18, 18)

    def iou(self):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.diag(self.hist) / (self.hist.sum(1) + self.hist.sum(0) - np.diag(self.hist))

    def miou(self):
        return np.nanmean(self.iou()[:17])


def f_score(said, true, counted, edge_m=0.4, tolerance_m=0.6):
    """Accuracy, completeness and F of one sample, every voxel centre against every other."""
    said, true = (np.argwhere((v != 17) & (v != 255) & counted) * edge_m + edge_m / 2 for v in (said, true))
    if not len(said):
        return 0.0, 0.0, 0.0
    apart = np.linalg.norm(said[:, None] - true[None], axis=2)
    completeness = (apart.min(0) < tolerance_m).mean()
    accuracy = (apart.min(1) < tolerance_m).mean()
    return accuracy, completeness, 2.0 / (1 / (accuracy + 1e-8) + 1 / (completeness + 1e-8))


class SemanticKitti:
    """Raw codes in, looked up in a table whose every 0 but that of code 0 means "invalid"; rows are predicted."""

    def __init__(self, learning_map):
        self.lookup = np.zeros(max(learning_map) + 100, dtype=np.int32)
        self.lookup[list(learning_map)] = list(learning_map.values())
        self.lookup[self.lookup == 0] = 255
        self.lookup[0] = 0
        self.confusion = np.zeros((20, 20), dtype=np.int64)

    def add(self, said_raw, true_raw, invalid):
        said, true = self.lookup[said_raw.reshape(-1)], self.lookup[true_raw.reshape(-1)]
        counted = np.ones_like(true, dtype=bool)
        counted[true == 255] = False
        counted[invalid.reshape(-1) == 1] = False
        np.add.at(self.confusion, (said[counted], true[counted]), 1)

    def scores(self):
        conf, tp = self.confusion, np.diag(self.confusion)
        fp, fn = conf.sum(axis=1) - tp, conf.sum(axis=0) - tp
        iou = tp / (tp + fp + fn + 1e-15)
        with np.errstate(invalid="ignore"):
            completion = np.sum(conf[1:, 1:]) / (np.sum(conf) - conf[0, 0])
        return {
            "iou": iou,
            "miou": iou[1:].mean(),
            "iou_occupied": completion,
            "precision_occupied": np.sum(conf[1:, 1:]) / (np.sum(conf[1:, :]) + FLOAT_EPS),
            "recall_occupied": np.sum(conf[1:, 1:]) / (np.sum(conf[:, 1:]) + FLOAT_EPS),
        }


class OpenOccupancy:
    """Two histograms, of occupied and of all classes; noise (255 in the truth) is cut out of both."""

    def __init__(self):
        self.geometry, self.classes = np.zeros((2, 2)), np.zeros((17, 17))

    def add(self, said, true):
        kept = true != 255
        self.classes += self._hist(said[kept], true[kept], 17)
        self.geometry += self._hist((said != 0)[kept], (true != 0)[kept], 2)

    @staticmethod
    def _hist(said, true, size):
        return np.bincount(size * true.astype(int) + said, minlength=size**2)[: size**2].reshape(size, size)

    @staticmethod
    def _ious(table):
        with np.errstate(invalid="ignore"):
            return np.array(
                [table[i, i] / (table[:, i].sum() + table[i].sum() - table[i, i]) for i in range(len(table))]
            )

    def scores(self):
        """IoU of occupied, IoU of classes 1 to 16 (NaN where absent, and then the mean as well)."""
        return self._ious(self.geometry)[1], self._ious(self.classes)[1:]


class SurroundOcc:
    """Three counts for each class, number 0 holding those of "occupied"; means over samples before dividing."""

    def __init__(self):
        self.rows = []

    def add(self, said, rows):
        true = np.zeros(said.shape)
        listed = rows.astype(int)
        classes = np.where(rows[:, 3] == 0, 255, rows[:, 3])
        true[listed[:, 0], listed[:, 1], listed[:, 2]] = classes
        kept, counts = true != 255, np.zeros((17, 3))
        for c in range(17):
            a, b = (true[kept] != 0, said[kept] != 0) if c == 0 else (true[kept] == c, said[kept] == c)
            counts[c] = (a & b).sum(), a.sum(), b.sum()
        self.rows.append(counts)

    def scores(self):
        counts = np.stack(self.rows).mean(0)
        with np.errstate(invalid="ignore"):
            iou = counts[:, 0] / (counts[:, 1] + counts[:, 2] - counts[:, 0])
        return iou[0], iou[1:]
