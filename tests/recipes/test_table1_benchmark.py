"""The small replica of Table 1: which runs it makes, and what it prints."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from lexivox.config import LanguageConfig
from lexivox.recipes import RECIPES, TABLE1

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def replica(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("pop3d_table1")
    for name in ("pop3d_table1", "finished_runs"):
        sys.modules.pop(name, None)


@pytest.fixture
def cells(replica):
    return {recipe: replica.small(RECIPES[recipe](), "city", 6) for recipe in TABLE1}


def test_eleven_cells_are_nine_trainings(cells):
    assert len(cells) == 11
    assert len({config.name for config in cells.values()}) == 9
    by_name = {config.name: config for config in cells.values()}
    assert all(by_name[config.name] == config for config in cells.values())


def test_each_cell_changes_what_its_recipe_changes(cells):
    base = cells["pop3d_table1a_lambda100"]
    weights = [term.weight for name in list(TABLE1)[:3] for term in cells[name].supervision[1:]]
    assert weights == pytest.approx([3.0, 1.5, 0.75])
    assert [cells[name].encoder.image.image_hw for name in list(TABLE1)[3:7]] == [(80, 144)] * 2 + [(160, 288)] * 2
    assert [cells[name].encoder.image.backbone for name in list(TABLE1)[3:7]] == ["scratch", "street"] * 2
    depths = [(c.heads.occupancy.num_layers, c.heads.language.num_layers) for c in list(cells.values())[7:]]
    assert depths == [(2, 2), (2, 3), (3, 2), (3, 3)]
    assert all(c.train.steps == base.train.steps == 6 * 12 * 4 for c in cells.values())
    assert isinstance(base.supervision[1], LanguageConfig)


def test_the_table_has_mean_and_spread_beside_the_published_value(replica, cells, tmp_path):
    row = {"miou": 0.1, "iou_occupied": 0.4, "lidar_miou": 0.3}
    scores = {config.name: {0: row, 1: row | {"miou": 0.12}} for config in cells.values()}
    text = replica.markdown(cells, scores)
    # Mean of 10 and 12 is 11, their standard deviation sqrt(2) = 1.4.
    assert "| (a) | λ 0.50 | 11.0 ± 1.4 | 12.0 | 40.0 ± 0.0 | 30.5 | 30.0 ± 0.0 |" in text
    assert "| (c) | N_occ 3, N_ft 3 | 11.0 ± 1.4 | 15.5 | 40.0 ± 0.0 | – |" in text
    alone = replica.markdown(cells, {name: {0: row} for name in scores})
    assert "| (a) | λ 0.50 | 10.0 | 12.0 | 40.0 | 30.5 | 30.0 |" in alone  # one seed has no spread
    replica.write(tmp_path, cells, scores)
    saved = json.loads((tmp_path / "table1.json").read_text())
    assert saved["table"]["pop3d_table1a_lambda050"]["published"] == {"mIoU": 0.12, "IoU": 0.305}
    assert (tmp_path / "table1.md").read_text() == text
