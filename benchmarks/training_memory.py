"""Peak memory and time of one training pass through the full-size heads, with activations kept and computed again.

    OMP_NUM_THREADS=1 python benchmarks/training_memory.py

Every case runs in a process of its own; memory is what its resident set grew by, from before the pass to its peak.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from lexivox.heads.pointwise import PointwiseHead

CASES = {
    "occupancy 256-512-256-2": (512, 2, 256, 80_000),
    "language 256-1024-1024-512": (1024, 512, None, 80_000),
}
"""hidden, out, decoder_channels, rows: every voxel of 100 x 100 x 8."""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: str, checkpointing: bool) -> tuple[float, float]:
    """MB and seconds of forward and backward through one head."""
    hidden, out, decoder, rows = CASES[case]
    head = PointwiseHead(256, hidden, out, decoder_channels=decoder, checkpointing=checkpointing)
    features = torch.randn(rows, 256, requires_grad=True)
    head(features[:64]).square().mean().backward()  # lazy set-up is not counted
    before, started = peak_mb(), time.perf_counter()
    head(features).square().mean().backward()
    return peak_mb() - before, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    if arguments.case:
        print("{:.0f} {:.1f}".format(*measure(arguments.case, arguments.again)))
        return
    print("| head, 80,000 rows | kept | computed again |\n|---|---|---|")
    for case in CASES:
        cells = []
        for again in ([], ["--again"]):
            command = [sys.executable, __file__, "--case", case, *again]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            cells.append("{} MB, {} s".format(*found))
        print(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
