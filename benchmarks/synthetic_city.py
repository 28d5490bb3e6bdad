"""CPU seconds of the synthetic city on one core, against ray casting without windows.

Run: ``OMP_NUM_THREADS=1 python benchmarks/synthetic_city.py``
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

from lexivox.data.synthetic.drive import SyntheticDrive  # noqa: E402
from lexivox.data.synthetic.shapes import intersect  # noqa: E402
from lexivox.geometry.grid import OCC3D, POP3D  # noqa: E402


def seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return float(np.median(times))


@np.errstate(all="ignore")
def cast_everything(drive: SyntheticDrive) -> None:
    """The named alternative: the sweep's rays against all shapes, no windows."""
    scene, rig = drive.scene(0), drive.rig
    rays = scene.rotation @ rig.lidar_rotation @ rig.lidar_directions.reshape(3, -1)
    origin = scene.rotation @ rig.lidar_position + scene.position
    best = np.full(rays.shape[1], np.inf)
    for row in range(len(scene.shapes)):
        np.minimum(best, intersect(scene.shapes, row, origin, rays), out=best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keyframes", type=int, default=3)
    options = parser.parse_args()
    print("one core, six images of 288 x 160 and 32 x 720 beams; median CPU seconds")
    print("seed  shapes  pictures   sweep  no windows   pop3d   occ3d  sample")
    whole = []
    for seed in range(1, options.seeds + 1):
        drive, n = SyntheticDrive(seed), options.keyframes
        scene = drive.scene(0)
        parts = [
            seconds(lambda d=drive, s=scene: d.pictures(0, s), n),
            seconds(lambda d=drive, s=scene: d.sweep(0, s), n),
            seconds(lambda d=drive: cast_everything(d), 1),
            seconds(lambda d=drive, s=scene: d.voxel_labels(0, POP3D, s), n),
            seconds(lambda d=drive, s=scene: d.voxel_labels(0, OCC3D, s), n),
            seconds(lambda d=drive: d[0], n),
        ]
        whole.append(parts[-1])
        widths = (9, 7, 11, 7, 7, 7)
        row = " ".join(f"{value:{width}.3f}" for value, width in zip(parts, widths, strict=True))
        print(f"{seed:>4} {len(scene.shapes):>7} {row}")
    print(f"{1 / np.mean(whole):.1f} keyframes per CPU second")


if __name__ == "__main__":
    main()
