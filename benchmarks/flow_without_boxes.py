"""Motion found in the sweeps themselves against motion of tracked boxes: the synthetic city, or a drive of PandaSet.

In the city truth is what its actors do. For every return of a neighbouring keyframe inside the grid: is it said to have
moved, and how far from the truth is the place of now that it is carried to (end-point error)? Nothing is trained.

    python benchmarks/flow_without_boxes.py --drives 12 --reach 3
    python benchmarks/flow_without_boxes.py --pandaset data/pandaset --sequence 002

On PandaSet the tracked cuboids are taken for the truth, and returns that no cuboid holds for standing. The method was
made on seeds 3 to 6 and 203 to 208 of the city.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch

from lexivox.data.clips import Horizon, clip_at
from lexivox.data.collate import collate
from lexivox.data.datasets import open_dataset
from lexivox.data.motion import Motion
from lexivox.data.synthetic.drive import SyntheticDrive
from lexivox.data.types import Clip, Moment
from lexivox.geometry.grid import OCC3D
from lexivox.supervision.found_boxes import FoundBoxes
from lexivox.supervision.motion import box_motion

MOVING_MPS, NEAR_M = 0.5, 0.4
Way = Callable[[Clip], Motion]


def by_labelled_boxes(clip: Clip) -> Motion:
    return box_motion(collate([clip], OCC3D), clip.offsets)


def by_found_boxes(clip: Clip) -> Motion:
    return by_labelled_boxes(FoundBoxes(OCC3D)(clip))


def clip_of(drive: SyntheticDrive, reach: int) -> Clip:
    samples = [drive.without_images(index) for index in range(2 * reach + 1)]
    return Clip(
        samples[reach], tuple(o for o in range(-reach, reach + 1) if o), (*samples[:reach], *samples[reach + 1 :])
    )


def true_velocity(drive: SyntheticDrive, clip: Clip, number: int) -> torch.Tensor:
    """Velocity of every return of a neighbour, m/s in the ego frame of now."""
    turn = (clip.current.global_from_ego.inverse() @ drive.global_from_world).rotation.float()
    own = {actor.track: turn @ torch.tensor([*actor.velocity, 0.0]).float() for actor in drive.actors}
    labels = clip.others[number].point_labels
    assert labels is not None
    return torch.stack([own.get(track, torch.zeros(3)) for track in labels.instance.tolist()])


class Count:
    """Counts of one way to find motion."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.errors: list[torch.Tensor] = []
        self.by_class: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, motion: Motion, moment: Moment, velocity: torch.Tensor) -> None:
        """``velocity`` of every return, m/s; rows of NaN are left out."""
        inside = OCC3D.contains(moment.lidar.xyz) & velocity.isfinite().all(1)
        xyz, velocity = moment.lidar.xyz[inside], velocity[inside]
        assert moment.point_label is not None
        label = moment.point_label[inside]
        numbers = torch.zeros(len(xyz), dtype=torch.int64)
        moved = motion.to_now(xyz, numbers, numbers + moment.offset)
        truth = velocity.norm(dim=1) > MOVING_MPS
        said = moved.is_moved | moved.is_unknown
        error = (moved.xyz - (xyz - velocity * moment.time_s)).norm(dim=1)
        self.errors.append(error[truth & moved.is_moved])
        for name, rows in {
            "said": said, "true": truth, "both": said & truth, "still": ~truth, "made up": said & ~truth,
            "unknown": truth & moved.is_unknown,
        }.items():  # fmt: skip
            self.sums[name] += int(rows.sum())
        told = truth & ~moved.is_unknown
        self.sums["error"] += float(error[told].sum())
        self.sums["told"] += int(told.sum())
        self.sums["no flow"] += float((velocity * moment.time_s)[truth].norm(dim=1).sum())
        for number in label[truth].unique().tolist():
            self.by_class[number][0] += int((said & truth & (label == number)).sum())
            self.by_class[number][1] += int((truth & (label == number)).sum())

    def row(self) -> str:
        n, found = self.sums, torch.cat(self.errors)
        return (
            f"{n['both'] / n['said']:.3f} | {n['both'] / n['true']:.3f} | {100 * n['made up'] / n['still']:.2f} % | "
            f"{n['error'] / n['told']:.2f} | {found.mean():.2f} | {found.median():.2f} | "
            f"{100 * (found < NEAR_M).double().mean():.1f} % | {100 * n['unknown'] / n['true']:.1f} %"
        )


def city(drives: int, first_seed: int, reach: int) -> Iterator[tuple[Clip, list[torch.Tensor]]]:
    """A clip of every drive, and the true velocities of every return of its neighbours."""
    for seed in range(first_seed, first_seed + drives):
        drive = SyntheticDrive(seed, 2 * reach + 1, image_hw=(8, 16), num_azimuths=1084)
        clip = clip_of(drive, reach)
        yield clip, [true_velocity(drive, clip, number) for number in range(2 * reach)]


def pandaset(root: str, sequence: str, reach: int) -> Iterator[tuple[Clip, list[torch.Tensor]]]:
    """Every clip of a drive that has all its neighbours, and the mean velocities of returns in tracked cuboids."""
    dataset = open_dataset("pandaset", root, [sequence], boxes=True, labels="semseg")
    horizon = Horizon.of(range(-reach, reach + 1))
    for index in range(reach, len(dataset) - reach):
        clip = clip_at(dataset, index, horizon)
        motion, velocities = by_labelled_boxes(clip), []
        for moment in collate([clip], OCC3D).around:
            moved = motion.to_now(moment.lidar.xyz, moment.lidar.batch, moment.lidar.batch + moment.offset)
            velocity = (moment.lidar.xyz - moved.xyz) / moment.time_s
            velocities.append(torch.where(moved.is_unknown[:, None], torch.nan, velocity))
        yield clip, velocities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=int, default=12)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--reach", type=int, default=3, help="neighbours on each side")
    parser.add_argument("--pandaset", help="root of PandaSet instead of the city")
    parser.add_argument("--sequence", default="002")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways: dict[str, Way] = {"tracked boxes": by_labelled_boxes, "found in the sweeps": by_found_boxes}
    clips = city(arguments.drives, arguments.first_seed, arguments.reach)
    if arguments.pandaset:
        clips = pandaset(arguments.pandaset, arguments.sequence, arguments.reach)
        del ways["tracked boxes"]
    counts, seconds, number_of_clips = {name: Count() for name in ways}, dict.fromkeys(ways, 0.0), 0
    for clip, velocities in clips:
        number_of_clips += 1
        around = collate([clip], OCC3D).around
        for name, way in ways.items():
            started = time.perf_counter()
            motion = way(clip)
            seconds[name] += time.perf_counter() - started
            for moment, velocity in zip(around, velocities, strict=True):
                counts[name].add(motion, moment, velocity)
    report(counts, {name: total / number_of_clips for name, total in seconds.items()}, number_of_clips)


def report(counts: dict[str, Count], seconds: dict[str, float], clips: int) -> None:
    found = counts["found in the sweeps"]
    true = found.sums
    static = true["no flow"] / true["true"]
    print(f"{clips} clips; {int(true['true'])} returns move, {int(true['still'])} stand; "
          f"a static world errs by {static:.2f} m on the former\n")  # fmt: skip
    print("| | precision | recall | standing moved | EPE, m | of found | median | within 0.4 m | unknown | s/clip |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, count in counts.items():
        print(f"| {name} | {count.row()} | {seconds[name]:.2f} |")
    print("\nrecall by class:", ", ".join(
        f"{number}: {hit / total:.2f} of {int(total)}" for number, (hit, total) in sorted(found.by_class.items())
    ))  # fmt: skip


if __name__ == "__main__":
    main()
