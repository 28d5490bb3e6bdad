"""A street made of boxes, seen by six painted cameras: realistic enough to judge a picture by."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from lexivox.errors import ConfigError
from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.answer import Verdict
from lexivox.grounding.phrase import parse_phrase
from lexivox.grounding.regions import connect
from lexivox.view.scene import (
    ClassLayer,
    Curve,
    HeatLayer,
    NamedImage,
    PointCloud,
    QueryResult,
    RunReport,
    ScoreTable,
    VoxelScene,
    VoxelSet,
)

CLASSES = ("road", "sidewalk", "building", "vegetation", "car", "pole", "pedestrian")
PALETTE = np.array(
    [
        [128, 100, 128],
        [220, 60, 200],
        [230, 215, 180],
        [30, 150, 60],
        [255, 130, 30],
        [110, 120, 140],
        [220, 40, 60],
    ],
    dtype=np.uint8,
)
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
EGO = VoxelGrid((-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), (200, 200, 16), "ego")
SMALL = VoxelGrid((-20.0, -20.0, -1.0), (0.4, 0.4, 0.4), (100, 100, 16), "ego")


def street_volume(seed: int, size: tuple[int, int, int] = (200, 200, 16)) -> np.ndarray:
    """Class + 1 of every voxel of a street along x, 0 where it is free."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(size, dtype=np.uint8)
    mid, low = size[1] // 2, 2
    volume[:, mid - 18 : mid + 18, low] = 1
    for side in (-1, 1):
        near, far = sorted((mid + side * 18, mid + side * 28))
        volume[:, near:far, low : low + 1] = 2
        x = 0
        while x < size[0]:
            length, height = int(rng.integers(14, 34)), int(rng.integers(6, 13))
            y0, y1 = sorted((mid + side * 28, mid + side * (28 + int(rng.integers(12, 26)))))
            if rng.random() < 0.8:
                volume[x : x + length, max(y0, 0) : y1, low : low + height] = 3
            x += length + int(rng.integers(2, 10))
        for x in rng.integers(4, size[0] - 8, 9):
            y = mid + side * 23
            volume[x, y, low : low + 8] = 6
            radius = int(rng.integers(3, 6))
            grid = np.indices((2 * radius + 1,) * 3) - radius
            ball = (grid**2).sum(axis=0) <= radius**2 + rng.integers(-3, 2, (2 * radius + 1,) * 3)
            part = volume[x - radius : x + radius + 1, y - radius : y + radius + 1, low + 5 : low + 6 + 2 * radius]
            cut = ball[: part.shape[0], : part.shape[1], : part.shape[2]]
            part[cut] = 4
        for x in rng.integers(4, size[0] - 16, 6):
            y = mid + side * 12
            volume[x : x + 11, y - 2 : y + 3, low + 1 : low + 3] = 5
            volume[x + 2 : x + 8, y - 2 : y + 3, low + 3] = 5
        for x in rng.integers(4, size[0] - 4, 5):
            volume[x : x + 1, mid + side * 21, low + 1 : low + 5] = 7
    volume[mid - 8 : mid + 14, mid - 4 : mid + 5, low + 1 :] = 0
    return volume


def street_scene(seed: int = 0, *, images: bool = True, grid: VoxelGrid = EGO) -> VoxelScene:
    truth = street_volume(seed, grid.shape)
    rng = np.random.default_rng(seed + 100)
    volume = np.where(rng.random(grid.shape) < 0.97, truth, 0)
    index = np.argwhere(volume)
    label = volume[tuple(index.T)].astype(np.int64) - 1
    heat = [HeatLayer(f"a parked {name}", _heat(index, label, k, rng)) for k, name in ((4, "car"), (3, "tree"))]
    truth_index = np.argwhere(truth)
    truth_label = truth[tuple(truth_index.T)].astype(np.int64) - 1
    lower, size = np.asarray(grid.lower_m), np.asarray(grid.voxel_size_m)
    points = truth_index[::7] * size + lower + rng.random((len(truth_index[::7]), 3)) * size
    return VoxelScene(
        grid,
        index,
        (ClassLayer("classes", label, CLASSES, PALETTE), *heat),
        tuple(NamedImage(name, painted_view(name, seed)) for name in CAMERAS) if images else (),
        VoxelSet("truth", truth_index, (ClassLayer("classes", truth_label, CLASSES, PALETTE),)),
        PointCloud(points),
        f"drive-{seed:02d} · 12.{seed} s",
    )


def _heat(index: np.ndarray, label: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    score = np.where(label == wanted, 0.28, 0.12) + 0.02 * rng.standard_normal(len(index))
    return (score + 0.03 * np.sin(index[:, 0] / 20)).astype(np.float32)


def painted_view(name: str, seed: int, height: int = 270, width: int = 480) -> np.ndarray:
    rng = np.random.default_rng(seed * 100 + len(name))
    image = np.zeros((height, width, 3), dtype=np.uint8)
    rows = np.linspace(0, 1, height)[:, None, None]
    image[:] = (1 - rows) * np.array([132, 176, 224]) + rows * np.array([210, 214, 214])
    image[height // 2 :] = np.array([96, 98, 104])
    for _ in range(9):
        x, w, h = int(rng.integers(0, width)), int(rng.integers(30, 90)), int(rng.integers(20, 110))
        image[height // 2 - h : height // 2 + 8, x : x + w] = rng.integers(90, 210, 3)
    return image


LETTER = ("#####", "#....", "#....", "####.", "#....", "#....", "#....")
"""An F as seen from above by somebody who looks forward: its mirror image is no letter."""


def letter_scene(frame: Literal["ego", "lidar"]) -> VoxelScene:
    """One red F flat on the ground ahead of the car, seven voxels tall (forward), five wide."""
    grid = VoxelGrid((-16.0, -16.0, -1.0), (1.0, 1.0, 1.0), (32, 32, 4), frame)
    index = []
    for row, line in enumerate(LETTER):
        for column, mark in enumerate(line):
            if mark == "#":
                forward, left = 28 - row, 18 - column
                index.append((forward, left, 1) if frame == "ego" else (31 - left, forward, 1))
    red = ClassLayer("letter", np.zeros(len(index), dtype=np.int64), ("F",), np.array([[230, 0, 0]], np.uint8))
    return VoxelScene(grid, np.array(index), (red,), ground_z_m=-1.0, title=f"F {frame}")


def read_letter(image: np.ndarray) -> tuple[str, ...]:
    """The red things of a picture as rows of marks, one per cell of a 7 x 5 raster over their box."""
    pixel = image.astype(np.int64)
    red = (pixel[..., 0] > 110) & (pixel[..., 1] < 60) & (pixel[..., 2] < 60)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    box = red[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    y, x = (np.arange(7) + 0.5) * height / 7, (np.arange(5) + 0.5) * width / 5
    marks = box[np.ix_(y.astype(int), x.astype(int))]
    return tuple("".join("#" if mark else "." for mark in line) for line in marks)


def run_report(num_scenes: int = 3, grid: VoxelGrid = EGO) -> RunReport:
    steps = np.arange(0, 2000, 5)
    rng = np.random.default_rng(0)
    fall = np.exp(-steps / 600) + 0.05 * rng.standard_normal(len(steps)) + 0.4
    return RunReport(
        title="POP-3D on synthetic streets",
        scenes=tuple(street_scene(seed, grid=grid) for seed in range(num_scenes)),
        tables=(
            ScoreTable(
                "Occupancy on held-out keyframes",
                ("IoU", "mIoU", *CLASSES[:4]),
                {
                    "lexivox": (0.412, 0.268, 0.71, 0.33, 0.401, 0.382),
                    "all occupied": (0.081, None, None, 0.01, 0.02, 1),
                },
                "IoU against exact LiDAR traversal; – = not measured.",
            ),
        ),
        queries=(
            QueryResult("a parked car", 0.612, 0.041, "a parked car"),
            QueryResult("a parked tree", 0.43, 0.12, "a parked tree"),
            QueryResult("dog", None, 0.0, "a parked car"),
        ),
        curves=(
            Curve("loss", steps, fall),
            Curve("occupancy", steps, fall * 0.5),
            Curve("language", steps, fall * 12.0),
        ),
        seconds={"data": 21.4, "train": 412.0, "evaluate": 0.42},
        facts={"command": "lexivox demo --out runs/demo", "torch": "2.13.0", "device": "cpu, 2 threads"},
        notes=("The streets are synthetic; the numbers say that the chain works, not how well in a city.",),
    )


class StreetApp:
    """Knows the classes by their names; anything else is unknown to it."""

    def __init__(self, num_frames: int = 3) -> None:
        self.kept = [street_scene(seed, images=False, grid=SMALL) for seed in range(num_frames)]
        self.asked: list[tuple[int, str]] = []
        self.loaded: list[int] = []

    def frames(self) -> list[str]:
        return [scene.title for scene in self.kept]

    def scene(self, frame: int) -> VoxelScene:
        self.loaded.append(frame)
        return replace(self.kept[frame], layers=self.kept[frame].layers[:1])

    def query(self, frame: int, text: str) -> HeatLayer:
        self.asked.append((frame, text))
        if text == "crash":
            raise RuntimeError("the weights melted\nsecond line")
        phrase = parse_phrase(text)
        for name in phrase.texts:
            if name not in (*CLASSES, "nothing"):
                raise ConfigError(f"query must be a class of this toy; got {name!r}. Try 'car'.")
        scene = self.kept[frame]
        label = scene.layers[0].label  # type: ignore[union-attr]
        score = np.isin(label, [CLASSES.index(name) for name in phrase.texts if name in CLASSES]).astype(np.float32)
        here, index = bool(score.any()), torch.from_numpy(scene.index[score > 0.5].astype(np.int64))
        regions = connect(scene.grid, index, torch.ones(len(index)))
        return HeatLayer(
            str(phrase), score, tuple(regions), Verdict(here, 0.004 if here else 0.6, 0.05, 0.5, len(index))
        )
