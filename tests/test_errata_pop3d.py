"""docs/pop3d.md keeps its word: every erratum has its row, every test it names exists. And what has no better place."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import make_sample

from lexivox.data.collate import collate
from lexivox.encoders.preprocess import PREPROCESSING
from lexivox.encoders.triplane import pillar_points
from lexivox.fields import CoordinateField
from lexivox.geometry.grid import POP3D, VoxelGrid
from lexivox.model import Scene
from lexivox.recipes.pop3d import published_encoder
from lexivox.supervision.language import LanguageDistillation
from lexivox.supervision.occupancy import LidarOccupancy

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/pop3d.md").read_text(encoding="utf-8")
GRID = VoxelGrid((-12.0, -12.0, -2.0), (3.0, 3.0, 2.0), (8, 8, 2), "lidar")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    part = PAGE.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_there_once_and_in_order():
    assert [int(row[0]) for row in rows("Errata of the specification, row by row")] == list(range(1, 36))


def test_every_row_is_a_test_or_a_choice():
    for number, what, where in rows("Errata of the specification, row by row"):
        assert len(what) > 20, number
        assert where.startswith("`tests/") or "Choice:" in what, number
    for numbers, where in rows("Golden numbers"):
        assert where.startswith("`tests/"), numbers


@pytest.mark.parametrize("name", named_tests())
def test_a_named_test_exists(name):
    file, _, function = name.partition("::")
    assert (ROOT / file).is_file()
    assert not function or function in functions(ROOT / file)


# ------------------------------------------------------------------------------------------------ golden numbers


def test_anchors_of_the_pillars():
    """Spec pop3d 11, as shares of the pillar's length."""
    length_m, lower_m = (8.0, 102.4, 102.4), (-5.0, -51.2, -51.2)
    axes, expected = (2, 0, 1), [[0.0625, 0.3541667, 0.6458333, 0.9375]]
    expected += 2 * [[0.00488281, 0.03682586, 0.0687689, 0.99511719]]
    for plane, count in enumerate((4, 32, 32)):
        along = pillar_points(POP3D, plane, count)[0, :, axes[plane]]
        share = (along - lower_m[plane]) / length_m[plane]
        shown = share if count == 4 else share[[0, 1, 2, -1]]
        assert shown.tolist() == pytest.approx(expected[plane], abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "padded", "levels", "tokens"),
    [
        (1.0, (928, 1600), [(116, 200), (58, 100), (29, 50), (15, 25)], 30_825),
        (0.5, (480, 800), [(60, 100), (30, 50), (15, 25), (8, 13)], 7_979),
    ],
)
def test_feature_sizes_and_tokens(scale, padded, levels, tokens):
    """Spec pop3d 2.2."""
    with torch.device("meta"):
        image = published_encoder(50, scale, None).image
        encoder = image.model_copy(update={"dcn_stages": ()}).build()  # deformed or not, sizes are the same
        content = torch.zeros(1, 3, 900, 1600, dtype=torch.uint8)
        prepared = replace(PREPROCESSING["bgr"], scale=scale, pad_multiple=32)(content, torch.zeros(1))
        assert tuple(prepared.shape[-2:]) == padded
        found = [tuple(level.shape[-2:]) for level in encoder.pyramid(encoder.backbone(prepared))]
    assert found == levels
    assert sum(h * w for h, w in found) == tokens


# ------------------------------------------------------------------------------------------- batches (erratum 17)


class Rows(torch.nn.Module):
    """A head whose answer depends on the place, as any network's does."""

    def __init__(self, channels):
        super().__init__()
        self.linear = torch.nn.Linear(3, channels)

    def forward(self, xyz):
        return self.linear(xyz)


def test_losses_of_a_batch_are_those_of_its_rows():
    """Cross-entropy and feature loss of two keyframes are the means over the rows of both, Lovász is of the batch."""
    samples = [make_sample(0, 300), make_sample(1, 500)]
    heads = {"occupancy": Rows(2), "language": Rows(8)}
    supervisions = (LidarOccupancy(target="dense", max_voxels=0), LanguageDistillation(loss="mse", outside="clamp"))

    def terms(chosen) -> tuple[dict[str, float], int]:
        sensed, found = collate(chosen, GRID), {}
        for supervision in supervisions:
            batch = supervision.prepare(sensed, torch.Generator().manual_seed(0))
            scene = Scene(CoordinateField(GRID, 0, len(chosen), torch.device("cpu")), heads, len(chosen))
            found |= {name: float(value.detach()) for name, value in supervision(scene, batch).items()}
        return found, len(batch.targets.language.xyz)

    (one, first), (two, second), (both, rows_of_both) = terms(samples[:1]), terms(samples[1:]), terms(samples)
    assert rows_of_both == first + second
    assert both["occupancy/ce"] == pytest.approx((one["occupancy/ce"] + two["occupancy/ce"]) / 2, rel=1e-5)
    mean = (one["language"] * first + two["language"] * second) / rows_of_both
    assert both["language"] == pytest.approx(mean, rel=1e-5)
