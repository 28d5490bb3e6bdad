"""Panoptic quality as nuscenes-devkit counts it, where the package is installed (``pip install nuscenes-devkit``).

Its evaluator is one file that needs numpy alone; the rest of the package and what that needs is not imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import NUSCENES16_POINTS, SEMANTICKITTI
from lexivox.evaluate.panoptic import MIN_POINTS, PanopticScore, Segments


@pytest.fixture(scope="module")
def devkit():
    package = importlib.util.find_spec("nuscenes")
    if package is None or package.origin is None:
        pytest.skip("no nuscenes-devkit")
    path = Path(package.origin).parent / "eval/panoptic/panoptic_seg_evaluator.py"
    spec = importlib.util.spec_from_file_location("devkit_panoptic", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PanopticEval


def scan(generator, classes, points):
    """Truth in blobs of one class and object, a prediction that moves borders, splits, and mistakes classes."""
    blob = torch.arange(points) // 60
    true = torch.randint(0, classes, (int(blob.max()) + 1,), generator=generator)[blob]
    said = torch.where(torch.rand(points, generator=generator) < 0.2, true.roll(25), true)
    said[said == 0] = 1
    return Segments(said, blob.roll(9) // 2 + 1), Segments(true, blob + 1)


@pytest.mark.parametrize(
    ("table", "min_points"),
    [(NUSCENES16_POINTS, MIN_POINTS["nuscenes"]), (SEMANTICKITTI, MIN_POINTS["semantickitti"]), (SEMANTICKITTI, 1)],
)
def test_every_number_agrees(devkit, table, min_points):
    generator = torch.Generator().manual_seed(min_points)
    ours = PanopticScore(table, min_points=min_points)
    theirs = devkit(table.num_classes, ignore=[table.ignore], min_points=min_points)
    for _ in range(5):
        said, true = scan(generator, table.num_classes, 6000)
        ours.update(said, true)
        theirs.addBatch(*(part.numpy().copy() for part in (said.label, said.segment, true.label, true.segment)))
    pq, sq, rq, all_pq, all_sq, all_rq = theirs.getPQ()
    iou, all_iou = theirs.getSemIoU()
    kept = list(table.evaluated)
    for name, numbers in (("pq", all_pq), ("sq", all_sq), ("rq", all_rq), ("iou", all_iou)):
        np.testing.assert_allclose(ours.per_class()[name][kept].numpy(), numbers[kept], atol=1e-9, rtol=0)
    assert ours.counts[:, kept].tolist() == [getattr(theirs, f"pan_{n}")[kept].tolist() for n in ("tp", "fp", "fn")]
    values = ours.compute().values
    assert [values[n] for n in ("pq", "sq", "rq", "miou")] == pytest.approx([pq, sq, rq, iou], abs=1e-9)
