"""Speed of the neutral ruler: RayIoU, dense mIoU and panoptic quality, each beside a plain implementation.

    python benchmarks/ruler.py [--repeat 20]

Volumes and scans are synthetic: a street of walls and boxes (200 x 200 x 16) and a cloud of 120,000 points.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from lexivox.data.benchmark_classes import OCC3D, SEMANTICKITTI
from lexivox.evaluate.dense import DenseScore, occ3d_protocol
from lexivox.evaluate.panoptic import PanopticScore, Segments
from lexivox.evaluate.rayiou import RayIouScore, ray_directions
from lexivox.geometry.grid import OCC3D as GRID
from lexivox.ops.first_hit import first_hits, first_hits_torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    repeat = parser.parse_args().repeat
    print(f"{torch.get_num_threads()} torch threads; median of {repeat}, slow ones fewer\n")
    print("| what | ours ms | named alternative | ms | ratio |")
    print("| --- | ---: | --- | ---: | ---: |")
    for name, ours, other_name, other, other_repeat in cases():
        mine = median_ms(ours, repeat)
        theirs = median_ms(other, min(repeat, other_repeat))
        print(f"| {name} | {mine:.2f} | {other_name} | {theirs:.1f} | {theirs / mine:.1f} |", flush=True)


def cases() -> list[tuple[str, Callable[[], object], str, Callable[[], object], int]]:
    said, true = street(0), street(1)
    origins = torch.tensor([[4.0 * i - 14.0, 0.0, 1.8] for i in range(8)], dtype=torch.float64)
    start = GRID.coordinate_from_xyz(origins)
    dense, scan, other = said.numpy(), cloud(0), cloud(1)
    mask = torch.rand(GRID.shape) < 0.3
    return [
        (
            "RayIoU of a sample (8 origins x 14,040 rays, prediction and truth)",
            lambda: RayIouScore(OCC3D, GRID).update(said, true, origins),
            "the same walk in torch",
            lambda: [first_hits_torch(v != OCC3D.free, start, ray_directions()) for v in (said, true)],
            2,
        ),
        (
            "one cast alone",
            lambda: first_hits(said != OCC3D.free, start, ray_directions()),
            "reading the volume once",
            lambda: (said != OCC3D.free).sum(),
            20,
        ),
        (
            "Occ3D mIoU of a sample, no mask",
            lambda: DenseScore(occ3d_protocol("none")).update(said, true),
            "np.bincount of 18 * truth + prediction in int64",
            lambda: np.bincount(18 * true.numpy().astype(np.int64).ravel() + dense.astype(np.int64).ravel()),
            20,
        ),
        (
            "Occ3D mIoU of a sample, camera mask",
            lambda: DenseScore(occ3d_protocol("camera")).update(said, true, mask),
            "np.bincount of the masked voxels",
            lambda: np.bincount(18 * true.numpy()[mask.numpy()].astype(np.int64) + dense[mask.numpy()]),
            20,
        ),
        (
            "panoptic quality of a scan of 120,000 points",
            lambda: PanopticScore(SEMANTICKITTI, min_points=50).update(scan, other),
            "class by class with np.unique",
            lambda: class_by_class(scan, other),
            5,
        ),
    ]


def street(seed: int) -> torch.Tensor:
    """Ground, two walls and boxes of random classes, as uint8 class numbers."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.full(GRID.shape, OCC3D.free, dtype=torch.uint8)
    volume[:, :, :2] = 11
    volume[:, 20:24], volume[:, 176:180] = 15, 15
    for _ in range(60):
        x, y, z, number = (int(torch.randint(n, (1,), generator=generator)) for n in (190, 190, 4, 11))
        volume[x : x + 10, y : y + 5, 2 + z : 6 + z] = number
    return volume


def cloud(seed: int, points: int = 120_000) -> Segments:
    """Blobs: classes and instances along a curve, a tenth of the points wrong."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(points) // 400
    wrong = torch.rand(points, generator=generator) < 0.1
    label = torch.where(wrong, torch.randint(1, 20, (points,), generator=generator), 1 + place % 19)
    return Segments(label, torch.where(label < 9, (place << 16) + label, label))


def class_by_class(said: Segments, true: Segments) -> list[tuple[int, int, int]]:
    """The usual way: per class restrict, np.unique of ids and of id pairs, match."""
    arrays = [a.numpy() for a in (said.label, said.segment, true.label, true.segment)]
    pred_label, pred_id, true_label, true_id = (a[arrays[2] != 0] for a in arrays)
    rows = []
    for number in range(1, 20):
        p, t = (pred_id + 1) * (pred_label == number), (true_id + 1) * (true_label == number)
        pred, pred_area = np.unique(p[p > 0], return_counts=True)
        gt, gt_area = np.unique(t[t > 0], return_counts=True)
        both = (p > 0) & (t > 0)
        pairs, inter = np.unique(p[both] + (t[both] << 32), return_counts=True)
        pred_of, gt_of = dict(zip(pred, pred_area, strict=True)), dict(zip(gt, gt_area, strict=True))
        union = np.array([gt_of[k >> 32] + pred_of[k & 0xFFFFFFFF] for k in pairs]) - inter
        hit = int((inter / union > 0.5).sum()) if len(pairs) else 0
        rows.append((hit, int((pred_area >= 50).sum()) - hit, int((gt_area >= 50).sum()) - hit))
    return rows


def median_ms(call: Callable[[], object], repeat: int) -> float:
    call()
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main()
