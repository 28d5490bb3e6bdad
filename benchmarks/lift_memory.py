"""What a training step of the lift-splat encoder keeps, counted from sizes; or measured where there is a GPU.

    OMP_NUM_THREADS=1 python benchmarks/lift_memory.py                      # counted, nothing is computed
    OMP_NUM_THREADS=1 python benchmarks/lift_memory.py --forward small      # one forward pass on a CPU, really run
    python benchmarks/lift_memory.py --device cuda --step full              # one training step on a GPU, really run

Counted are the tensors that the backward pass needs, each storage once, by running the network on tensors without
contents (batch 1, six cameras, Occ3D's grid, past keyframes without gradients as published), and weights, gradients
and AdamW's two moments. A real step needs workspaces and fragments on top of that.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pop3d_speed import nuscenes_cameras
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lexivox.config import HeadConfig, LiftSplatConfig
from lexivox.data.types import Batch, Cameras, LidarSweep, Moment, Targets
from lexivox.encoders.lift_splat import LiftSplatEncoder
from lexivox.geometry.camera import crop_intrinsics, resize_intrinsics
from lexivox.geometry.grid import OCC3D
from lexivox.geometry.transform import RigidTransform
from lexivox.model import set_checkpointing
from lexivox.recipes.lifting import published_lift
from lexivox.recipes.occflownet import stereo_encoder

SETTINGS: dict[str, Callable[[], LiftSplatConfig]] = {"small": stereo_encoder, "full": published_lift}
VIEWS, GB = 6, 1e9


class Kept:
    """Bytes that autograd keeps while it is open, weights not counted."""

    alive: list[Tensor]

    def __init__(self, module: nn.Module, mode: FakeTensorMode) -> None:
        # Held on to, so that no storage's number is used twice.
        self.alive = [mode.from_tensor(p) for p in (*module.parameters(), *module.buffers())]
        self.own = {weight.untyped_storage()._cdata for weight in self.alive}
        self.storages: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.storages[storage._cdata] = storage.nbytes()
            self.alive.append(tensor)
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


def counted(mode: FakeTensorMode, module: nn.Module, run: Callable[[], object], bfloat16: bool) -> tuple[int, object]:
    kept = Kept(module, mode)
    with (
        torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        out = run()
    return kept.bytes, out


def count(config: LiftSplatConfig, bfloat16: bool, checkpointing: bool) -> dict[str, int]:
    """Bytes by part of a step whose current keyframe alone has gradients."""
    (height, width), (X, Y, Z) = config.image.image_hw, OCC3D.shape
    image = config.image.model_copy(update={"bfloat16": bfloat16})
    encoder = config.model_copy(update={"image": image}).build(OCC3D, fetch_weights=False).train()
    widths = {"density": 1, "semantic": 17}
    mlp = HeadConfig(hidden=256, num_layers=3)
    heads = nn.ModuleDict({name: mlp.build(encoder.channels, width) for name, width in widths.items()})
    if checkpointing:
        set_checkpointing(nn.ModuleDict({"encoder": encoder, "heads": heads}), "all")
    kept: dict[str, int] = {}
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def part(name: str, run: Callable[[], Any]) -> Any:
            kept[name], out = counted(mode, nn.ModuleList([encoder, heads]), run, bfloat16)
            return out

        images = torch.zeros(1, VIEWS, 3, height, width, dtype=torch.uint8)
        pyramid, finest = part("image network", lambda: encoder.image.with_finest(images))
        feature = pyramid[0].flatten(0, 1)
        costs = [torch.zeros(VIEWS, config.bins.count, *finest.shape[-2:])] if config.stereo else []
        part("depth network", lambda: encoder.depth_net(feature, torch.zeros(VIEWS, 27), *costs))
        pixels = VIEWS * feature.shape[-1] * feature.shape[-2]
        kept["pooling"] = pixels * (4 * config.context_channels + 12 * config.bins.count)
        pooled = torch.zeros(1, config.context_channels, X, Y, Z, requires_grad=True)
        now = part("block of the keyframe", lambda: encoder.frame_block(pooled))
        past = [torch.zeros_like(pooled, requires_grad=False)] * config.past
        volume = part("network over voxels", lambda: encoder.volume(torch.cat([*past, now], dim=1)))
        rows = volume.flatten(2)[0].T
        part("heads at all voxels", lambda: [head(rows) for head in heads.values()])
    kept["weights, gradients, moments"] = 16 * sum(p.numel() for m in (encoder, heads) for p in m.parameters())
    return kept


# ---------------------------------------------------------------------------------------------- really run


def batch_of(config: LiftSplatConfig, device: str) -> Batch:
    """Six views of noise now and in every past keyframe, half a metre apart."""
    recorded = nuscenes_cameras("cpu")
    (height, width), scale = config.image.image_hw, config.image.image_hw[1] / 1600
    scaled = resize_intrinsics(recorded.image_from_cam, scale, scale)
    intrinsics = crop_intrinsics(scaled, 0.0, 900 * scale - height)
    lowered = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, -1.8], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)

    def rig(metres: float) -> Cameras:
        moved = replace(lowered, translation=lowered.translation + torch.tensor([metres, 0.0, 0.0]))
        images = torch.randint(0, 256, (1, VIEWS, 3, height, width), dtype=torch.uint8, generator=generator)
        return Cameras(images, intrinsics, recorded.cam_from_grid @ moved, recorded.names)

    none = torch.zeros(0, dtype=torch.int64)
    sweep, origin = LidarSweep(torch.zeros(0, 3), torch.zeros(0), none, none), torch.zeros(1, 3)
    past = [Moment(o, torch.zeros(1), torch.ones(1) > 0, rig(-0.5 * o), sweep, origin) for o in config.image_offsets]
    return Batch(OCC3D, ("noise",), rig(0.0), sweep, origin, Targets(), around=tuple(past)).to(device)


def built(config: LiftSplatConfig, device: str) -> LiftSplatEncoder:
    torch.manual_seed(0)
    return config.build(OCC3D, fetch_weights=False).to(device)


def run_forward(config: LiftSplatConfig, device: str) -> str:
    encoder, batch = built(config, device).eval(), batch_of(config, device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        encoder(batch)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"forward: {wall:.1f} s of wall, {cpu:.1f} s of processor time, {peak - before:.2f} GB above the weights"


def run_step(config: LiftSplatConfig, device: str, bfloat16: bool, checkpointing: bool) -> str:
    encoder, batch = built(config, device).train(), batch_of(config, device)
    if checkpointing:
        set_checkpointing(encoder, "all")
    optimizer = torch.optim.AdamW(encoder.parameters())
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            encoder(batch).volume.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return f"training step: peak {torch.cuda.max_memory_allocated() / GB:.2f} GB, the encoder alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--forward", choices=SETTINGS)
    parser.add_argument("--step", choices=SETTINGS)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    options = parser.parse_args()
    if options.forward:
        print(run_forward(SETTINGS[options.forward](), options.device))
        return
    if options.step:
        print(run_step(SETTINGS[options.step](), options.device, not options.float32, options.checkpointing))
        return
    cases = [(s, b, c) for s in SETTINGS for b, c in ((False, False), (True, False), (True, True))]
    columns = [count(SETTINGS[setting](), bfloat16, again) for setting, bfloat16, again in cases]
    names = [f"{s}, {'bfloat16' if b else 'float32'}{', again' if c else ''}" for s, b, c in cases]
    print("| GB kept | " + " | ".join(names) + " |\n" + "|---" * (len(cases) + 1) + "|")
    for part in columns[0]:
        print(f"| {part} | " + " | ".join(f"{column[part] / GB:.2f}" for column in columns) + " |")
    print("| **sum** | " + " | ".join(f"**{sum(column.values()) / GB:.1f}**" for column in columns) + " |")


if __name__ == "__main__":
    main()
