"""Time of asking a map in words, against what is least and against the plain way, in the same run.

    python benchmarks/text_query.py [--voxels 80000] [--dim 512] [--device cuda]

Least: every feature must be read once. Its time is that of the device's own sum over the same bytes. For a hundred
queries the multiplications may be what is least; both floors are printed. Plain: normalise all features, then one
product, as a notebook would.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.ask import Asker
from lexivox.grounding.calibration import Calibrator
from lexivox.grounding.phrase import parse_phrase
from lexivox.ops.cosine import cosine_rows, inverse_lengths


class HashEncoder:
    """Texts to fixed random unit vectors: encoding shall cost nothing here."""

    def __init__(self, dim: int) -> None:
        self.dim, self.space, self.known = dim, "hash", {}

    def encode(self, texts, prompts=None) -> Tensor:
        for text in texts:
            if text not in self.known:
                generator = torch.Generator().manual_seed(len(self.known))
                self.known[text] = F.normalize(torch.randn(self.dim, generator=generator), dim=0)
        return torch.stack([self.known[text] for text in texts])


def milliseconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median; on a GPU until it has finished."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(repeats + 2):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[2:])


def plain(features: Tensor, vectors: Tensor) -> Tensor:
    return F.normalize(features, dim=-1) @ vectors.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=80_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    count, dim, device = arguments.voxels, arguments.dim, arguments.device
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, dim, generator=generator).to(device)
    inverse = inverse_lengths(features)
    vectors = torch.randn(100, dim, generator=generator).to(device)
    timed = partial(milliseconds, device=device, repeats=arguments.repeats)
    square = torch.randn(2048, 2048, device=device, dtype=torch.bfloat16)
    rate = 2 * 2048**3 / timed(lambda: square @ square)  # operations per millisecond
    read = timed(lambda: features.sum())
    print(f"{count} voxels x {dim} float32 = {features.nbytes / 1e6:.0f} MB, read once in {read:.2f} ms on {device}")
    print(f"bfloat16 products: {rate / 1e9:.2f} TFLOP/s on 2048 x 2048\n")
    print("| work | ms | floor | ms / floor | plain ms |\n|---|---|---|---|---|")
    for queries in (1, 100):
        asked, exact = vectors[:queries], queries < 100
        floor = max(read, 2 * count * dim * queries / rate)
        mine = timed(lambda asked=asked, exact=exact: cosine_rows(features, inverse, asked, exact=exact))
        theirs = timed(lambda asked=asked: plain(features, asked))
        print(
            f"| scores, {queries} queries | {mine:.2f} | {floor:.2f} | {mine / floor:.2f} | {theirs:.2f} |", flush=True
        )
    if device == "cpu":
        whole_queries(features, read, timed)


def whole_queries(features: Tensor, read: float, timed: Callable[[Callable[[], object]], float]) -> None:
    """With ranking and, where calibrated, rivals and verdict."""
    count, dim = features.shape
    side = round(count ** (1 / 3)) + 1
    grid = VoxelGrid((0.0, 0.0, 0.0), (0.4, 0.4, 0.4), (side, side, side), "ego")
    index = torch.cartesian_prod(*[torch.arange(side)] * 3)[:count]
    encoder, phrases = HashEncoder(dim), [parse_phrase(f"phrase {n}") for n in range(100)]
    calibrator = Calibrator(encoder)
    calibrator.update(features[:4000], grid.voxel_m3)
    for name, known in (("", None), (", calibrated", calibrator.result())):
        ask = Asker(grid, index, features, encoder, known)
        prepared = timed(lambda ask=ask: ask.ask(phrases[0], 0.05))
        print(f"| a whole query{name} | {prepared:.2f} | {read:.2f} | {prepared / read:.2f} | – |", flush=True)
        many = timed(lambda ask=ask: list(ask.ask_many(phrases, 0.05, 100)))
        print(f"| 100 whole queries{name} | {many:.2f} | – | {many / prepared:.2f} x one | – |", flush=True)


if __name__ == "__main__":
    main()
