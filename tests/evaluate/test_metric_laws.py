"""Laws of every metric: parts add up to the whole, order means nothing, a sample counts once, bad input is named."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import isabstract

import numpy as np
import pytest
import torch

import lexivox.evaluate
from lexivox.data.benchmark_classes import OCC3D, SEMANTICKITTI
from lexivox.data.classes import NUSCENES16
from lexivox.data.types import VoxelLabels
from lexivox.errors import DataError, LexivoxError, ShapeError
from lexivox.evaluate.calibration import CalibrationScore
from lexivox.evaluate.dense import SEMANTICKITTI_PROTOCOL, DenseScore, occ3d_protocol
from lexivox.evaluate.depth import DepthScore
from lexivox.evaluate.lidar import LidarScore
from lexivox.evaluate.lidarseg import LidarsegScore
from lexivox.evaluate.metric import ExactSums, Metric, merge_all
from lexivox.evaluate.moving import MovingScore
from lexivox.evaluate.occupancy import OccupancyScore
from lexivox.evaluate.panoptic import PanopticScore, Segments
from lexivox.evaluate.rayiou import RayIouScore
from lexivox.evaluate.raypq import PanopticVolume, RayPqScore
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.unobserved import UnobservedScore
from lexivox.geometry.grid import VoxelGrid

GRID = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (6, 5, 4), "ego")
RAYS = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(7)).double(), dim=1)
ORIGIN = torch.tensor([[2.6, 2.4, 1.5]])
SAMPLES = 6


def ints(generator, high, shape, low=0):
    return torch.randint(low, high, shape, generator=generator)


def volumes(generator, high=18):
    return ints(generator, high, GRID.shape), ints(generator, high, GRID.shape)


def cloud(generator, classes, points=60):
    return Segments(ints(generator, classes, (points,)), ints(generator, 4, (points,)))


def occupancy_truth(generator):
    semantic = ints(generator, 18, GRID.shape, low=1).to(torch.uint8)
    return ints(generator, 18, GRID.shape, low=1), semantic, (semantic != NUSCENES16.free).to(torch.uint8)


@dataclass(frozen=True)
class Case:
    """How a metric is made, what a sample of it is, and inputs it must refuse, each with words of the refusal."""

    make: Callable[[], Metric]
    sample: Callable[[torch.Generator], tuple]
    ignored: Callable[[], tuple] | None
    bad: tuple[tuple[tuple, type[LexivoxError], str], ...]


def full(number, shape=(6, 5, 4), dtype=torch.int64):
    return torch.full(shape, number, dtype=dtype)


def points(label, segment=0, number=3):
    return Segments(full(label, (number,)), full(segment, (number,)))


def lidar_sample(g):
    return ints(g, 17, (50,)), ints(g, 17, (50,)), ints(g, 50, (70,))


def unobserved_sample(g):
    return tuple(ints(g, 2, GRID.shape).bool() for _ in range(3))


def with_flow(label, speed=0.0):
    return VoxelLabels(GRID, label, torch.full((*GRID.shape, 2), speed), 17)


def moving_sample(g):
    prediction, label = volumes(g)
    flow = 3.0 * torch.rand(*GRID.shape, 2, generator=g) - 1.0
    return prediction, VoxelLabels(GRID, label, flow, 17)


def retrieval_sample(g):
    return "car", torch.rand(30, generator=g), ints(g, 2, (30,)).bool(), ints(g, 30, (20,))


def depth_sample(g):
    return tuple(1 + 60 * torch.rand(2, 50, generator=g))


def calibration_sample(g):
    return torch.rand(50, generator=g), ints(g, 2, (50,)).bool()


DENSE_BAD = (
    ((full(1, (5, 6, 4)), full(1)), ShapeError, "must have one shape"),
    ((full(1).float(), full(1)), DataError, "must hold whole class numbers; got torch.float32"),
    ((full(float("nan"), dtype=torch.float32), full(1)), DataError, "must hold whole class numbers"),
    ((full(99), full(1)), DataError, r"got \[99\]"),
    ((full(1), full(-1)), DataError, r"got \[-1\]"),
)
NONE = torch.zeros(0)
CASES = {
    "dense": Case(
        lambda: DenseScore(occ3d_protocol("none")), volumes, lambda: (full(1), full(255)), DENSE_BAD
    ),
    "ssc": Case(
        lambda: DenseScore(SEMANTICKITTI_PROTOCOL), lambda g: volumes(g, 20), lambda: (full(1), full(255)), DENSE_BAD
    ),
    "rayiou": Case(
        lambda: RayIouScore(OCC3D, GRID, RAYS),
        lambda g: (*volumes(g), ORIGIN),
        lambda: (full(1), full(17), ORIGIN),
        (
            ((full(1, (5, 6, 4)), full(1), ORIGIN), ShapeError, "must have the grid's shape"),
            ((full(1.0, dtype=torch.float32), full(1), ORIGIN), DataError, "must be whole numbers"),
            ((full(1), full(18), ORIGIN), DataError, "from 0 to 17"),
            ((full(1), full(1), torch.zeros(0, 3)), DataError, "ray origins"),
            ((full(1), full(1), ORIGIN * torch.nan), DataError, "ray origins"),
            ((full(1), full(1), ORIGIN - 50), ShapeError, "ray origins"),
        ),
    ),
    "raypq": Case(
        lambda: RayPqScore(OCC3D, GRID, RAYS, min_rays=1),
        lambda g: (PanopticVolume(*volumes(g, 5)), PanopticVolume(*volumes(g, 5)), ORIGIN),
        lambda: (PanopticVolume(full(1), full(1)), PanopticVolume(full(17), full(0)), ORIGIN),
        (
            ((PanopticVolume(full(1), full(1)), PanopticVolume(full(99), full(1)), ORIGIN), DataError, "from 0 to 17"),
            ((PanopticVolume(full(1), full(-1)), PanopticVolume(full(1), full(1)), ORIGIN), DataError, "objects"),
            ((PanopticVolume(full(1), full(1, (3,))), PanopticVolume(full(1), full(1)), ORIGIN), ShapeError, "objects"),
        ),
    ),
    "moving": Case(
        lambda: MovingScore(OCC3D, "moving"),
        moving_sample,
        lambda: (full(1), with_flow(full(11))),
        (((full(1, (5, 6, 4)), with_flow(full(1))), ShapeError, r"must have one shape; got \(5, 6, 4\)"),),
    ),
    "panoptic": Case(
        lambda: PanopticScore(SEMANTICKITTI, min_points=2, groups={"novel": ["car", "road"]}),
        lambda g: (cloud(g, 20), cloud(g, 20)),
        lambda: (points(1), points(0)),
        (
            ((points(1), points(1, number=4)), ShapeError, "must label the same points"),
            ((points(20), points(1)), DataError, "must be 0 to 19"),
            ((points(1), points(1, -1)), DataError, "segment ids"),
        ),
    ),
    "occupancy": Case(
        lambda: OccupancyScore(NUSCENES16),
        occupancy_truth,
        lambda: (full(1), full(255), full(255, dtype=torch.uint8)),
        (
            ((full(1, (5, 6, 4)), full(1), full(1, dtype=torch.uint8)), ShapeError, "must have one shape"),
            ((full(1), full(99), full(1, dtype=torch.uint8)), DataError, r"got \[99\]"),
            ((full(-1), full(1), full(1, dtype=torch.uint8)), DataError, "got -1"),
        ),
    ),
    "lidarseg": Case(
        lambda: LidarsegScore(NUSCENES16),
        lambda g: (ints(g, 17, (50,)), ints(g, 17, (50,))),
        lambda: (full(1, (4,)), full(0, (4,))),
        (
            ((full(1, (4,)), full(1, (5,))), ShapeError, "a prediction and a label each; got 4 and 5"),
            ((full(18, (4,)), full(1, (4,))), DataError, "classes of the prediction"),
            ((full(1, (4,)), full(-1, (4,))), DataError, "classes of the label"),
        ),
    ),
    "lidar": Case(
        lambda: LidarScore(NUSCENES16, dup=True),
        lidar_sample,
        lambda: (full(1, (4,)), full(0, (4,)), torch.arange(4)),
        (
            ((full(1, (4,)), full(1, (5,)), torch.arange(4)), ShapeError, "a prediction and a label each; got 4 and 5"),
            ((full(-1, (4,)), full(1, (4,)), torch.arange(4)), DataError, "got -1"),
        ),
    ),
    "unobserved": Case(
        UnobservedScore,
        unobserved_sample,
        None,
        (((full(1).bool(), full(1, (5, 6, 4)).bool()), ShapeError, "must have one shape"),),
    ),
    "retrieval": Case(
        RetrievalScore,
        retrieval_sample,
        None,
        (
            (("car", torch.rand(3), full(1, (4,)).bool()), ShapeError, "must have a score each, 4; got 3"),
            (("car", full(float("nan"), (4,), torch.float32), full(1, (4,)).bool()), DataError, "got NaN"),
        ),
    ),
    "depth": Case(
        DepthScore,
        depth_sample,
        lambda: (torch.ones(4), torch.zeros(4)),
        (
            ((torch.ones(3), torch.ones(4)), ShapeError, r"got \(3,\)"),
            ((torch.ones(4) * torch.nan, torch.ones(4)), DataError, "must be finite; got 4"),
        ),
    ),
    "calibration": Case(
        lambda: CalibrationScore("test"),
        calibration_sample,
        lambda: (NONE, NONE.bool()),
        (
            ((torch.ones(3), torch.ones(4).bool()), ShapeError, "must be as many; got 3 and 4"),
            ((torch.tensor([1.5]), torch.ones(1).bool()), DataError, "must be from 0 to 1"),
            ((torch.tensor([torch.nan]), torch.ones(1).bool()), DataError, "must be from 0 to 1"),
        ),
    ),
}  # fmt: skip


def samples(name):
    generator = torch.Generator().manual_seed(3)
    return [(f"s{number}", CASES[name].sample(generator)) for number in range(SAMPLES)]


def counted(name, chosen):
    metric = CASES[name].make()
    for token, sample in chosen:
        metric.update(*sample, token=token)
    return metric


def same(one, other):
    """Bit by bit, but for the order of a list of rows."""

    def listed(state):
        return {key: sorted(map(str, value)) if key == "rows" else value for key, value in state.items()}

    assert one.compute() == other.compute()
    assert listed(one.state()) == listed(other.state())


def test_no_metric_is_left_out():
    for module in pkgutil.iter_modules(lexivox.evaluate.__path__, "lexivox.evaluate."):
        importlib.import_module(module.name)
    kinds = set(Metric.__subclasses__())
    kinds |= {kind for parent in kinds for kind in parent.__subclasses__()}
    assert {type(case.make()) for case in CASES.values()} == {kind for kind in kinds if not isabstract(kind)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_parts_add_up_to_the_whole_in_any_order(name, seed):
    all_samples, rng = samples(name), random.Random(seed)
    whole, shuffled = counted(name, all_samples), rng.sample(all_samples, SAMPLES)
    same(counted(name, shuffled), whole)
    cuts = sorted(rng.sample(range(SAMPLES + 1), 2))
    parts = [shuffled[: cuts[0]], shuffled[cuts[0] : cuts[1]], shuffled[cuts[1] :]]
    kept = [counted(name, part) for part in parts]
    before = json.dumps([part.state() for part in kept])
    same(merge_all(kept), whole)
    assert json.dumps([part.state() for part in kept]) == before, "merging changed a part"


@pytest.mark.parametrize("name", CASES)
def test_a_state_travels_as_json(name):
    whole, again = counted(name, samples(name)), CASES[name].make()
    again.restore(json.loads(json.dumps(whole.state(), allow_nan=False)))
    same(again, whole)
    again.update(*CASES[name].sample(torch.Generator().manual_seed(9)), token="later")
    assert again.num_samples == SAMPLES + 1


def test_the_package_offers_its_metrics():
    assert sorted(lexivox.evaluate.__all__) == dir(lexivox.evaluate)
    offered = [getattr(lexivox.evaluate, name) for name in lexivox.evaluate.__all__]
    kinds = {type(case.make()) for case in CASES.values()}
    assert {kind for kind in kinds if kind not in offered} <= {UnobservedScore, MovingScore}  # of runs, not of files
    with pytest.raises(AttributeError, match=r"module 'lexivox.evaluate' has no attribute 'Score'"):
        lexivox.evaluate.Score  # noqa: B018


def as_arrays(value):
    if isinstance(value, torch.Tensor):
        array = value.numpy().astype(np.uint16) if value.dtype == torch.int64 and value.ndim else value.numpy()
        array = array.copy()
        array.flags.writeable = False
        return array
    if isinstance(value, Segments | PanopticVolume):
        return type(value).of(*(as_arrays(getattr(value, field.name)) for field in fields(value)))
    return value


@pytest.mark.parametrize("name", CASES)
def test_arrays_of_numpy_count_alike(name):
    arrays = [(token, tuple(map(as_arrays, sample))) for token, sample in samples(name)]
    same(counted(name, arrays), counted(name, samples(name)))


@pytest.mark.parametrize("name", CASES)
def test_a_sample_counts_once(name):
    token, sample = samples(name)[0]
    metric = counted(name, [(token, sample)])
    with pytest.raises(DataError, match=r"must be counted once.*got .*s0"):
        metric.update(*sample, token=token)
    with pytest.raises(DataError, match=r"s0|'car' twice"):
        metric.merge(counted(name, [(token, sample)]))
    same(metric, counted(name, [(token, sample)]))


@pytest.mark.parametrize("name", CASES)
def test_the_report_names_protocol_and_samples(name):
    metric = counted(name, samples(name))
    text = metric.report("mine")
    assert metric.protocol in text
    assert "| mine |" in text
    assert f"{SAMPLES} samples" in text


@pytest.mark.parametrize("name", CASES)
def test_what_was_never_counted_has_no_numbers(name):
    empty = CASES[name].make().compute()
    assert not any(empty.values.values())  # none, or 0 where an official tool says 0
    assert not any(empty.counts.values())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ignored])
def test_a_sample_without_anything_to_count_is_counted_as_such(name):
    metric = counted(name, [("s0", CASES[name].ignored())])
    assert metric.compute().counts["samples_without_anything_counted"] == 1
    assert metric.total == 0


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, case in CASES.items() for number in range(len(case.bad))]
)
def test_bad_input_names_the_sample_and_counts_nothing(name, number):
    inputs, error, words = CASES[name].bad[number]
    metric = CASES[name].make()
    with pytest.raises(error, match=words) as refusal:
        metric.update(*inputs, token="s7")
    assert "s7" in str(refusal.value)
    same(metric, CASES[name].make())


def test_another_protocol_is_not_added():
    with pytest.raises(ShapeError, match="merged scores must follow one protocol"):
        DenseScore(occ3d_protocol("none")).merge(DenseScore(occ3d_protocol("lidar")))
    with pytest.raises(DataError, match="metrics to merge must be at least one"):
        merge_all([])


def test_exact_sums_do_not_depend_on_order():
    numbers = (torch.rand(200, generator=torch.Generator().manual_seed(0)).double() * 1e6).tolist()
    sums = [ExactSums(1), ExactSums(1)]
    for one, other in zip(numbers, reversed(numbers), strict=True):
        sums[0].add(torch.tensor([one], dtype=torch.float64))
        sums[1].add(torch.tensor([other], dtype=torch.float64))
    assert sums[0].units == sums[1].units
    assert float(sums[0].values()) == pytest.approx(sum(numbers), rel=1e-15)
    with pytest.raises(ShapeError, match="sums must be 1; got 2"):
        sums[0].restore([1, 2])
