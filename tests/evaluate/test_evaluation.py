"""Whole evaluations on made-up keyframes: definitions, parts that add up, and everything that can be wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_sample
from scored import GRID, Drive, Guess, Words, drive, feature_of, with_labels

from lexivox.data.classes import NUSCENES16, NUSCENES16_FROM_RAW
from lexivox.data.types import IGNORED, LidarSweep, PointLabels
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.evaluation import Evaluation, Part
from lexivox.evaluate.methods import FixedMap, MapAnswer
from lexivox.evaluate.metric import Metric
from lexivox.evaluate.occupancy import label_volume
from lexivox.evaluate.pop3d import QuerySet
from lexivox.evaluate.protocol import PROTOCOLS, PUBLISHED, Pop3dProtocol
from lexivox.evaluate.run import evaluate
from lexivox.evaluate.truth import sweep_points, truth_of
from lexivox.geometry.grid import POP3D

ALL = tuple(PROTOCOLS.values())
QUERIES = QuerySet(
    {"jeep": ["car"], "anything green": ["terrain", "vegetation"]}, NUSCENES16.names, lambda i, s: s.point_labels.label
)


def scored(data: Drive, method=None, protocols=ALL, part: Part | None = None) -> Evaluation:
    methods = {"guess": method or Guess(), "map": FixedMap(torch.full(GRID.shape, 4), 17)}
    return evaluate(
        methods, data, GRID, NUSCENES16, protocols=protocols, queries=QUERIES, text_encoder=Words(), part=part
    )


# ------------------------------------------------------------------------------------------------ definitions


def test_every_definition_is_scored_once_and_named():
    table = scored(drive(2)).table()
    assert table.protocols == (
        "pop3d-occupancy/exact",
        "pop3d-lidar/unique",
        "pop3d-retrieval/cosine",
        "pop3d-occupancy/sampled100+clamped",
        "pop3d-lidar/dup+clamp",
        "pop3d-retrieval/dot+dup+clamp",
        "pop3d-lidar/dup+noise+clamp",
        "unobserved/voxels",
    )
    values = {p: table.rows[0].under(p) for p in table.protocols}
    assert {"miou", "miou_present", "iou_occupied", "miou_2class"} <= set(values["pop3d-occupancy/exact"].values)
    points = {p: s.counts["points"] for p, s in values.items() if "lidar" in p}
    assert points["pop3d-lidar/dup+clamp"] < points["pop3d-lidar/dup+noise+clamp"]
    for text in (table.to_json(), table.to_markdown()):
        assert all(protocol in text for protocol in table.protocols)


def test_points_are_chosen_as_the_protocol_says():
    sample = make_sample(num_points=900)
    sweep = sweep_points(sample, GRID)
    unique, dup = sweep.points("unique", "keep"), sweep.points("dup", "keep")
    assert unique.index.tolist() == sorted({*sweep.visible.nonzero()[:, 1].tolist()})
    expected = [(v, p) for v in range(3) for p in range(900) if sweep.visible_published[v, p]]
    assert list(zip(dup.view.tolist(), dup.index.tolist(), strict=True)) == expected
    border = sweep.visible & ~sweep.visible_published
    assert 0 < int(border.sum()) < 0.2 * int(sweep.visible.sum())  # the last row and column of 32 x 48 pixels
    inside = GRID.contains(sweep.xyz)
    assert 0 < int(inside.sum()) < 900
    assert sweep.points("all", "drop").index.tolist() == inside.nonzero()[:, 0].tolist()
    moved = sweep.points("all", "clamp").xyz
    assert bool(GRID.contains(moved).all())
    assert torch.equal(moved[inside], sweep.xyz[inside])


def test_noise_is_left_out_or_an_error():
    """Guesses are right wherever there is a class: only the noise can cost something."""
    sample = make_sample()
    visible = sweep_points(sample, GRID).points("unique", "keep")
    truth = torch.zeros(400, dtype=torch.int64)
    truth[visible.index] = feature_of(visible.xyz).argmax(dim=-1) + 1
    truth[visible.index[::4]] = 0  # every fourth point is noise
    strict = Pop3dProtocol(noise_points="errors")
    table = scored(Drive((with_labels(sample, truth),)), protocols=(Pop3dProtocol(), strict)).table()
    assert table.value("guess", "pop3d-lidar/unique", "miou_present") == 1.0
    number = int(truth[truth > 0].mode().values)
    guessed = feature_of(visible.xyz).argmax(dim=-1) + 1
    right = int((truth == number).sum())
    expected = right / (right + int((guessed[::4] == number).sum()))  # TP / (TP + FP on noise)
    iou = table.rows[0].under("pop3d-lidar/unique+noise").per_class["iou"]
    assert iou[NUSCENES16.names[number]] == pytest.approx(expected)


def test_published_voxels_and_scores_from_the_raw_clouds(golden):
    """From points and raw labels to the official numbers: both truths, clamped noise included, and all counts."""
    labels, case = np.load(golden / "pop3d_eval_labels.npz"), np.load(golden / "pop3d_eval_metrics.npz")
    samples, volumes = [], []
    for number, frame in enumerate(("f12", "f15", "f19")):
        xyz = torch.from_numpy(labels[f"{frame}/xyz"])
        raw = torch.from_numpy(labels[f"{frame}/lidarseg"]).long()
        none = torch.zeros(len(xyz), dtype=torch.int64)
        sample = replace(
            make_sample(number),
            lidar=LidarSweep(xyz, torch.zeros(len(xyz)), none, none),
            point_labels=PointLabels(NUSCENES16_FROM_RAW.apply(raw), none),
            views=(),
        )
        truth = truth_of(sample, POP3D, NUSCENES16, (PUBLISHED,)).voxels[PUBLISHED.occupancy]
        assert int((truth.semantic.numpy() != labels[f"{frame}/eval_target"]).sum()) <= 3
        occupied = torch.from_numpy(case[f"{frame}/occ_logits_f16"].astype(np.float32)).argmax(0) == 1
        assigned = torch.from_numpy(case[f"{frame}/assigned_class_of_occupied_voxels"]).long()
        samples.append(sample)
        volumes.append(label_volume(occupied, assigned, 17))

    class Recorded:
        def answer(self, sample, sweep):
            return MapAnswer(volumes[[s.token for s in samples].index(sample.token)], 17)

    evaluation = evaluate({"official": Recorded()}, Drive(tuple(samples)), POP3D, NUSCENES16, protocols=(PUBLISHED,))
    values = evaluation.table().rows[0].under("pop3d-occupancy/sampled100+clamped").values
    free, occupied = case["metric/voxels_class_agnostic/iou_percent"].tolist()
    assert 100 * values["miou"] == pytest.approx(float(case["metric/voxels_16plus1/mean_percent"]), abs=0.01)
    assert [100 * values["iou_free"], 100 * values["iou_occupied"]] == pytest.approx([free, occupied], abs=0.01)
    mean = float(case["metric/voxels_class_agnostic/mean_percent"])
    assert 100 * values["miou_2class"] == pytest.approx(mean, abs=0.01)


# ------------------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_add_up_to_the_whole(count):
    data = drive(5)
    whole = scored(data)
    parts = [scored(data, part=Part(number, count)) for number in range(1, count + 1)]
    assert sum(len(part.methods["guess"].tokens) for part in parts) == 5
    read = [Evaluation.from_json(part.to_json(), NUSCENES16) for part in parts]
    merged = read[0]
    for part in read[1:]:
        merged = merged.merge(part)
    merged.require_whole()
    assert merged.table() == whole.table()
    assert json.loads(whole.to_json())["methods"] == json.loads(merged.to_json())["methods"]


def test_counts_are_integers():
    def leaves(value):
        return [x for item in value for x in leaves(item)] if isinstance(value, list) else [value]

    content = json.loads(scored(drive(2)).to_json())
    for name, state in content["methods"]["guess"]["metrics"].items():
        if "retrieval" not in name:
            numbers = leaves([number for key, number in state.items() if key != "tokens"])
            assert all(isinstance(number, int) for number in numbers), name


def test_every_score_is_a_metric():
    metrics = scored(drive(1)).methods["guess"].metrics
    assert all(isinstance(metric, Metric) and metric.protocol == name for name, metric in metrics.items())


@pytest.mark.parametrize("total", [0, 1, 2, 7, 6019])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_hold_every_keyframe_once(total, count):
    ranges = [Part(number, count).indices(total) for number in range(1, count + 1)]
    assert [index for indices in ranges for index in indices] == list(range(total))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_a_part_reads():
    assert Part.parse("2/4") == Part(2, 4)
    for text in ("2", "a/b", "0/4", "5/4", "1/0", "-1/2"):
        with pytest.raises(ConfigError, match=r"a part must be (one of 1/n to n/n|written like 2/4); got"):
            Part.parse(text)


def test_what_must_not_be_added_is_refused():
    data = drive(4)
    first, second = scored(data, part=Part(1, 2)), scored(data, part=Part(2, 2))
    with pytest.raises(ShapeError, match=r"must hold different keyframes; got 2 of 'guess' in both, first sample-0"):
        first.merge(first)
    with pytest.raises(DataError, match=r"must be complete; got 1/2\. Evaluate the missing"):
        first.require_whole()
    for other in (
        scored(drive(5), part=Part(2, 2)),
        scored(data, part=Part(2, 2), protocols=(PUBLISHED,)),
        evaluate({"guess": Guess()}, data, GRID, NUSCENES16, protocols=ALL, part=Part(2, 2)),
        replace(second, subject="other weights"),
    ):
        with pytest.raises(ShapeError, match="merged parts must score the same methods on the same split; got"):
            first.merge(other)
    with pytest.raises(DataError, match="must be complete"):
        first.merge(replace(second, parts=(Part(2, 3),))).require_whole()


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": "x"}', "shorter", "negative", "foreign"])
def test_damaged_parts_are_one_line(damage):
    text = scored(drive(1)).to_json()
    content = json.loads(text)
    confusion = content["methods"]["guess"]["metrics"]["pop3d-lidar/unique"]["confusion"]
    if damage == "shorter":
        confusion.pop()
    elif damage == "negative":
        confusion[0][0] = -1
    elif damage == "foreign":
        content["split"]["table"] = "pandaset9"
    else:
        content = None
    with pytest.raises(DataError, match="a part must be lexivox-evaluation version 3; got") as refusal:
        Evaluation.from_json(damage if content is None else json.dumps(content), NUSCENES16)
    assert "\n" not in str(refusal.value)


# ------------------------------------------------------------------------------------------------ bad input


def test_answers_for_half_of_the_keyframes_say_so():
    data = drive(4)
    half = frozenset(data.tokens[:2])
    table = scored(data, Guess(known=half)).table()
    assert "guess answers 2 of 4 keyframes; its scores are of these only." in table.notes
    assert table.rows[0].under("pop3d-lidar/unique").counts["samples"] == 2
    alone = scored(Drive(data.samples[:2])).table()
    assert table.rows[0].scores == alone.rows[0].scores
    assert "guess answers 2 of 4" in table.to_markdown()


def test_a_method_without_any_answer_has_an_empty_row():
    table = scored(drive(2), Guess(known=frozenset())).table()
    assert table.rows[0].scores == ()
    assert "guess answers 0 of 2 keyframes; its scores are of these only." in table.notes


def test_a_map_of_another_shape_names_method_and_sample():
    with pytest.raises(ShapeError, match=r"map of 'guess' for sample-0 must have .* \(8, 8, 3\); got \(8, 8, 4\)"):
        scored(drive(2), Guess(shape=(8, 8, 4)))


def test_features_that_are_not_finite_name_method_and_sample():
    with pytest.raises(DataError, match=r"features of 'guess' must be finite; got 1 of \d+ points of sample sample-1"):
        scored(drive(2), Guess(broken="sample-1"))


def test_a_keyframe_without_a_label_that_counts_is_named_and_changes_no_share():
    data = drive(2)
    blind = with_labels(make_sample(9), torch.full((400,), IGNORED))
    table = scored(Drive((*data.samples, blind))).table()
    assert "1 of 3 keyframes hold no class that counts, only free space; the first is sample-9." in table.notes
    assert table.value("guess", "pop3d-lidar/unique", "miou_present") == scored(data).table().value(
        "guess", "pop3d-lidar/unique", "miou_present"
    )


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="an evaluation split must hold at least one sample; got none"):
        scored(Drive(()))


def test_a_sample_without_labels_is_named():
    with pytest.raises(DataError, match="must have point labels to be scored; got none in sample-0"):
        scored(Drive((replace(make_sample(), point_labels=None),)))
