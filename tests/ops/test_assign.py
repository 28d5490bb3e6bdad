from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.errors import ShapeError
from lexivox.ops import assign
from lexivox.ops.assign import assign_best_query


def test_the_single_best_query_wins_not_the_class_with_the_best_mean():
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.8, 0.6]])
    # Query 0 scores 2.0 and beats 1.6, although class 7 has a mean of 0.
    assert assign_best_query(torch.tensor([[2.0, 0.0]]), embeddings, torch.tensor([7, 7, 3])).tolist() == [7]


def test_dot_products_are_plain_so_longer_embeddings_win():
    embeddings = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    assert assign_best_query(torch.tensor([[1.0, 0.1]]), embeddings, torch.tensor([1, 2])).tolist() == [2]


def test_length_of_a_feature_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=generator)
    embeddings, classes = torch.randn(6, 8, generator=generator), torch.arange(6)
    once = assign_best_query(features, embeddings, classes)
    torch.testing.assert_close(assign_best_query(7.5 * features, embeddings, classes), once)


def test_chunks_equal_one_piece(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    features, embeddings = torch.randn(101, 4, generator=generator), torch.randn(5, 4, generator=generator)
    classes = torch.tensor([4, 4, 2, 1, 0])
    expected = classes[(features @ embeddings.T).argmax(1)]
    monkeypatch.setattr(assign, "SCORES_AT_ONCE", 17)
    torch.testing.assert_close(assign_best_query(features, embeddings, classes), expected)


def test_half_precision_and_autocast_do_not_change_the_class():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2000, 16, generator=generator)
    embeddings, classes = torch.randn(40, 16, generator=generator), torch.arange(40)
    expected = assign_best_query(features, embeddings, classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(assign_best_query(features, embeddings, classes), expected)


def test_no_features_and_no_queries():
    empty = assign_best_query(torch.zeros(0, 3), torch.ones(2, 3), torch.tensor([1, 2]))
    assert empty.shape == (0,)
    with pytest.raises(ShapeError, match="at least one query"):
        assign_best_query(torch.ones(1, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_golden_assignment_of_pop3d(golden):
    from lexivox.data.classes import NUSCENES16_FROM_RAW

    case = np.load(golden / "pop3d_eval_metrics.npz")
    class_of_query = NUSCENES16_FROM_RAW.apply(torch.from_numpy(case["text_raw_id"]))
    embeddings = torch.from_numpy(case["text_features"])[class_of_query > 0]
    class_of_query = class_of_query[class_of_query > 0]
    for frame in ("f12", "f15", "f19"):
        for rows, wanted in (
            ("occupied_features", "assigned_class_of_occupied_voxels"),
            ("point_features", "assigned_class_of_points"),
        ):
            features = torch.from_numpy(case[f"{frame}/{rows}"])
            assigned = assign_best_query(features, embeddings, class_of_query)
            assert assigned.tolist() == case[f"{frame}/{wanted}"].tolist()
