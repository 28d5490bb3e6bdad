"""Deformable sampling alone, at the sizes of POP-3D's cross-attention: kernel, torch twin, plain grid_sample.

    python benchmarks/deformable_sampling.py [--device cuda --precision bfloat16 --repeats 30]

The plain formulation reads lists of every camera's queries padded to the longest, as published; all of it is checked
against the kernel before anything is timed. Places are those of a real rig with offsets of a few cells.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import published_port as port
import torch
from pop3d_speed import System, ceilings, level_sizes, nuscenes_cameras, seconds
from torch import Tensor

from lexivox.ops import sampling
from lexivox.ops.attention import SeenQueries

PLANES = ("top, 8 samples a level", "side, 64 samples a level", "front, 64 samples a level")


class Case:
    """What one plane's queries read in six cameras."""

    def __init__(self, seen: SeenQueries, depth: int, level_hw: list[tuple[int, int]], dtype: torch.dtype, device: str):
        self.level_hw, self.count = level_hw, list(seen.count)
        tokens = sum(h * w for h, w in level_hw)
        size = torch.tensor([(w, h) for h, w in level_hw], device=device)
        offsets = 2.0 * torch.randn(len(seen.uv), 8, len(level_hw), depth, 2, 2, device=device)
        places = seen.uv[:, None, None, :, None] + offsets / size[:, None, None]
        self.value = torch.randn(len(self.count), tokens, 8, 32, device=device, dtype=dtype).requires_grad_()
        self.places = places.flatten(3, 4).requires_grad_()
        logits = torch.randn(self.places.shape[:-1], device=device)
        self.weights = logits.flatten(2).softmax(-1).view_as(logits).requires_grad_()

    def packed(self, gather: Callable[..., Tensor]) -> Tensor:
        return gather(self.value, self.level_hw, self.places, self.weights, self.count)

    def plain(self) -> Tensor:
        places, weights = (
            torch.nn.utils.rnn.pad_sequence(list(x.split(self.count)), batch_first=True)
            for x in (self.places, self.weights)
        )
        read = port.deformable_sampling(self.value.to(places.dtype), self.level_hw, places, weights)
        return torch.cat([rows[:n] for rows, n in zip(read, self.count, strict=True)]).to(self.value.dtype)

    def with_gradients(self, forward: Callable[[], Tensor]) -> None:
        out = forward()
        torch.autograd.grad(out, (self.value, self.places, self.weights), torch.ones_like(out))

    def floor(self, flops: float, bandwidth: float) -> float:
        """Seconds of a forward pass: four corners of 32 channels a read; values, places, weights and sums once."""
        reads = self.weights.numel()
        numbers = self.value.nbytes + self.places.nbytes + self.weights.nbytes + 256 * len(self.places) * 4
        return max(8.0 * 32 * reads / flops, numbers / bandwidth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of the values")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1 if options.device == "cpu" else torch.get_num_threads())
    dtype = getattr(torch, options.precision)
    system, cameras = System(50, 1.0), nuscenes_cameras("cpu")
    padded = system.image.preprocess.cameras(cameras)
    limits = ceilings(options.device, torch.float32)
    print(f"{options.device}, values {options.precision}, median of {options.repeats} in turn, ms")
    print("| plane | reads | floor | kernel | twin | plain | plain / kernel", end=" ")
    print("| with gradients: kernel | twin | plain | plain / kernel |")
    print("|" + "---|" * 11)
    kernel = sampling.deformable_gather_triton if options.device == "cuda" else sampling.deformable_gather_numba
    for plane, name in enumerate(PLANES):
        seen = system.planes.project(plane, padded)
        moved = SeenQueries(
            *(getattr(seen, f).to(options.device) for f in ("sample", "query", "uv")), seen.count, seen.share
        )
        case = Case(moved, (4, 32, 32)[plane], level_sizes(padded.image_hw), dtype, options.device)
        forwards = [
            lambda c=case: c.packed(kernel),
            lambda c=case: c.packed(sampling.deformable_gather_torch),
            case.plain,
        ]
        expected = forwards[2]().detach().float()
        for forward in forwards[:2]:
            error = float((forward().detach().float() - expected).norm() / expected.norm())
            assert error < (1e-2 if dtype == torch.bfloat16 else 1e-4), error
        print(row(name, case, forwards, limits, options), flush=True)


def row(
    name: str,
    case: Case,
    forwards: list[Callable[[], Tensor]],
    limits: tuple[float, float],
    options: argparse.Namespace,
) -> str:
    works: list[Callable[[], object]] = [*forwards, *(lambda f=f: case.with_gradients(f) for f in forwards)]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(options.repeats):
        for work, taken in zip(works, times, strict=True):
            taken += seconds(options.device, work, 1, warm_up=not taken)
    ms = [1e3 * statistics.median(taken) for taken in times]
    cells = [*ms[:3], ms[2] / ms[0], *ms[3:], ms[5] / ms[3]]
    numbers = " | ".join(f"{cell:.1f}" if i in (3, 7) else f"{cell:.3g}" for i, cell in enumerate(cells))
    return f"| {name} | {case.weights.numel() / 1e6:.1f} M | {1e3 * case.floor(*limits):.2g} | {numbers} |"


if __name__ == "__main__":
    main()
