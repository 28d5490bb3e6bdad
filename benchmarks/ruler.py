"""Speed and memory of the neutral ruler: every metric beside a plain implementation, and a whole validation set.

    python benchmarks/ruler.py [--repeat 20]
    python benchmarks/ruler.py --memory        6,019 samples, one after the other
    python benchmarks/ruler.py --convert       512 x 512 x 40 voxels onto other grids

Volumes and scans are synthetic: a street of walls and boxes (200 x 200 x 16) and a cloud of 120,000 points. The
official panoptic tool is that of nuscenes-devkit (``pip install nuscenes-devkit``), which counts as SemanticKITTI's
does; without the package its algorithm is run as written below.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY, SEMANTICKITTI
from lexivox.data.dense_labels import DenseLabels, convert
from lexivox.evaluate.dense import DenseScore, occ3d_protocol
from lexivox.evaluate.panoptic import PanopticScore, Segments
from lexivox.evaluate.rayiou import RayIouScore, ray_directions
from lexivox.evaluate.raypq import PanopticVolume, RayPqScore
from lexivox.geometry.grid import OCC3D as GRID
from lexivox.geometry.grid import OPENOCCUPANCY as OPENOCCUPANCY_GRID
from lexivox.geometry.transform import RigidTransform
from lexivox.ops.first_hit import first_hits, first_hits_torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--convert", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory or arguments.convert:
        return memory() if arguments.memory else conversion()
    repeat = arguments.repeat
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
    start, towards = GRID.coordinate_from_xyz(origins), ray_directions().double().expand(8, -1, 3)
    dense, scan, other = said.numpy(), cloud(0), cloud(1)
    objects = torch.arange(GRID.num_voxels).reshape(GRID.shape) // 640 % 90
    official_name, official = official_tool()
    mask = torch.rand(GRID.shape) < 0.3
    return [
        (
            "RayIoU of a sample (8 origins x 14,040 rays, prediction and truth)",
            lambda: RayIouScore(OCC3D, GRID).update(said, true, origins),
            "the same walk in torch",
            lambda: [first_hits_torch(v != OCC3D.free, start, towards) for v in (said, true)],
            2,
        ),
        (
            "one cast alone",
            lambda: first_hits(said != OCC3D.free, start, towards),
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
            official_name,
            lambda: official(scan, other),
            5,
        ),
        (
            "RayPQ of a sample",
            lambda: RayPqScore(OCC3D, GRID).update(
                PanopticVolume(said, objects), PanopticVolume(true, objects), origins
            ),
            "RayIoU of the same",
            lambda: RayIouScore(OCC3D, GRID).update(said, true, origins),
            20,
        ),
    ]


def official_tool() -> tuple[str, Callable[[Segments, Segments], object]]:
    """PanopticEval of nuscenes-devkit, one file that needs numpy alone, or its algorithm typed here."""
    package = importlib.util.find_spec("nuscenes")
    if package is None or package.origin is None:
        return "class by class with np.unique, as the official tool", class_by_class
    path = Path(package.origin).parent / "eval/panoptic/panoptic_seg_evaluator.py"
    spec = importlib.util.spec_from_file_location("devkit_panoptic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(said: Segments, true: Segments) -> object:
        judge = module.PanopticEval(SEMANTICKITTI.num_classes, ignore=[SEMANTICKITTI.ignore], min_points=50)
        return judge.addBatch(*(a.numpy().copy() for a in (said.label, said.segment, true.label, true.segment)))

    return "PanopticEval of nuscenes-devkit 1.2.0", run


def memory(samples: int = 6019) -> None:
    """Resident memory while a validation set goes by; only the counts stay."""
    volumes, scans = [street(seed) for seed in range(4)], [cloud(seed) for seed in range(4)]
    mask = torch.rand(GRID.shape) < 0.3
    dense = [DenseScore(occ3d_protocol(name)) for name in ("none", "lidar", "camera")]
    rays, panoptic = RayIouScore(OCC3D, GRID, ray_directions()[::40]), PanopticScore(SEMANTICKITTI, min_points=50)
    origins = torch.tensor([[0.0, 0.0, 1.8]], dtype=torch.float64)
    begin = time.perf_counter()
    for number in range(samples):
        said, true, token = volumes[number % 4], volumes[number // 4 % 4], f"{number:032x}"
        for metric, seen in zip(dense, (None, mask, mask), strict=True):
            metric.update(said, true.clone(), seen, token=token)
        rays.update(said, true.clone(), origins, token=token)
        panoptic.update(scans[number % 4], scans[number // 4 % 4], token=token)
        if number + 1 in (100, 1000, samples):
            seconds = time.perf_counter() - begin
            print(f"after {number + 1:,} samples: {resident_mib():,.0f} MiB resident, {seconds:.0f} s")
    print(f"miou {dense[0].compute().values['miou']:.4f}, pq {panoptic.compute().values['pq']:.4f}")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def conversion() -> None:
    """Labels of 512 x 512 x 40 voxels onto other grids."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(OPENOCCUPANCY_GRID.shape, dtype=torch.uint8)
    index = [torch.randint(n, (400_000,), generator=generator) for n in label.shape]
    label[tuple(index)] = torch.randint(1, 17, (400_000,), generator=generator).to(torch.uint8)
    labels = DenseLabels(OPENOCCUPANCY_GRID, OPENOCCUPANCY, label)
    ego_from_lidar = RigidTransform.from_yaw(-1.57, (0.94, 0.0, 1.84))
    print("| onto | s | peak MiB above the start |\n| --- | ---: | ---: |")
    for name, grid, transform in (
        ("Occ3D's 200 x 200 x 16, ego", GRID, ego_from_lidar),
        ("256 x 256 x 20", OPENOCCUPANCY_GRID.coarsen(2), None),
        ("itself, moved by a tenth of a voxel", OPENOCCUPANCY_GRID, RigidTransform.from_yaw(0.0, (0.02, 0.0, 0.0))),
    ):
        before, begin = resident_mib(), time.perf_counter()
        peak = peak_mib(lambda grid=grid, transform=transform: convert(labels, grid, transform))
        print(f"| {name} | {time.perf_counter() - begin:.1f} | {peak - before:.0f} |", flush=True)


def peak_mib(work: Callable[[], object]) -> float:
    """The most resident memory while ``work`` runs, looked at every few milliseconds."""
    seen, done = [resident_mib()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(seen)


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
