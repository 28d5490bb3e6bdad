"""Time of labelling a grid from one LiDAR sweep, against named alternatives in the same run.

    python benchmarks/lidar_labels.py [--sweep LIDAR_TOP/....pcd.bin] [--repeats 15]

Without ``--sweep`` a synthetic 32-beam sweep in a street with walls is used.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lexivox.data.labels import occupancy_from_lidar
from lexivox.geometry.grid import OCC3D, POP3D, VoxelGrid
from lexivox.geometry.rays import clip_segments, visited_voxels
from lexivox.geometry.voxelize import voxels_of_points
from lexivox.ops.traversal import has_compiled_kernels, mark_free, mark_free_torch, mark_sampled

SENSOR_HEIGHT_M = 1.84
TARGET_MS = 15.0


def read_sweep(path: Path) -> Tensor:
    return torch.from_numpy(np.fromfile(path, dtype=np.float32).reshape(-1, 5)[:, :3].copy())


def synthetic_sweep(num_columns: int = 1085) -> Tensor:
    """32 beams from -30.67 to +10.67 degrees between two walls 12 m away, a floor, and open ends at 70 m."""
    azimuth = torch.linspace(0, 2 * math.pi, num_columns + 1)[:-1, None]
    elevation = torch.deg2rad(torch.linspace(-30.67, 10.67, 32))[None]
    direction = torch.stack(
        [
            azimuth.sin() * elevation.cos(),
            azimuth.cos() * elevation.cos(),
            elevation.sin().expand(num_columns, 32),
        ],
        dim=-1,
    ).reshape(-1, 3)
    floor = torch.where(direction[:, 2] < 0, -SENSOR_HEIGHT_M / direction[:, 2], torch.inf)
    wall = 12.0 / direction[:, 0].abs().clamp_min(1e-6)
    return direction * torch.minimum(floor, wall).clamp_max(70.0)[:, None]


def numpy_lockstep(grid: VoxelGrid, origins: Tensor, ends: Tensor) -> np.ndarray:
    """All rays step together, one voxel a turn, in numpy."""
    segments = clip_segments(grid, origins.expand_as(ends), ends)
    start, stop = segments.start.numpy(), segments.stop.numpy()
    voxel, last = segments.first.numpy().copy(), segments.last.numpy()
    sign = np.sign(last - voxel)
    with np.errstate(divide="ignore"):
        inverse = np.where(sign != 0, 1.0 / (stop - start), 0.0)
    free = np.zeros(grid.shape, dtype=bool)
    rows = np.arange(len(voxel))
    while len(rows):
        arrived = (voxel[rows] == last[rows]).all(axis=1)
        marked = voxel[rows[~(arrived & segments.ends_inside.numpy()[rows])]]
        free[marked[:, 0], marked[:, 1], marked[:, 2]] = True
        rows = rows[~arrived]
        t = (voxel[rows] + (sign[rows] > 0) - start[rows]) * inverse[rows]
        axis = np.where(voxel[rows] == last[rows], np.inf, t).argmin(axis=1)
        voxel[rows, axis] += sign[rows, axis]
    return free


def visited_flat(grid: VoxelGrid, origins: Tensor, ends: Tensor) -> Tensor:
    index, _, _ = visited_voxels(clip_segments(grid, origins.expand_as(ends), ends))
    return grid.flat_from_index(index).to(torch.int32)


def floor_of(grid: VoxelGrid, flat: Tensor) -> Callable[[], object]:
    """Only the writes: visited voxels known beforehand, marked one by one in the order of the rays."""
    volume = np.zeros(grid.num_voxels, dtype=np.bool_)
    numbers = flat.numpy()
    if not has_compiled_kernels():
        return lambda: volume.__setitem__(numbers, True)
    import numba

    @numba.njit
    def write(numbers, volume):
        for number in numbers:
            volume[number] = True

    return lambda: write(numbers, volume)


def median_ms(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of wall time and of CPU time; they differ when other programs share the machine."""
    work()  # warm-up: compilation, caches
    wall, cpu = [], []
    for _ in range(repeats):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - begin) * 1e3)
        cpu.append((time.process_time() - begin_cpu) * 1e3)
    return statistics.median(wall), statistics.median(cpu)


def report(name: str, grid: VoxelGrid, origin: Tensor, xyz: Tensor, repeats: int) -> None:
    flat = visited_flat(grid, origin, xyz)
    kernel = "numba kernel" if has_compiled_kernels() else "torch (numba is not installed)"
    few = max(3, repeats // 5)
    alternatives = {
        f"labels, exact: {kernel}, torch in and out": (
            partial(occupancy_from_lidar, grid, origin, xyz),
            repeats,
        ),
        f"  of it mark_free: {kernel}": (partial(mark_free, grid, origin, xyz), repeats),
        "  of it occupied voxels": (partial(voxels_of_points, grid, xyz), repeats),
        "mark_free: torch fallback": (partial(mark_free_torch, grid, origin, xyz), few),
        "mark_free: numpy lockstep": (partial(numpy_lockstep, grid, origin, xyz), few),
        "100 samples per ray, torch (approximate)": (partial(mark_sampled, grid, origin, xyz), few),
        "floor: only the writes, voxels known": (floor_of(grid, flat), repeats),
    }
    equal = np.array_equal(numpy_lockstep(grid, origin, xyz), mark_free(grid, origin, xyz).numpy())
    megabytes = (len(flat) + 2 * grid.num_voxels + xyz.nbytes) / 1e6
    shape = "x".join(map(str, grid.shape))
    visits = f"{len(flat):,} voxels visited, {len(flat.unique()):,} distinct"
    print(f"\n{name} {shape}: {len(xyz):,} rays, {visits}, {megabytes:.1f} MB moved; numpy equal: {equal}")
    results = {label: median_ms(work, count) for label, (work, count) in alternatives.items()}
    for label, (wall, cpu) in results.items():
        print(f"  {label:<58}{wall:9.2f} ms wall {cpu:9.2f} ms CPU (medians)")
    rows = list(results.values())
    (labels, labels_cpu), (floor, floor_cpu) = rows[0], rows[-1]
    print(f"  measured / floor = {labels / floor:.1f} wall, {labels_cpu / floor_cpu:.1f} CPU; "
          f"target {TARGET_MS:.0f} ms: {labels / TARGET_MS:.2f} of it used")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, help="a nuScenes LIDAR_TOP .pcd.bin (default: synthetic)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; data loaders use one")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    xyz = read_sweep(args.sweep) if args.sweep else synthetic_sweep()
    # nuScenes mounts LIDAR_TOP about 0.94 m before and 1.84 m above the ego origin, turned by 90 degrees.
    origin_ego = torch.tensor([0.94, 0.0, SENSOR_HEIGHT_M])
    xyz_ego = torch.stack([xyz[:, 1], -xyz[:, 0], xyz[:, 2]], dim=-1) + origin_ego
    report("OCC3D, ego", OCC3D, origin_ego, xyz_ego, args.repeats)
    report("POP3D, lidar", POP3D, torch.zeros(3), xyz, args.repeats)


if __name__ == "__main__":
    main()
