"""Peak memory of a training step of POP-3D at published size, with and without gradient checkpointing.

    python benchmarks/pop3d_memory.py                 # CPU: the triplane encoder alone, float32
    python benchmarks/pop3d_memory.py --device cuda   # the whole model, bfloat16 autocast, AdamW; also its time

Every case runs in a process of its own. On a CPU the peak is the largest resident memory of the process less what it
held before the step; on a GPU it is what torch's allocator held at most.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from pop3d_speed import POP3D, System, level_sizes, nuscenes_cameras

from lexivox.ops.losses import cross_entropy, feature_mse, lovasz_softmax

NUM_POINTS = 25_000
"""LiDAR points with a feature of the teacher: what six cameras see of one sweep."""


def triplane_step(is_checkpointed: bool) -> None:
    system, cameras = System(50, 1.0), nuscenes_cameras("cpu")
    planes, padded = system.planes, system.image.preprocess.cameras(cameras)
    planes.checkpointing = is_checkpointed
    pyramid = [torch.randn(1, 6, 256, h, w).requires_grad_() for h, w in level_sizes(padded.image_hw)]
    before = status("VmRSS")
    field = planes(pyramid, padded)
    kept = status("VmRSS")
    (field.xy.square().mean() + field.yz.square().mean() + field.xz.square().mean()).backward()
    print(f"kept for the backward pass {kept - before:.2f} GB, peak {status('VmHWM') - before:.2f} GB")


def status(name: str) -> float:
    """Resident memory of this process now (VmRSS) or at most so far (VmHWM), in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e9


def whole_step(is_checkpointed: bool) -> None:
    """Forward, the published losses, backward and AdamW; median of the last of eight steps."""
    system, cameras = System(101, 1.0).cuda().train(), nuscenes_cameras("cuda")
    system.image.autocast = True
    system.planes.checkpointing = system.image.backbone.checkpointing = is_checkpointed  # type: ignore[assignment]
    optimizer = torch.optim.AdamW([p for p in system.parameters() if p.requires_grad], lr=1e-5, fused=True)
    label = torch.randint(0, 2, (POP3D.num_voxels,), device="cuda")
    lower, upper = (torch.tensor(corner, device="cuda") for corner in (POP3D.lower_m, POP3D.upper_m))
    xyz = lower + torch.rand(NUM_POINTS, 3, device="cuda") * (upper - lower)
    feature, owner = (
        torch.randn(NUM_POINTS, 512, device="cuda"),
        torch.zeros(NUM_POINTS, dtype=torch.int64, device="cuda"),
    )
    times = []
    for _ in range(8):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            field = system.planes(system.image(cameras.images), system.image.preprocess.cameras(cameras))
            logit = system.heads[0](field.dense().movedim(1, -1).flatten(0, -2)).float()
            language = system.heads[1](field.sample(xyz, owner)).float()
        loss = cross_entropy(logit, label) + lovasz_softmax(logit.softmax(-1), label)
        (loss + feature_mse(language, feature, torch.ones(NUM_POINTS, device="cuda"))).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated() / 1e9
    print(f"step {1e3 * sorted(times[3:])[2]:.0f} ms, peak {peak:.2f} GB")


def kept_at_least() -> float:
    """GB that the triplane encoder must keep for its backward pass in float32, from its sizes.

    Tokens once; in each layer the projected tokens, places and weights of all reads and the softmax, and rows of 256
    around the linear layers and norms: 12 for every query.
    """
    system, cameras = System(50, 1.0), nuscenes_cameras("cpu")
    padded = system.image.preprocess.cameras(cameras)
    tokens = 6 * 256.0 * sum(h * w for h, w in level_sizes(padded.image_hw))
    pairs = [len(system.planes.project(plane, padded).sample) for plane in range(3)]
    reads = sum(pairs[i] * 8 * 4 * depth * 2 for i, depth in enumerate((4, 32, 32)))
    queries = sum(h * w for h, w in system.planes.plane_hw)
    return 4.0 * (tokens + 3 * (tokens + 3 * reads + 12 * 256 * queries)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--case", choices=["plain", "checkpointed"], help="run one case in this process")
    options = parser.parse_args()
    step = triplane_step if options.device == "cpu" else whole_step
    if options.case:
        step(options.case == "checkpointed")
        return
    if options.device == "cpu":
        print(f"counted: kept {kept_at_least():.2f} GB without checkpointing", flush=True)
    for case in ("plain", "checkpointed"):
        print(case, end=": ", flush=True)
        subprocess.run([sys.executable, __file__, "--device", options.device, "--case", case], check=True)


if __name__ == "__main__":
    main()
