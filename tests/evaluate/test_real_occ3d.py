"""``evaluate --protocol occ3d`` on a real nuScenes keyframe with a real Occ3D label, from a run folder to scores.

The label is of another keyframe than the pictures, which random weights do not mind.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lexivox.config import (
    CameraEncoderConfig,
    DenseConfig,
    ExperimentConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    NuscenesData,
    TrainConfig,
    build_model,
)
from lexivox.data.datasets import open_dataset
from lexivox.data.formats import read_occ3d
from lexivox.evaluate.methods import MapAnswer
from lexivox.evaluate.protocol import Occ3dProtocol
from lexivox.evaluate.run import evaluate
from lexivox.experiment import Experiment
from lexivox.geometry.grid import OCC3D
from lexivox.recipes.occflownet import OCC3D_GRID
from lexivox.scoring import EvaluateOptions

SCENE, TOKEN = "scene-0061", "ca9a282c9e77460f8360f564131a8af5"


@pytest.fixture
def dataroot(realdata: Path, tmp_path: Path) -> Path:
    """The recording as it lies, with Occ3D's labels where they are unpacked: ``gts/SCENE/TOKEN/labels.npz``."""
    root = tmp_path / "nuscenes"
    (root / "gts" / SCENE).mkdir(parents=True)
    for part in ("v1.0-mini", "samples", "maps"):
        (root / part).symlink_to(realdata / "nuscenes" / part)
    (label,) = (realdata / "occ3d_nuscenes_label").iterdir()
    (root / "gts" / SCENE / TOKEN).symlink_to(label)
    return root


def config_of(root: Path) -> ExperimentConfig:
    image = ImageConfig(image_hw=(32, 64), widths=(4, 4, 4), channels=4, num_levels=1)
    head = HeadConfig(hidden=4, num_layers=1)
    return ExperimentConfig(
        name="tiny",
        grid=OCC3D_GRID,
        data=NuscenesData(root=str(root), voxels="occ3d", train_split=[SCENE], val_split=[SCENE]),
        encoder=CameraEncoderConfig(image=image, triplane=None, depth_bins=0, num_frequencies=None),
        heads=HeadsConfig(occupancy=None, density=head, language=None, semantic=head),
        supervision=[DenseConfig(free_label=17, max_voxels=500)],
        train=TrainConfig(steps=1),
        protocol=Occ3dProtocol(),
    )


@pytest.mark.slow
def test_a_run_that_learns_from_voxels_needs_no_labels_of_points(dataroot, tmp_path):
    """This recording has no lidarseg; a step is made, and scores come out under all masks and for rays."""
    experiment = Experiment(config_of(dataroot), tmp_path / "run")
    model = experiment.train()
    table = experiment.evaluate(model, options=EvaluateOptions(protocols=(Occ3dProtocol(),)))
    assert {"occ3d/none", "occ3d/lidar", "occ3d/camera", "rayiou/occ3d"} <= set(table.protocols)
    (row,) = table.rows
    values = next(s.values for s in row.scores if s.protocol == "occ3d/camera")
    assert 0.0 <= values["miou"] < 0.2  # nobody has learnt anything
    assert (tmp_path / "run" / "scores.json").is_file()


def test_the_label_itself_scores_one(dataroot):
    """Axes, frame, classes and masks are those of the file: 600,908 of its voxels are free."""
    dataset = open_dataset("nuscenes", dataroot, [SCENE], voxel_labels="occ3d")
    volume = dataset[0].voxel_labels
    assert volume.grid == OCC3D
    assert int((volume.label == volume.free_label).sum()) == 600_908

    class Copy:
        def answer(self, sample, sweep):
            return MapAnswer(sample.voxel_labels.label, 17)

    table = evaluate({"copy": Copy()}, dataset, OCC3D, dataset.classes, protocols=(Occ3dProtocol(),)).table()
    for score in table.rows[0].scores:
        for name in ("miou", "iou_occupied", "rayiou"):
            assert score.values.get(name, 1.0) == pytest.approx(1.0)
    raw = read_occ3d(dataroot / "gts" / SCENE / TOKEN / "labels.npz")
    assert torch.equal(raw.seen_by_camera, volume.seen_by_camera)
    assert build_model(config_of(dataroot), 0, None).grid == volume.grid
