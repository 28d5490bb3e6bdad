"""How good are the points that `lexivox annotate` proposes? Objects of the synthetic city, against the true points.

Every object that one camera sees whole (at least 5 points, 90 % of its points in that camera) is annotated twice: with
the box around its true cuboid as the mask, and with its true outline, as a good segmenter gives it.

    python benchmarks/annotate_city.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lexivox.annotate.keyframe import Keyframe
from lexivox.annotate.masks import PixelBox
from lexivox.annotate.points import Clean
from lexivox.data.classes import NUSCENES16
from lexivox.data.datasets import open_dataset
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.data.synthetic.concepts import Concept
from lexivox.data.types import CameraView
from lexivox.errors import ConfigError
from lexivox.geometry.camera import pixels_from_cam

MIN_POINTS, MIN_SHARE, NEAREST_M = 5, 0.9, 0.5
VEHICLE = (Concept.CAR, Concept.TRUCK, Concept.BUS, Concept.CAR_WINDOW, Concept.TYRE)
RIDDEN = (Concept.BICYCLE, Concept.MOTORCYCLE, Concept.TYRE, Concept.PEDESTRIAN)
OUTLINE = {
    "barrier": (Concept.BARRIER,),
    "bicycle": RIDDEN,
    "bus": VEHICLE,
    "car": VEHICLE,
    "motorcycle": RIDDEN,
    "pedestrian": (Concept.PEDESTRIAN,),
    "traffic_cone": (Concept.CONE,),
    "truck": VEHICLE,
}
"""Concepts of the pixels of each class."""

CLEANERS = {
    "all points in the mask": Clean(enabled=False),
    "HDBSCAN alone": Clean(reach_m=0.0),
    "HDBSCAN and reach (default)": Clean(),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One object in one camera: two masks and the points that are truly its own and seen there."""

    keyframe: Keyframe
    camera: str
    box: Tensor
    outline: Tensor
    truth: Tensor


def write_city(root: Path, drives: int, keyframes: int, image_hw: tuple[int, int], num_azimuths: int) -> Path:
    """A city with the truth of every pixel; seeds that nothing else uses."""
    specs = [DriveSpec(300 + number, keyframes, "val") for number in range(drives)]
    return write_nuscenes(root, specs, image_hw=image_hw, num_azimuths=num_azimuths, with_pixel_labels=True)


def cases(root: Path) -> Iterator[Case]:
    """Every object that one camera sees whole."""
    dataset = open_dataset("nuscenes", root, labels="panoptic", boxes=True)
    for number, sample in enumerate(dataset):
        keyframe, boxes = Keyframe.of(sample), sample.boxes
        for corners, inside, label in zip(*cuboids(keyframe), boxes.label.tolist(), strict=True):
            track = sample.point_labels.instance[inside]
            track = track[track > 0]
            if len(track) < MIN_POINTS:
                continue
            truth = sample.point_labels.instance == track.mode().values
            for row, view in enumerate(sample.views):
                seen = truth & keyframe.visible[row]
                box = box_around(corners, view)
                if box is None or seen.sum() < max(MIN_POINTS, MIN_SHARE * truth.sum()):
                    continue
                mask = box.mask(view.image_hw)
                wanted = torch.tensor([int(concept) for concept in OUTLINE[NUSCENES16.names[label]]])
                outline = mask & torch.isin(dataset.fine_pixels(number, view.name), wanted)
                yield Case(keyframe, view.name, mask, outline, seen)
                break


def cuboids(keyframe: Keyframe) -> tuple[list[Tensor], list[Tensor]]:
    """Corners (8, 3) of every labelled cuboid, ego frame, and True for the points inside."""
    boxes, xyz = keyframe.sample.boxes, keyframe.xyz_ego
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    corners, inside = [], []
    for center, size_m, yaw in zip(boxes.center, boxes.size_m, boxes.yaw_rad, strict=True):
        ego_from_box = torch.tensor([[yaw.cos(), -yaw.sin(), 0.0], [yaw.sin(), yaw.cos(), 0.0], [0.0, 0.0, 1.0]])
        corners.append(signs * size_m @ ego_from_box.T + center)
        inside.append((((xyz - center) @ ego_from_box).abs() < size_m / 2 + 0.05).all(dim=1))
    return corners, inside


def box_around(corners: Tensor, view: CameraView) -> PixelBox | None:
    """The box of a cuboid on an image; None where it is not wholly on it."""
    uv, depth_m = pixels_from_cam(view.ego_from_cam.inverse().apply(corners.double()), view.image_from_cam)
    (left, top), (right, bottom) = uv.amin(dim=0).tolist(), uv.amax(dim=0).tolist()
    height, width = view.image_hw
    if depth_m.min() < NEAREST_M or left < 0 or top < 0 or right > width or bottom > height:
        return None
    try:
        return PixelBox(left, top, right, bottom)
    except ConfigError:  # seen exactly from the side
        return None


def scores(found: list[Case], mask: str, clean: Clean) -> tuple[float, float, float, float]:
    """Mean precision, recall and IoU over the objects, and the median IoU."""
    rows = []
    for case in found:
        kept = torch.zeros_like(case.truth)
        kept[case.keyframe.propose(case.camera, getattr(case, mask), clean).kept] = True
        hits = int((kept & case.truth).sum())
        rows.append(
            (hits / max(1, int(kept.sum())), hits / int(case.truth.sum()), hits / int((kept | case.truth).sum()))
        )
    values = torch.tensor(rows)
    return *values.mean(dim=0).tolist(), float(values[:, 2].median())


def main(folder: str | None = None) -> None:
    root = Path(folder or tempfile.mkdtemp())
    found = list(cases(write_city(root, drives=4, keyframes=3, image_hw=(450, 800), num_azimuths=1080)))
    print(f"{len(found)} objects; precision, recall, IoU (means), median IoU")
    for mask in ("outline", "box"):
        for name, clean in CLEANERS.items():
            print(f"{mask:8} {name:28}", *(f"{value:.3f}" for value in scores(found, mask, clean)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
