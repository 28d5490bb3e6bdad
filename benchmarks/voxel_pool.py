"""Pooling the full frustum of six cameras into voxels, against moving the data once and against products of all points.

    OMP_NUM_THREADS=1 python benchmarks/voxel_pool.py [--device cuda --repeats 30]

1.49 million points (6 cameras, 88 depths, 32 x 88 cells of 512 x 1408 images), 80 channels, Occ3D's grid. The floor
writes the volume once into fresh memory and reads features, weights and the plan once; with gradients it also reads
the volume's gradient and writes both others. Times are medians taken in turn: processor time on a CPU, wall on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from pop3d_speed import nuscenes_cameras, seconds
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.encoders.lift_plan import LiftRules, PlanCache
from lexivox.geometry.camera import crop_intrinsics, resize_intrinsics
from lexivox.geometry.frustum import DepthBins
from lexivox.geometry.grid import OCC3D
from lexivox.geometry.transform import RigidTransform
from lexivox.ops.voxel_pool import PoolPlan, voxel_pool, voxel_pool_torch

IMAGE_HW, CELLS_HW, BINS = (512, 1408), (32, 88), DepthBins()


def plan_of_rig(device: str) -> tuple[PoolPlan, Callable[[], object]]:
    """The plan of a nuScenes-like rig whose images were scaled and cut as published, and making it anew."""
    recorded = nuscenes_cameras("cpu")
    scaled = resize_intrinsics(recorded.image_from_cam, 0.88, 0.88)
    intrinsics = crop_intrinsics(scaled, 0.0, 900 * 0.88 - IMAGE_HW[0])
    lowered = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, -1.8], dtype=torch.float64))
    images = torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8).expand(1, 6, 3, *IMAGE_HW)
    cameras = Cameras(images, intrinsics, recorded.cam_from_grid @ lowered, recorded.names).to(device)
    plans = PlanCache(OCC3D, BINS, LiftRules())
    return plans(cameras, CELLS_HW), lambda: PlanCache(OCC3D, BINS, LiftRules())(cameras, CELLS_HW)


def with_products(feature: Tensor, weight: Tensor, plan: PoolPlan) -> Tensor:
    """The simple way: every point's product in memory, then added up."""
    product = feature[plan.point // weight.shape[1]] * weight.flatten()[plan.point][:, None]
    rows = plan.voxel_of_point.flatten()[plan.point]
    return feature.new_zeros(plan.size * plan.grid.num_voxels, feature.shape[1]).index_add_(0, rows, product)


def in_torch(feature: Tensor, weight: Tensor, plan: PoolPlan) -> Tensor:
    return voxel_pool_torch(feature, weight, plan)


def ours(feature: Tensor, weight: Tensor, plan: PoolPlan) -> Tensor:
    return voxel_pool(feature, weight, plan).movedim(1, -1).flatten(0, 3)


WAYS: dict[str, Callable[[Tensor, Tensor, PoolPlan], Tensor]] = {
    "ours": ours,
    "torch twin (embedding_bag)": in_torch,
    "gather, multiply, index_add_": with_products,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--channels", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1 if options.device == "cpu" else torch.get_num_threads())
    plan, sort = plan_of_rig(options.device)
    feature = torch.randn(len(plan.voxel_of_point), options.channels, device=options.device).requires_grad_()
    weight = torch.rand(plan.voxel_of_point.shape, device=options.device).requires_grad_()
    rows = plan.size * plan.grid.num_voxels
    cotangent = torch.randn(rows, options.channels, device=options.device)

    def floor(with_gradients: bool) -> None:
        torch.full((rows, options.channels), 1.0, device=options.device)
        for read in (feature, weight, plan.point, plan.first, plan.voxel):
            read.detach().sum()
        if with_gradients:
            for read in (cotangent, feature, weight, plan.voxel_of_point):
                read.detach().sum()
            for write in (feature, weight):
                torch.full_like(write, 1.0)

    def both(way: Callable[[Tensor, Tensor, PoolPlan], Tensor]) -> None:
        torch.autograd.grad(way(feature, weight, plan), (feature, weight), cotangent)

    expected = with_products(feature, weight, plan).detach()
    for way in WAYS.values():
        torch.testing.assert_close(way(feature, weight, plan).detach(), expected, atol=1e-3, rtol=1e-4)
    works: dict[str, Callable[[], object]] = {"floor": lambda: floor(False), "floor with": lambda: floor(True)}
    for name, way in WAYS.items():
        works[name] = lambda way=way: way(feature.detach(), weight.detach(), plan)
        works[f"{name} with"] = lambda way=way: both(way)
    works["sort"] = sort
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, work in works.items():
            times[name] += seconds(options.device, work, 1, warm_up=not times[name])
    ms = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
    inside, touched = len(plan.point), len(plan.voxel)
    print(f"{options.device}, float32, {options.channels} channels, median of {options.repeats} in turn")
    print(f"{plan.voxel_of_point.numel():,} points, {inside:,} inside, {touched:,} of {rows:,} voxels touched")
    print("| way | forward ms | / floor | with gradients ms | / floor |\n|---|---|---|---|---|")
    for name in ("floor", *WAYS):
        cells = ms[name], ms[name] / ms["floor"], ms[f"{name} with"], ms[f"{name} with"] / ms["floor with"]
        print("| {} | {:.1f} | {:.2f} | {:.1f} | {:.2f} |".format(name, *cells))
    print(f"sorting the points of a new geometry: {ms['sort']:.0f} ms")


if __name__ == "__main__":
    main()
