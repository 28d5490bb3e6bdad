"""The retrieval benchmark asked of methods with known features, against a slow twin; what is skipped is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference.metrics import average_precision
from scored import GRID, Guess, Words, drive, feature_of

from lexivox.data.retrieval import RetrievalAnnotation, read_retrieval, write_retrieval
from lexivox.errors import DataError
from lexivox.evaluate.benchmark import RetrievalBenchmark
from lexivox.evaluate.evaluation import MethodScore, Part
from lexivox.evaluate.methods import FixedMap
from lexivox.evaluate.protocol import PUBLISHED, Pop3dProtocol
from lexivox.evaluate.retrieval import RetrievalScore
from lexivox.evaluate.truth import sweep_points
from lexivox.geometry.voxelize import clamp_to_grid

DATA = drive(4)
PARTS = ("train", "val", "val", "test")
PROTOCOLS = (Pop3dProtocol(), PUBLISHED, Pop3dProtocol(outside="drop"))


def annotations() -> list[RetrievalAnnotation]:
    made = []
    for number, (sample, part) in enumerate(zip(DATA.samples, PARTS, strict=True)):
        generator = torch.Generator().manual_seed(number)
        mask = torch.rand(sample.lidar.num_points, generator=generator) < 0.1
        seen = sweep_points(sample, GRID).points("dup", "keep").index
        made.append(RetrievalAnnotation(sample.token, part, f"query {'abc'[number % 3]}", mask, seen))
    return made


def asked(given, method=None, part: Part | None = None, protocols=PROTOCOLS) -> dict[str, MethodScore]:
    samples = {sample.token: sample for sample in DATA.samples}
    scores = {"guess": MethodScore({}), "map": MethodScore({})}
    methods = {"guess": method or Guess(), "map": FixedMap(torch.full(GRID.shape, 4), 17)}
    RetrievalBenchmark(given, samples.get).score(scores, methods, GRID, Words(), protocols, part)
    return scores


def twin(annotation: RetrievalAnnotation, protocol: Pop3dProtocol) -> tuple[float, float]:
    """Point by point: AP of all and of visible points."""
    sample = next(s for s in DATA.samples if s.token == annotation.token)
    xyz = sweep_points(sample, GRID).xyz
    places = clamp_to_grid(GRID, xyz).to(xyz.dtype) if protocol.outside == "clamp" else xyz
    vector = Words().encode([annotation.query])[0]
    scores = {}
    for point, place in enumerate(places):
        if protocol.outside == "drop" and not bool(GRID.contains(place[None])):
            continue
        feature = feature_of(place[None])[0]
        length = float(feature.norm()) if protocol.similarity == "cosine" else 1.0
        scores[point] = float(feature @ vector) / length
    seen = annotation.matching.tolist()
    visible = [p for p in (seen if protocol.points == "dup" else sorted(set(seen))) if p in scores]
    ranked = [[scores[p] for p in points] for points in (scores, visible)]
    hits = [[bool(annotation.mask[p]) for p in points] for points in (scores, visible)]
    return tuple(average_precision(s, h) for s, h in zip(ranked, hits, strict=True))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.retrieval)
def test_average_precision_equals_the_slow_twin(protocol):
    given = annotations()
    metrics = asked(given)["guess"].metrics
    expected = [twin(annotation, protocol) for annotation in given]
    members = {"train": [0], "val": [1, 2], "test": [3], "eval": [1, 2, 3]}
    for split, numbers in members.items():
        values = metrics[f"{protocol.retrieval}/{split}"].compute().values
        for number, name in enumerate(("map", "map_visible")):
            mean = sum(expected[i][number] for i in numbers) / len(numbers)
            assert values[name] == pytest.approx(mean, abs=2e-3)  # float32 ties
    assert metrics[f"{protocol.retrieval}/eval"].compute().counts == {"samples": 3, "queries": 3, "skipped": 0}


def test_a_method_without_features_is_not_asked():
    assert asked(annotations())["map"].metrics == {}


class Teacher(Guess):
    """Knows only what cameras see."""

    def answer(self, sample, sweep):
        answer = super().answer(sample, sweep)
        seen = sweep.visible.any(dim=0)

        class OnlySeen:
            def volume(self):
                return None

            def solid(self):
                return None

            def at(self, points):
                return answer.at(points) if bool(seen[points.index].all()) else None

        return OnlySeen()


def test_a_teacher_has_visible_numbers_only():
    student, teacher = asked(annotations()), asked(annotations(), Teacher())
    for protocol in PROTOCOLS[:2]:
        name = f"{protocol.retrieval}/eval"
        of_student, of_teacher = (scores["guess"].metrics[name].compute() for scores in (student, teacher))
        assert of_teacher.values["map"] is None
        assert of_teacher.values["map_visible"] == pytest.approx(of_student.values["map_visible"])


def test_what_does_not_fit_is_skipped_and_counted():
    given = annotations()
    given[1] = replace(given[1], mask=given[1].mask[:-1])
    given[2] = replace(given[2], token="elsewhere")
    given[3] = replace(given[3], matching=torch.tensor([5000]))
    metric = asked(given)["guess"].metrics["pop3d-retrieval/cosine/eval"]
    assert isinstance(metric, RetrievalScore)
    assert metric.compute().counts == {"samples": 0, "queries": 0, "skipped": 3}
    assert metric.skipped == {
        "sample-1: query b": "its mask has 399 points, the sweep 400",
        "elsewhere: query c": "its keyframe is not in the recording",
        "sample-3: query a": "its matching points lie beyond the sweep",
    }


def test_parts_of_the_benchmark_add_up():
    given = annotations()
    whole = asked(given)["guess"]
    parts = [asked(given, part=Part(number, 3))["guess"] for number in (1, 2, 3)]
    merged = parts[0].merge(parts[1], "guess").merge(parts[2], "guess")
    assert set(merged.metrics) == set(whole.metrics)
    for name, metric in whole.metrics.items():
        assert merged.metrics[name].compute() == metric.compute()
    with pytest.raises(DataError, match=r"counted once for each keyframe; got 'query .' twice in sample-"):
        merged.merge(MethodScore(parts[0].metrics), "guess")


def test_two_queries_of_one_keyframe_ask_the_method_once(tmp_path):
    first = annotations()[1]
    write_retrieval(tmp_path, [first, replace(first, query="query z", mask=~first.mask)])
    method = Guess()
    metrics = asked(read_retrieval(tmp_path, "all"), method, protocols=(Pop3dProtocol(),))["guess"].metrics
    assert method.asked == [400]
    assert metrics["pop3d-retrieval/cosine/val"].compute().counts["samples"] == 2


def test_features_that_are_not_finite_name_the_sample():
    with pytest.raises(DataError, match="features of 'guess' must be finite; got 1 of 400 points of sample sample-2"):
        asked(annotations(), Guess(broken="sample-2"))
