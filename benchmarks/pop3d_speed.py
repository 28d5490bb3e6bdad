"""Speed of POP-3D's forward pass at published size, part by part, against the straightforward port.

    python benchmarks/pop3d_speed.py                     # CPU, one thread: minutes
    python benchmarks/pop3d_speed.py --precision bfloat16
    python benchmarks/pop3d_speed.py --device cuda --precision bfloat16 --repeats 20

Ours and the port run in turn in one process with the same weights and must roughly agree. Ceilings (a large matrix
product, a large copy) are measured in the same run; operations over the first and bytes over the second give each
part's floor.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import published_port as port
import torch
from torch import Tensor, nn

from lexivox.backbones.resnet import ResNet
from lexivox.data.synthetic.sensors import make_rig
from lexivox.data.types import Cameras
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.preprocess import Preprocessing
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.geometry.grid import POP3D
from lexivox.geometry.transform import RigidTransform
from lexivox.heads.pointwise import PointwiseHead
from lexivox.ops.deform_conv import ModulatedDeformConv2d

PARTS = ("backbone", "neck", "self attention", "cross attention", "feed forward", "heads")


@dataclass
class Clock:
    """Wall and processor seconds of named parts; the device is waited for at both ends."""

    device: str
    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def add(self, name: str, begin: tuple[float, float]) -> None:
        wall, cpu = self.now()
        self.wall[name] += wall - begin[0]
        self.cpu[name] += cpu - begin[1]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = self.now()
        yield
        self.add(name, begin)

    def listen(self, module: nn.Module, name: str) -> None:
        """Time every call of a module."""
        begins: list[tuple[float, float]] = []
        module.register_forward_pre_hook(lambda *_: begins.append(self.now()))
        module.register_forward_hook(lambda *_: self.add(name, begins.pop()))


class System(nn.Module):
    """POP-3D with ResNet-101 and random weights; offsets and attention depend on the input, as after training."""

    def __init__(self, depth: int, scale: float):
        super().__init__()
        resnet = ResNet(depth, style="caffe", dcn_stages=(3, 4), frozen_stages=1)
        preprocess = Preprocessing(is_bgr=True, std=(1.0, 1.0, 1.0), scale=scale, pad_multiple=32)
        self.image = ImageEncoder(256, num_levels=4, backbone=resnet, preprocess=preprocess, is_separable=False)
        self.planes = TriplaneEncoder(
            POP3D, channels=256, num_heads=8, num_layers=3, num_levels=4, anchors=(4, 32, 32), points_per_anchor=2,
            ffn_channels=512, num_cameras=6, dropout=0.1,
        )  # fmt: skip
        self.heads = nn.ModuleList([PointwiseHead(256, 512, 2, decoder_channels=256), PointwiseHead(256, 1024, 512)])
        for name, parameter in self.named_parameters():
            if name.split(".")[-1] == "weight" and any(part in name for part in ("offset", "attention_weights")):
                nn.init.normal_(parameter, std=0.02)

    def forward(self, cameras: Cameras, clock: Callable = nullcontext) -> list[Tensor]:
        levels = self.image(cameras.images)
        field = self.planes(levels, self.image.preprocess.cameras(cameras))
        with clock("heads"):
            rows = field.dense().movedim(1, -1).flatten(0, -2)
            return [head(rows).unflatten(0, (-1, *POP3D.shape)) for head in self.heads]


def nuscenes_cameras(device: str) -> Cameras:
    """Six views of noise, 900 x 1600, placed as in nuScenes, in the frame of the LiDAR."""
    rng = np.random.default_rng(0)
    rig = make_rig(rng, (900, 1600), 8)
    ego_from_lidar = RigidTransform(torch.tensor(rig.lidar_rotation), torch.tensor(rig.lidar_position))
    poses = [
        RigidTransform(torch.tensor(cam.rotation), torch.tensor(cam.position)).inverse() @ ego_from_lidar
        for cam in rig.cameras
    ]
    pose = RigidTransform.stack(poses)
    intrinsics = torch.tensor(np.stack([cam.image_from_cam for cam in rig.cameras]))
    images = torch.from_numpy(rng.integers(0, 256, (1, 6, 3, 900, 1600), dtype=np.uint8))
    names = tuple(cam.name for cam in rig.cameras)
    cameras = Cameras(images, intrinsics[None], RigidTransform(pose.rotation[None], pose.translation[None]), names)
    return cameras.to(device)


def listen(system: System, clock: Clock) -> None:
    clock.listen(system.image.backbone, "backbone")
    clock.listen(system.image.pyramid, "neck")
    for layer in system.planes.layers:
        clock.listen(layer.self_attention, "self attention")
        clock.listen(layer.cross_attention, "cross attention")
        clock.listen(layer.ffn, "feed forward")


# ---------------------------------------------------------------- what must be done at least


def convolution_work(module: nn.Module, run: Callable[[], object]) -> tuple[float, float]:
    """Operations of all convolutions in a module and numbers they read and write once, during one run."""
    flops, numbers = 0.0, 0.0

    def count(kernel: Tensor, pixels: int, inputs: tuple[Tensor, ...]) -> None:
        nonlocal flops, numbers
        flops += 2.0 * pixels * kernel.numel()
        numbers += inputs[0].numel() + pixels * len(kernel) + kernel.numel()

    def hook(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        count(conv.weight, output[:, 0].numel(), inputs)
        if conv in moved:  # the port calls the part that moves the taps, and not the module around it
            count(moved[conv].weight, output[:, 0].numel(), inputs)

    moved = {m.conv_offset: m for m in module.modules() if isinstance(m, ModulatedDeformConv2d)}
    handles = [m.register_forward_hook(hook) for m in module.modules() if isinstance(m, nn.Conv2d)]
    run()
    for handle in handles:
        handle.remove()
    return flops, numbers


def attention_work(system: System, cameras: Cameras) -> dict[str, tuple[float, float]]:
    """Operations and numbers of the transformer's parts and the heads, from their sizes and what the views see."""
    planes, C = system.planes, 256
    levels = [(h, w) for h, w in level_sizes(system.image.preprocess.cameras(cameras).image_hw)]
    tokens, queries = 6 * sum(h * w for h, w in levels), sum(h * w for h, w in planes.plane_hw)
    pairs = [len(planes.project(plane, system.image.preprocess.cameras(cameras)).sample) for plane in range(3)]
    per_head = [4 * depth * 2 for depth in (4, 32, 32)]
    reads = [pairs[i] * 8 * per_head[i] for i in range(3)]
    lengths = [h * w for h, w in planes.plane_hw]
    linear = (tokens + queries) * C * C + sum(lengths[i] * C * 8 * per_head[i] * 3 for i in range(3))
    cross = 2.0 * linear + 8.0 * 32 * sum(reads), 2.0 * tokens * C + 2 * queries * C + 6.0 * sum(reads)
    own = 2.0 * lengths[0] * (2 * C * 192 + 2 * C * C) + 8.0 * 32 * lengths[0] * 64, 5.0 * lengths[0] * C
    feed = 2.0 * queries * 2 * C * 512, queries * (2.0 * C + 2 * 512)
    voxels = 80_000
    heads = 2.0 * voxels * (C * 512 + 512 * 2 + C * 1024 + 1024 * 512), voxels * (C + 514.0)
    each = {"self attention": own, "cross attention": cross, "feed forward": feed}
    return {name: (3 * a, 3 * b) for name, (a, b) in each.items()} | {"heads": heads}


def level_sizes(image_hw: tuple[int, int]) -> list[tuple[int, int]]:
    return [(-(-image_hw[0] // stride), -(-image_hw[1] // stride)) for stride in (8, 16, 32, 64)]


def ceilings(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Operations and bytes per second: a large matrix product, and a copy far larger than any cache."""
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(1 << (30 if device == "cuda" else 26), device=device)
    target = torch.empty_like(source)
    products = seconds(device, lambda: left @ right, 7)
    copies = seconds(device, lambda: target.copy_(source), 7)
    return 2.0 * size**3 / min(products), 8.0 * len(source) / min(copies)


def seconds(device: str, work: Callable[[], object], repeats: int, warm_up: bool = True) -> list[float]:
    """Processor seconds on a CPU that others use too, wall seconds on a GPU."""
    if warm_up:
        work()
    times = []
    for _ in range(repeats):
        clock = Clock(device)
        with clock("work"):
            work()
        times.append(clock.wall["work"] if device == "cuda" else clock.cpu["work"])
    return times


# ---------------------------------------------------------------- the measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--depth", type=int, default=101, choices=[50, 101])
    parser.add_argument("--scale", type=float, default=1.0, help="of the images; 0.5 is the 450 x 800 of the ablations")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm-ups", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile our backbone and neck")
    parser.add_argument("--without-port", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device, is_half = options.device, options.precision == "bfloat16"
    system = System(options.depth, options.scale).eval().to(device)
    system.image.autocast = is_half
    plain = copy.deepcopy(system).to(memory_format=torch.contiguous_format)
    cameras = nuscenes_cameras(device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=is_half):
        work = work_of(plain, cameras)
        if options.compile:
            system.image.compile(mode="max-autotune-no-cudagraphs")
        report(options, work, system, plain, cameras)


def work_of(system: System, cameras: Cameras) -> dict[str, tuple[float, float]]:
    """Operations, and numbers read and written, of every part; convolutions are counted without being computed."""
    image = copy.deepcopy(system.image).to("meta")
    pixels = torch.zeros(6, 3, *image.preprocess.cameras(cameras).image_hw, device="meta")
    stages: list[Tensor] = []
    backbone = convolution_work(image.backbone, lambda: stages.extend(port.backbone(image.backbone, pixels)))
    neck = convolution_work(image.pyramid, lambda: image.pyramid(stages))
    return {"backbone": backbone, "neck": neck, **attention_work(system, cameras)}


def report(
    options: argparse.Namespace, work: dict[str, tuple[float, float]], system: System, plain: System, cameras: Cameras
) -> None:
    device = options.device
    clocks: dict[str, list[Clock]] = {"ours": [], "port": []}
    current: list[Clock] = [Clock(device)]
    listen_to_latest(system, current)
    runs = {
        "ours": lambda: system(cameras, current[0]),
        "port": lambda: port.forward(plain.image, plain.planes, list(plain.heads), cameras, current[0]),
    }
    if options.without_port:
        del runs["port"]
    for repeat in range(-options.warm_ups, options.repeats):
        outputs = {}
        for name, run in runs.items():
            current[0] = Clock(device)
            with current[0]("whole"):
                outputs[name] = run()
            print(f"{name} {repeat}:", dict(current[0].cpu), f"wall {current[0].wall['whole']:.3f}", flush=True)
            if repeat >= 0:
                clocks[name].append(current[0])
    if "port" in runs:
        agree(outputs["ours"], outputs["port"], 1e-1 if options.precision == "bfloat16" else 1e-2)
    print_table(options, work, clocks)


def agree(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    """A coarse check: a long chain of deformable convolutions with random offsets enlarges rounding."""
    for mine, other in zip(ours, theirs, strict=True):
        error = float((mine.double() - other.double()).norm() / other.double().norm())
        print(f"ours differs from the port by {error:.1e} of its size")
        assert error < tolerance, "the two must compute the same"


def listen_to_latest(system: System, current: list[Clock]) -> None:
    """Time the parts of our system on whichever clock is current."""

    class Latest(Clock):
        def add(self, name: str, begin: tuple[float, float]) -> None:
            current[0].add(name, begin)

    listen(system, Latest(current[0].device))


def print_table(
    options: argparse.Namespace, work: dict[str, tuple[float, float]], clocks: dict[str, list[Clock]]
) -> None:
    dtype = getattr(torch, options.precision)
    flops, bandwidth = ceilings(options.device, dtype)
    print(f"{options.device}, {options.precision}, {options.threads} threads, median of {options.repeats}; ceilings")
    print(f"{flops / 1e9:.0f} GFLOP/s and {bandwidth / 1e9:.1f} GB/s measured in this run")
    kind = "wall" if options.device == "cuda" else "cpu"
    print(
        f"\n| part | GFLOP | GB | floor ms | ours ms | ours / floor | port ms | port / ours |   ({kind} time)\n|"
        + "---|" * 8
    )
    floors = {name: max(ops / flops, numbers * dtype.itemsize / bandwidth) for name, (ops, numbers) in work.items()}
    for name in (*PARTS, "whole"):
        parts = PARTS if name == "whole" else (name,)
        ops, numbers, floor = (sum(table[p] for p in parts) for table in (
            {p: work[p][0] for p in PARTS}, {p: work[p][1] for p in PARTS}, floors))  # fmt: skip
        mine, theirs = (
            statistics.median(getattr(clock, kind)[name] for clock in runs) if runs else float("nan")
            for runs in (clocks["ours"], clocks["port"])
        )
        print(
            f"| {name} | {ops / 1e9:.0f} | {numbers * dtype.itemsize / 1e9:.2f} | {1e3 * floor:.1f} | {1e3 * mine:.1f} "
            f"| {mine / floor:.1f} | {1e3 * theirs:.1f} | {theirs / mine:.2f} |"
        )
    for name, runs in clocks.items():
        print(f"{name}: wall seconds of every run", ", ".join(f"{clock.wall['whole']:.3f}" for clock in runs))


if __name__ == "__main__":
    main()
