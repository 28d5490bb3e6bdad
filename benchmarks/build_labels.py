"""Time of building dense labels of one keyframe from the sweeps around it (``lexivox labels``).

    python benchmarks/build_labels.py PANDASET_ROOT [--repeat 3]

Reading the sweeps is measured apart: it depends on the disk and on how they are stored.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from lexivox.data.datasets import open_dataset
from lexivox.data.label_builder import LabelPolicy, build_labels
from lexivox.geometry.grid import OCC3D


class Held:
    """Keyframes kept in memory."""

    def __init__(self, dataset) -> None:
        self.samples = [dataset[i] for i in range(len(dataset))]
        self.classes, self.name = dataset.classes, dataset.name
        self.tokens, self.drives = dataset.tokens, dataset.drives

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        return self.samples[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    start = time.perf_counter()
    held = Held(open_dataset("pandaset", arguments.root, labels="semseg", boxes=True))
    read_s = (time.perf_counter() - start) / len(held)
    points = sum(sample.lidar.num_points for sample in held.samples)
    print(f"{len(held)} sweeps, {points:,} points; {1000 * read_s:.0f} ms to read each with its images")
    build_labels(held, 0, OCC3D, LabelPolicy(0, 0))  # compile
    for name, policy in (
        ("its own sweep", LabelPolicy(0, 0)),
        ("1 before, 1 after", LabelPolicy(1, 1)),
        ("all sweeps", LabelPolicy(len(held), len(held))),
        ("all sweeps, closed", LabelPolicy(len(held), len(held), close=True)),
    ):
        took = []
        for _ in range(arguments.repeat):
            start, cpu = time.perf_counter(), time.process_time()
            build_labels(held, len(held) // 2, OCC3D, policy)
            took.append((time.perf_counter() - start, time.process_time() - cpu))
        wall, cpu = (1000 * statistics.median(part) for part in zip(*took, strict=True))
        print(f"{name}: {wall:.0f} ms, {cpu:.0f} ms of processor")


if __name__ == "__main__":
    main()
