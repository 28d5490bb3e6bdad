"""Forms of stored features: what comes back, how many bytes lie on disk, what every file says of itself."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from helpers import make_sample
from safetensors import safe_open

from lexivox.data.cache import FeatureCache
from lexivox.errors import ConfigError, DataError
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.storage import Storage
from lexivox.supervision.targets import TeacherReading, teacher_point_features

CODES = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))


class Colors:
    """Each of 32 channels is a mixture of the three colours, averaged over 4 pixels: rank 3."""

    space, dim, fingerprint = "colors@1", 32, "colors@1-net"

    def __init__(self) -> None:
        self.asked = 0

    def features(self, images):
        self.asked += 1
        small = F.avg_pool2d(images.float() / 255 - 0.5, 4)
        return torch.einsum("vchw,cd->vdhw", small, CODES)


class Broken(Colors):
    def __init__(self, value: float | None) -> None:
        super().__init__()
        self.value = value

    def features(self, images):
        maps = super().features(images)
        if self.value is None:
            return maps[:, :-1]
        maps[0, 3, 1, 1] = self.value
        return maps


class Three:
    name, classes, tokens, drives = "made up", None, ("0", "1", "2"), ("a", "a", "b")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return make_sample(index, num_points=400, num_views=2)

    def __iter__(self):
        return (self[index] for index in range(3))


def make(tmp_path, storage: Storage, teacher=None, **options) -> FeatureStore:
    return FeatureStore(Three(), teacher or Colors(), FeatureCache(tmp_path), storage=storage, **options)


FORMS = [Storage("points-float16"), Storage("points-pca", rank=3), Storage("maps"), Storage("maps-pca", rank=3)]


@pytest.mark.parametrize("storage", FORMS, ids=lambda form: form.kind)
@pytest.mark.parametrize(
    "reading", [TeacherReading(), TeacherReading("each", "nearest", unit=False)], ids=["ours", "p"]
)
def test_every_form_gives_the_features_back(tmp_path, storage, reading) -> None:
    sample = Three()[1]
    expected = teacher_point_features(sample, Colors(), reading)
    first = make(tmp_path, storage, reading=reading)
    known = first.features(sample)
    assert torch.equal(known.index, expected.index)
    assert F.cosine_similarity(known.feature.float(), expected.feature).min() > 0.995
    assert torch.allclose(known.feature.float(), expected.feature, atol=0.02 * float(expected.feature.abs().max()))
    second = make(tmp_path, storage, reading=reading)
    assert torch.equal(second.features(sample).feature, known.feature)
    assert second.teacher.asked == 0


@pytest.mark.parametrize("storage", FORMS, ids=lambda form: form.kind)
def test_the_same_points_are_chosen_in_every_form(tmp_path, storage) -> None:
    sample = Three()[2]
    known = make(tmp_path, storage, max_points=20).features(sample)
    expected = make(tmp_path / "other", FORMS[0], max_points=20).features(sample)
    assert len(known.index) == 20
    assert torch.equal(known.index, expected.index)


def test_a_basis_is_learnt_once_for_all_keyframes(tmp_path) -> None:
    store = make(tmp_path, FORMS[1])
    for index in range(3):
        store.features(Three()[index])
    assert store.teacher.asked == 2 * 3 + 2 * 3  # views of the keyframes of the basis, then of each keyframe
    again = make(tmp_path, FORMS[1])
    assert torch.equal(again.basis.basis, store.basis.basis)
    assert again.teacher.asked == 0
    assert make(tmp_path, Storage("points-pca", rank=2)).key(Three()[0]) != store.key(Three()[0])


def test_forms_are_smaller_in_the_promised_order(tmp_path) -> None:
    sizes = {}
    for storage in (FORMS[0], FORMS[1]):
        store = make(tmp_path, storage)
        count = len(store.features(Three()[0]).index)
        sizes[storage.kind] = store.cache.path(store.key(Three()[0])).stat().st_size - 8 * count
    assert sizes["points-pca"] < 0.4 * sizes["points-float16"]
    whole, pooled = make(tmp_path, FORMS[2]), make(tmp_path, Storage("maps", pool=2))
    for store in (whole, pooled):
        store.features(Three()[0])
    paths = [store.cache.path(store.key(Three()[0])).stat().st_size for store in (whole, pooled)]
    assert paths[1] < 0.5 * paths[0]


@pytest.mark.parametrize("storage", FORMS, ids=lambda form: form.kind)
def test_every_file_names_its_space_and_teacher(tmp_path, storage) -> None:
    store = make(tmp_path, storage)
    store.features(Three()[0])
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == (2 if storage.has_basis else 1)
    for path in files:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["lexivox"])
        assert about["space"] == "colors@1"
        assert about["teacher"] == "colors@1-net"
        assert about["storage"] == storage.kind
    assert store.cache.about(store.key(Three()[0])) == store.about
    assert store.cache.about("0" * 64) == {}


@pytest.mark.parametrize("storage", [FORMS[0], FORMS[2]], ids=lambda form: form.kind)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_features_that_are_no_numbers_name_sample_and_camera(tmp_path, storage, value) -> None:
    got = "31 channels" if value is None else "others"
    sample = Three()[0]
    message = f"must be 32 finite numbers; got {got} in sample {sample.token}, camera {sample.views[0].name}"
    with pytest.raises(DataError, match=message):
        make(tmp_path, storage, Broken(value)).features(sample)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_views_that_are_missing_are_just_not_read(tmp_path) -> None:
    from dataclasses import replace

    sample = Three()[0]
    for storage in FORMS:
        known = make(tmp_path, storage).features(replace(sample, views=()))
        assert known.feature.shape[0] == len(known.index) == 0


def test_a_head_of_another_width_is_refused() -> None:
    from lexivox.data.types import LanguageTargets
    from lexivox.model import Scene
    from lexivox.supervision.language import LanguageDistillation

    class Narrow(Scene):
        def read(self, head, xyz, batch):
            return torch.zeros(len(xyz), 16)

    target = LanguageTargets(torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4, 32), torch.ones(4))
    with pytest.raises(ConfigError, match="language head must have the teacher's 32 channels; got 16"):
        LanguageDistillation()._distance(object.__new__(Narrow), target)
