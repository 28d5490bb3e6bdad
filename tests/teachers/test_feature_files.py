"""Published feature files: what a good folder gives, and what each kind of damage says (erratum 26)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_sample

from lexivox.data.cache import FeatureCache
from lexivox.errors import ConfigError, DataError
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.targets import teacher_point_features
from lexivox.teachers.base import ImageTeacher, PointTeacher
from lexivox.teachers.feature_files import FeatureFileTeacher

SAMPLE = make_sample(0, num_points=50, num_views=2)


def stem(view) -> str:
    return f"n000-log__{view.name}__{view.timestamp_ns // 1000}"


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    features, projections = tmp_path / "features", tmp_path / "projections"
    for number, view in enumerate(SAMPLE.views):
        rows = np.arange(5 + number, dtype=np.int64)
        for folder in (features, projections):
            (folder / view.name).mkdir(parents=True)
        np.save(projections / view.name / f"{stem(view)}__points.npy", rows)
        np.save(features / view.name / f"{stem(view)}.pth.npy", np.full((len(rows), 4), number, np.float32))
    return features, projections


def path_of(folders, view, kind: str) -> Path:
    features, projections = folders
    return (
        features / view.name / f"{stem(view)}.pth.npy"
        if kind == "features"
        else (projections / view.name / f"{stem(view)}__points.npy")
    )


def test_one_row_for_every_camera_that_sees_a_point(folders, tmp_path) -> None:
    teacher = FeatureFileTeacher(*folders, space="maskclip+", dim=4)
    assert isinstance(teacher, PointTeacher)
    assert isinstance(teacher, ImageTeacher)
    known = teacher_point_features(SAMPLE, teacher)
    assert known.index.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    assert known.feature[:5].unique().tolist() == [0.0]
    assert known.feature[5:].unique().tolist() == [1.0]

    class One:
        name, classes, tokens, drives = "one", None, ("0",), ("a",)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return SAMPLE

        def __iter__(self):
            return iter([SAMPLE])

    store = FeatureStore(One(), teacher, FeatureCache(tmp_path / "cache"), max_points=6)
    assert len(store.features(SAMPLE).index) == 6
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("kind", "what"), [("points", "points"), ("features", "features")])
def test_a_missing_file_names_sample_and_camera_or_is_a_view_without_points(folders, kind, what) -> None:
    view = SAMPLE.views[1]
    path_of(folders, view, kind).unlink()
    message = f"must have a file of {what}; got none for sample {SAMPLE.token}, camera {view.name}"
    with pytest.raises(DataError, match=message):
        FeatureFileTeacher(*folders, space="s", dim=4).point_features(SAMPLE)
    known = FeatureFileTeacher(*folders, space="s", dim=4, missing="skip").point_features(SAMPLE)
    assert known.index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("features", np.full((6, 4), np.nan, np.float32), "got numbers that are not finite in sample"),
        ("features", np.zeros((5, 4), np.float32), r"finite, 6 rows of 4; got \(5, 4\) in sample"),
        ("features", np.zeros((6, 3), np.float32), r"got \(6, 3\) in sample"),
        ("points", np.array([0, 1, 2, 3, 4, 50]), "must lie within the sweep of 50; got others in sample"),
        ("features", b"no numpy", "must be a plain npy; got "),
        ("features", np.array([{"code": 1}], dtype=object), "must be a plain npy; got "),
    ],
)
def test_damage_names_sample_and_camera(folders, kind, content, message) -> None:
    view = SAMPLE.views[1]
    path = path_of(folders, view, kind)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        FeatureFileTeacher(*folders, space="s", dim=4).point_features(SAMPLE)
    assert f"sample {SAMPLE.token}, camera {view.name}" in str(caught.value)
    assert str(caught.value).endswith(str(path))


def test_files_know_no_other_images(folders) -> None:
    with pytest.raises(ConfigError, match="must come from a network; got 1 images"):
        FeatureFileTeacher(*folders, space="s").features(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
