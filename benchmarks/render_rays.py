"""Exact rendering of rays through a grid, forward and backward, against dense trilinear sampling in torch.

    python benchmarks/render_rays.py [--repeats 5] [--threads 1] [--device cuda]

One LiDAR turn, 38,400 rays of 40 m, through a street of 200 x 200 x 16 voxels. Every case runs in a process of its own:
medians of processor seconds, and the largest resident memory of a step less what the process held before it; on a GPU
seconds on the clock and what torch's allocator held. The alternative is what one writes without thinking twice:
`grid_sample` of density and channels at 100 even steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.geometry.grid import OCC3D
from lexivox.ops.render import composite, extinction_from_logit, render_depth, render_weights
from lexivox.ops.render_sampled import Sampling, render_sampled
from lexivox.ops.walk import Segments, unique_rows, walk

FAR_M, STEPS, EDGE_M, EPS = 40.0, 100, 0.4, 1e-4
BATCH, BATCH_RAYS = 4, 32_768
CASES = {
    "dense sampling, 17 channels": ("dense", 17),
    "packed samples 50 + 100, 17 channels": ("packed", 17),
    "exact, volume, 17 channels": ("volume", 17),
    "exact, touched rows, 17 channels": ("touched", 17),
    "exact, touched rows, 512 channels": ("touched", 512),
    "exact, density and depth alone": ("depth", 0),
    "exact, four volumes, 32,768 rays, 17 channels": ("batch", 17),
}


def street() -> Tensor:
    """Logits of density: ground, house fronts on both sides, parked boxes; air is not quite empty."""
    generator = torch.Generator().manual_seed(0)
    logit = torch.full(OCC3D.shape, -6.0)
    logit[:, :, :3] = 3.0
    logit[:, 60:64, :14] = logit[:, 136:140, :14] = 3.0
    for x in range(5, 200, 17):
        logit[x : x + 11, 76:81, :7] = logit[x + 3 : x + 14, 118:123, :7] = 3.0
    return logit + torch.randn(OCC3D.shape, generator=generator)


def lidar_turn() -> tuple[Tensor, Tensor]:
    """32 beams of 1,200 directions from 1.84 m above the ground."""
    azimuth, elevation = torch.arange(1200) * (2 * torch.pi / 1200), torch.linspace(-30.67, 10.67, 32).deg2rad()
    azimuth, elevation = (x.flatten() for x in torch.meshgrid(azimuth, elevation, indexing="ij"))
    flat = elevation.cos()
    towards = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], dim=-1)
    return torch.tensor([[0.94, 0.0, 1.84]]).repeat(len(towards), 1), towards


def dense(logit: Tensor, table: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Everything at every step, then weights."""
    middles = (torch.arange(STEPS, device=logit.device) + 0.5) * (FAR_M / STEPS)
    xyz = origins[:, None] + middles[:, None] * towards[:, None]
    places = OCC3D.normalized_from_xyz(xyz).flip(-1)[None, :, :, None]
    read = F.grid_sample(torch.cat([logit[None], table])[None], places, align_corners=False)[0, :, :, :, 0]
    tau = extinction_from_logit(read[0], EDGE_M) * (FAR_M / STEPS) * (places.abs() < 1).all(-1)[0, :, :, 0]
    weight = torch.exp(-(tau.cumsum(1) - tau)) * -torch.expm1(-tau)
    return (weight * middles).sum(1), (weight * read[1:]).sum(-1).T


def packed(logit: Tensor, table: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """The published two passes in our packed form."""
    extinction, batch = (
        extinction_from_logit(logit, EDGE_M)[None],
        torch.zeros(len(origins), dtype=torch.int64, device=logit.device),
    )
    rendered = render_sampled(OCC3D, extinction, {"f": table[None]}, origins, towards, batch, Sampling(far_m=FAR_M))
    return rendered.depth_m, rendered.features["f"]


def exact(logit: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor, Segments]:
    """Depth, weights, segments."""
    segments = walk(OCC3D, origins, towards, FAR_M)
    weights = render_weights(extinction_from_logit(logit.flatten(), EDGE_M)[segments.voxel], segments)
    return render_depth(weights, segments, "none"), weights.weight, segments


def volume(logit: Tensor, table: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the whole volume."""
    depth, weight, segments = exact(logit, origins, towards)
    return depth, composite(weight, segments.voxel, table, segments, EPS)


def touched(logit: Tensor, table: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the voxels where a weight counts, as heads compute them: `table` holds no others."""
    depth, weight, segments = exact(logit, origins, towards)
    keep = weight.detach() > EPS
    heavy = segments.select(keep)
    _, row = unique_rows(heavy.voxel, OCC3D.num_voxels)
    return depth, composite(weight[keep], row, table, heavy, EPS)


def batch(logit: Tensor, table: Tensor, origins: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """As `volume`, of the rays of a published step: a share of them in each of four samples."""
    segments = walk(OCC3D, origins, towards, FAR_M)
    sample = torch.arange(len(origins), device=logit.device) * BATCH // len(origins)
    row = segments.rows(sample * OCC3D.num_voxels)
    weights = render_weights(extinction_from_logit(logit.flatten(), EDGE_M)[row], segments)
    return render_depth(weights, segments, "none"), composite(weights.weight, row, table, segments, EPS)


def table_of(kind: str, channels: int, logit: Tensor, rays: tuple[Tensor, Tensor]) -> Tensor:
    if kind in ("dense", "packed"):
        return torch.randn(channels, *OCC3D.shape)
    if kind == "touched":
        _, weight, segments = exact(logit, *rays)
        return torch.randn(len(segments.voxel[weight > EPS].unique()), channels)
    return torch.randn(logit.numel(), channels)


def step_of(kind: str, channels: int, device: str) -> Callable[[], object]:
    """Forward and backward, for given gradients of what was rendered."""
    torch.manual_seed(0)
    rays, logit = tuple(x.to(device) for x in lidar_turn()), street().to(device)
    if kind == "batch":
        rays, logit = tuple(x[:BATCH_RAYS] for x in rays), logit.repeat(BATCH, 1, 1, 1)
    table = table_of(kind, channels, logit, rays).to(device).requires_grad_()
    logit.requires_grad_()
    slopes = torch.randn(len(rays[0]), device=device), torch.randn(len(rays[0]), channels, device=device)

    def step() -> object:
        if kind == "depth":
            return torch.autograd.grad(exact(logit, *rays)[0], logit, slopes[0])
        return torch.autograd.grad(globals()[kind](logit, table, *rays), (logit, table), slopes)

    return step


def memory(name: str) -> float:
    """Resident memory of this process now (VmRSS) or at most so far (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure_time(name: str, repeats: int, device: str) -> str:
    step, times = step_of(*CASES[name], device), []
    for _ in range(repeats + 1):
        begin = clock(device)
        step()
        times.append(clock(device) - begin)
    median, least = 1e3 * statistics.median(times[1:]), 1e3 * min(times[1:])
    return f"{median:.{1 if median < 10 else 0}f} | {least:.{1 if median < 10 else 0}f}"


def measure_memory(name: str, device: str) -> str:
    step = step_of(*CASES[name], device)
    step()  # compiles
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return f"{(torch.cuda.max_memory_allocated() - before) / 1e6:.0f}"
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    step()
    return f"{memory('VmHWM') - before:.0f}"


def in_a_process(case: str, what: str, options: argparse.Namespace) -> str:
    # Every block of memory goes back when it is freed; else blocks kept from before would hide new ones.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"} if what == "memory" else None
    settings = ("repeats", "threads", "device")
    arguments = [word for name in settings for word in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, __file__, "--case", case, "--what", what, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def copy_rate() -> float:
    """Bytes a second that a large copy reads and writes, into memory that is there already."""
    source, target = torch.ones(1 << 26), torch.zeros(1 << 26)
    times = []
    for _ in range(3):
        begin = time.process_time()
        target.copy_(source)
        times.append(time.process_time() - begin)
    return 2 * source.nbytes / min(times)


def what_must_move() -> None:
    """Rows of touched voxels once, their gradients once, rays once; and how long a copy of as much takes."""
    rays, logit = lidar_turn(), street()
    _, weight, segments = exact(logit, *rays)
    heavy = weight > EPS
    voxels, rows = len(segments.voxel.unique()), len(segments.voxel[heavy].unique())
    print(
        f"{len(weight) / len(rays[0]):.1f} segments a ray, {float(heavy.sum()) / len(rays[0]):.1f} with weight > {EPS}"
    )
    rate = copy_rate()
    for channels in (17, 512):
        floor = 8 * (voxels + rows * channels) + len(rays[0]) * (30 + 4 * channels)
        print(f"floor, {channels} channels: {floor / 1e6:.0f} MB, {1e3 * floor / rate:.1f} ms at {rate / 1e9:.0f} GB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--case", choices=CASES, help="one alone, in this process")
    parser.add_argument("--what", choices=["time", "memory"], default="time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case and options.what == "memory":
        print(measure_memory(options.case, options.device))
    elif options.case:
        print(measure_time(options.case, options.repeats, options.device))
    if options.case:
        return
    what_must_move()
    print("| case | median ms | least ms | peak MB |\n|---|---|---|---|", flush=True)
    for case in CASES:
        print("|", case, *(f"| {in_a_process(case, what, options)}" for what in ("time", "memory")), "|", flush=True)


if __name__ == "__main__":
    main()
