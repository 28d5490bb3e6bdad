from __future__ import annotations

import errno
import logging
import os

import pytest
import torch

from lexivox.data.cache import FeatureCache, FillReport, content_key
from lexivox.errors import DataError

KEY = content_key("teacher@1", torch.zeros(3, 2, 2, dtype=torch.uint8))


def some_arrays(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "feature": torch.randn(5, 4, generator=generator),
        "point": torch.arange(5),
        "seen": torch.ones(5).bool(),
    }


def test_key_depends_on_every_part_and_its_type() -> None:
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    changed = image.clone()
    changed[0, 0, 0] = 1
    keys = [
        content_key("t", image),
        content_key("u", image),
        content_key("t", changed),
        content_key("t", image.reshape(3, 4, 1)),
        content_key("t", image.to(torch.int8)),
        content_key("t", image, {"stride": 4}),
        content_key("t", image, {"stride": 4.0}),
        content_key("t", image, 1),
        content_key("t", image, "1"),
        content_key("t", image, "1", ""),
        content_key("ab", "c"),
        content_key("a", "bc"),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    with pytest.raises(DataError, match="cache key part must be"):
        content_key(float("nan"))


def test_round_trip_in_half_precision(tmp_path) -> None:
    cache, arrays = FeatureCache(tmp_path), some_arrays()
    assert cache.get(KEY) is None
    cache.put(KEY, arrays)
    back = cache.get(KEY)
    assert back["feature"].dtype == torch.float16
    assert torch.equal(back["feature"], arrays["feature"].half())
    assert torch.equal(back["point"], arrays["point"])
    assert back["seen"].dtype == torch.bool


def test_no_arrays_and_empty_arrays(tmp_path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEY, {"feature": torch.zeros(0, 4)})
    assert cache.get(KEY)["feature"].shape == (0, 4)
    cache.put(KEY, {})
    assert cache.get(KEY) == {}


def test_get_or_make_computes_once_and_gives_the_stored_values(tmp_path) -> None:
    cache, calls = FeatureCache(tmp_path), []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return some_arrays()

    first, second = cache.get_or_make(KEY, make), cache.get_or_make(KEY, make)
    assert len(calls) == 1
    assert torch.equal(first["feature"], second["feature"])


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damaged_entries_are_reported_and_made_again(tmp_path, caplog, damage) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEY, some_arrays())
    path = cache.path(KEY)
    content = path.read_bytes()
    flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    damaged = {"truncated": content[:-7], "flipped": flipped, "empty": b"", "foreign": b"hello" * 9}[damage]
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        again = cache.get_or_make(KEY, some_arrays)
    assert "damaged and will be made again" in caplog.text
    assert torch.equal(again["feature"], some_arrays()["feature"].half())
    assert path.read_bytes() == content


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DataError, match="got No space left on device"):
        cache.put(KEY, some_arrays())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_values_beyond_half_precision_are_refused(tmp_path) -> None:
    for value in (1e6, float("nan")):
        with pytest.raises(DataError, match="got others in 'feature'"):
            FeatureCache(tmp_path).put(KEY, {"feature": torch.tensor([value])})


def test_fill_resumes_after_a_stop(tmp_path) -> None:
    cache, steps = FeatureCache(tmp_path), []
    jobs = {content_key(seed): (lambda seed=seed: some_arrays(seed)) for seed in range(4)}

    def stop_after_two(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(jobs, stop_after_two)
    assert steps == [(1, 4), (2, 4)]
    assert cache.fill(jobs) == FillReport(made=2, kept=2)
    assert cache.fill(jobs) == FillReport(made=0, kept=4)
