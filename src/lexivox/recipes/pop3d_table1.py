"""Table 1 of POP-3D, one recipe per cell: the weight of language, resolution and backbone, depth of the heads.

Unless a cell says otherwise: ResNet-50 at 450x800, six epochs on every second keyframe, lambda 1, two layers in both
heads (paper 4.3). Scores are those of the whole validation split. ResNet-101 at 450x800 stands in the table twice, with
15.1 and with 15.4 (erratum 29): differences below 0.3 mean nothing.
"""

from __future__ import annotations

from typing import Literal

from lexivox.config import ExperimentConfig
from lexivox.evaluate.published import TABLE1 as NUMBERS
from lexivox.evaluate.published import PublishedNumber
from lexivox.recipes.pop3d import (
    RESNET50,
    RESNET101,
    pop3d,
    published_encoder,
    published_heads,
    published_supervision,
    published_training,
)

ROOT = "data/nuscenes"
EPOCHS, EVERY = 6, 2


def ablation(
    name: str,
    root: str,
    *,
    language: float = 1.0,
    scale: float = 0.5,
    depth: Literal[50, 101] = 50,
    occupancy_layers: int = 2,
    language_layers: int = 2,
) -> ExperimentConfig:
    """The base of the table with one thing changed.

    Args:
        name: of the experiment.
        root: of nuScenes.
        language: lambda, the weight of the language loss.
        scale: of 900x1600.
        depth: of the ResNet.
        occupancy_layers, language_layers: N_occ and N_ft.
    """
    base = pop3d(root)
    return base.changed(
        name=name,
        data=base.data.model_copy(update={"train_every": EVERY}),
        encoder=published_encoder(depth, scale, RESNET50 if depth == 50 else RESNET101),
        heads=published_heads(occupancy_layers, language_layers),
        supervision=published_supervision(language),
        train=published_training(EPOCHS, EVERY),
    )


def pop3d_table1a_lambda100(root: str = ROOT) -> ExperimentConfig:
    """Table 1a, lambda 1.00: published mIoU 12.0, IoU 30.0."""
    return ablation("pop3d_table1a_lambda100", root)


def pop3d_table1a_lambda050(root: str = ROOT) -> ExperimentConfig:
    """Table 1a, lambda 0.50: published mIoU 12.0, IoU 30.5."""
    return ablation("pop3d_table1a_lambda050", root, language=0.5)


def pop3d_table1a_lambda025(root: str = ROOT) -> ExperimentConfig:
    """Table 1a, lambda 0.25: published mIoU 11.9, IoU 30.5."""
    return ablation("pop3d_table1a_lambda025", root, language=0.25)


def pop3d_table1b_rn50_half(root: str = ROOT) -> ExperimentConfig:
    """Table 1b, 450x800, RN50: published mIoU 12.0."""
    return ablation("pop3d_table1b_rn50_half", root)


def pop3d_table1b_rn101_half(root: str = ROOT) -> ExperimentConfig:
    """Table 1b, 450x800, RN101: published mIoU 15.1."""
    return ablation("pop3d_table1b_rn101_half", root, depth=101)


def pop3d_table1b_rn50_full(root: str = ROOT) -> ExperimentConfig:
    """Table 1b, 900x1600, RN50: published mIoU 12.3."""
    return ablation("pop3d_table1b_rn50_full", root, scale=1.0)


def pop3d_table1b_rn101_full(root: str = ROOT) -> ExperimentConfig:
    """Table 1b, 900x1600, RN101: published mIoU 15.2."""
    return ablation("pop3d_table1b_rn101_full", root, scale=1.0, depth=101)


def pop3d_table1c_occ2_ft2(root: str = ROOT) -> ExperimentConfig:
    """Table 1c, N_occ 2, N_ft 2: published mIoU 15.4."""
    return ablation("pop3d_table1c_occ2_ft2", root, depth=101)


def pop3d_table1c_occ2_ft3(root: str = ROOT) -> ExperimentConfig:
    """Table 1c, N_occ 2, N_ft 3: published mIoU 15.3."""
    return ablation("pop3d_table1c_occ2_ft3", root, depth=101, language_layers=3)


def pop3d_table1c_occ3_ft2(root: str = ROOT) -> ExperimentConfig:
    """Table 1c, N_occ 3, N_ft 2: published mIoU 15.3."""
    return ablation("pop3d_table1c_occ3_ft2", root, depth=101, occupancy_layers=3)


def pop3d_table1c_occ3_ft3(root: str = ROOT) -> ExperimentConfig:
    """Table 1c, N_occ 3, N_ft 3: published mIoU 15.5."""
    return ablation("pop3d_table1c_occ3_ft3", root, depth=101, occupancy_layers=3, language_layers=3)


TABLE1: dict[str, dict[str, PublishedNumber]] = {
    recipe: {number.metric: number for number in NUMBERS if number.recipe == recipe}
    for recipe in dict.fromkeys(number.recipe for number in NUMBERS)
}
"""Recipe to its published numbers by metric, ``"mIoU"`` and in part a ``"IoU"``, in the order of the paper."""
