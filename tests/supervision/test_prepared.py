"""Prepared keyframes: the teacher is asked once, damage is mended, memory is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import make_sample

from lexivox.data.cache import FeatureCache
from lexivox.data.image_fit import ImageFit
from lexivox.data.transforms import resize_images
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.prepared import PreparedSamples
from lexivox.supervision.targets import teacher_point_features

SMALL_HW = (16, 24)


class Counting:
    """A teacher that says how bright a pixel is, and counts how often it is asked."""

    space, dim = "brightness", 4

    def __init__(self, fingerprint: str = "one") -> None:
        self.fingerprint, self.asked = fingerprint, 0

    def features(self, images):
        self.asked += 1
        level = images.float().mean(1, keepdim=True) / 255
        return torch.cat([level, 1 - level, level.square(), torch.ones_like(level)], 1)


class Recording:
    """Keyframes by number; counts how often one is read."""

    name, classes, tokens, drives = "made up", None, ("0", "1", "2"), ("a", "a", "b")

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.read.append(index)
        return make_sample(index, num_points=100 + 10 * index, num_views=2)

    def __iter__(self):
        return (self[index] for index in range(3))


@pytest.fixture
def prepare(tmp_path):
    def make(teacher, **options) -> PreparedSamples:
        dataset = Recording()
        keep = options.pop("keep", 256)
        store = teacher and FeatureStore(dataset, teacher, FeatureCache(tmp_path), **options)
        return PreparedSamples(dataset, ImageFit(SMALL_HW), store, keep)

    return make


def test_samples_carry_the_teachers_features_and_small_images(prepare):
    teacher = Counting()
    sample = prepare(teacher)[1]
    recorded = make_sample(1, num_points=110, num_views=2)
    expected = teacher_point_features(recorded, Counting())
    assert sample.views[0].image_hw == SMALL_HW
    assert torch.equal(sample.views[1].image, resize_images(recorded, SMALL_HW).views[1].image)
    assert torch.equal(sample.point_features.index, expected.index)
    torch.testing.assert_close(sample.point_features.feature.float(), expected.feature, atol=1e-3, rtol=0)
    assert sample.point_features.weight.unique().tolist() == [1.0]


def test_a_second_run_asks_no_teacher(prepare):
    first, second = Counting(), Counting()
    done: list[tuple[int, int]] = []
    before = prepare(first)
    before.prepare(0.5, lambda *progress: done.append(progress))
    assert first.asked == 3 * 2
    assert done == [(1, 3), (2, 3), (3, 3)]
    after = prepare(second)
    after.prepare(0.5)
    assert second.asked == 0
    for index in range(3):
        one, two = before[index].point_features, after[index].point_features
        assert torch.equal(one.feature, two.feature)
        assert torch.equal(one.weight, two.weight)


def test_an_interrupted_run_makes_only_the_rest(prepare):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Counting()).prepare(0.5, interrupt)
    second = Counting()
    prepare(second).prepare(0.5)
    assert second.asked == 2 * 2


@pytest.mark.parametrize("other", [Counting("two"), Counting()], ids=["teacher", "points kept"])
def test_another_question_is_another_entry(prepare, other):
    prepare(Counting()).prepare(0.0)
    again = prepare(other, max_points=20 if other.fingerprint == "one" else 30_000)
    again.prepare(0.0)
    assert other.asked == 3 * 2


def test_another_picture_calibration_or_sweep_is_another_entry(prepare):
    samples, teacher = prepare(Counting()), Counting()
    samples.prepare(0.0)
    samples.features.teacher = teacher
    recorded = make_sample(0, num_points=100, num_views=2)
    view = recorded.views[0]
    changes = [
        replace(recorded, views=(replace(view, image=255 - view.image), recorded.views[1])),
        replace(recorded, views=(replace(view, image_from_cam=view.image_from_cam * 1.01), recorded.views[1])),
        replace(recorded, lidar=replace(recorded.lidar, xyz=recorded.lidar.xyz + 0.1)),
        replace(recorded, ego_from_lidar=recorded.ego_from_lidar @ recorded.ego_from_lidar),
    ]
    samples._features(0, recorded)
    assert teacher.asked == 0
    for number, changed in enumerate(changes, start=1):
        samples._features(0, changed)
        assert teacher.asked == 2 * number


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-8] + b"\xff" * 8])
def test_a_damaged_entry_is_made_again(prepare, tmp_path, caplog, damage):
    first = prepare(Counting())
    first.prepare(0.0)
    path = sorted(tmp_path.rglob("*.safetensors"))[0]
    whole = path.read_bytes()
    path.unlink()  # what was read before is still mapped to the old file
    path.write_bytes(damage(whole))
    teacher = Counting()
    again = prepare(teacher)
    again.prepare(0.0)
    assert teacher.asked == 2
    assert "damaged" in caplog.text
    assert path.read_bytes() == whole
    assert all(torch.equal(first[i].point_features.feature, again[i].point_features.feature) for i in range(3))


def test_weights_are_balanced_over_the_whole_split(prepare):
    samples = prepare(Counting())
    samples.prepare(0.5)
    weights = [samples[index].point_features.weight for index in range(3)]
    together = torch.cat(weights)
    torch.testing.assert_close(together.mean(), torch.tensor(1.0))
    assert len(together.unique()) > 2
    assert [len(weight) for weight in weights] == [len(samples[i].point_features.index) for i in range(3)]


def test_weights_stay_with_samples_that_are_read_again(prepare):
    samples = prepare(Counting(), keep=1)
    samples.prepare(0.5)
    first = samples[0].point_features.weight
    _ = samples[1], samples[2]
    assert torch.equal(samples[0].point_features.weight, first)
    assert len(first.unique()) > 1


def test_no_balance_leaves_ones(prepare):
    samples = prepare(Counting())
    samples.prepare(0.0)
    assert all(samples[index].point_features.weight.unique().tolist() == [1.0] for index in range(3))


def test_memory_is_bounded_and_the_last_used_stay(prepare):
    samples = prepare(Counting(), keep=2)
    first = samples[0]
    _ = samples[1]
    assert samples[0] is first  # used again, so number 1 goes next
    _ = samples[2]
    assert samples.dataset.read == [0, 1, 2]
    assert samples[0] is first
    _ = samples[1]
    assert samples.dataset.read == [0, 1, 2, 1]
    assert len(samples._kept) == 2


@pytest.mark.parametrize(("image_hw", "kept"), [((16, 24), 256), ((900, 1600), 41), ((20_000, 20_000), 1)])
def test_large_images_are_kept_in_smaller_numbers(image_hw, kept):
    # 2**30 bytes over 3 channels x 6 views x 900 x 1600 pixels is 41.4.
    assert PreparedSamples(Recording(), ImageFit(image_hw), None).keep == kept


def test_at_most_so_many_points_are_kept_and_always_the_same(prepare, tmp_path):
    samples = prepare(Counting(), max_points=20)
    known = samples[2].point_features
    assert len(known.index) == len(known.feature) == len(known.weight) == 20
    assert bool((known.index.diff() > 0).all())
    store = FeatureStore(Recording(), Counting(), FeatureCache(tmp_path / "other"), max_points=20)
    fresh = PreparedSamples(Recording(), ImageFit(SMALL_HW), store)
    assert torch.equal(fresh[2].point_features.index, known.index)


def test_without_a_teacher_nothing_is_made(prepare, tmp_path):
    samples = prepare(None)
    samples.prepare(0.5)
    assert samples[0].point_features is None
    assert list(tmp_path.iterdir()) == []


def test_a_keyframe_without_points_in_view(prepare, monkeypatch):
    samples = prepare(Counting())
    monkeypatch.setattr(samples.dataset, "__class__", Blind)
    samples.prepare(0.5)
    assert all(len(samples[index].point_features.index) == 0 for index in range(3))


class Blind(Recording):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return replace(sample, lidar=replace(sample.lidar, xyz=sample.lidar.xyz * 0.0 + 1e-3))
