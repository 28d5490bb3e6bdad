"""A prediction can be asked, kept in a file, and asked again; a bad file is one clear line."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexivox.errors import ConfigError, DataError, LexivoxError
from lexivox.geometry.grid import VoxelGrid
from lexivox.prediction import Prediction
from lexivox.teachers.text import TableTextEncoder
from lexivox.teachers.vocabulary import vocabulary

GRID = VoxelGrid((-4.0, -3.0, -1.0), (1.0, 0.7, 0.5), (8, 9, 4), "ego")
WORDS = ("car", "automobile", "tree", "road")
DIM = 6


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def encoder() -> TableTextEncoder:
    return TableTextEncoder(WORDS, rand(len(WORDS), DIM) - 0.5, "test")


def make(threshold: float = 0.5, words: bool = True, occupancy: torch.Tensor | None = None) -> Prediction:
    """Language features are a fixed linear function of the place, the semantic head has classes 0..4, 4 is free."""
    weights = {"language": rand(3, DIM, seed=1) - 0.5, "semantic": rand(3, 5, seed=2) - 0.5}

    class Reader:
        names = ("language", "semantic")

        def read(self, head, xyz):
            return torch.cat([xyz.sin(), xyz.cos()], 1)[:, :3] @ weights[head]

    return Prediction.from_reader(
        token="frame",
        grid=GRID,
        occupancy=rand(*GRID.shape) if occupancy is None else occupancy,
        read=Reader().read,
        text_encoder=encoder() if words else None,
        free_class=4,
        threshold=threshold,
    )


# --------------------------------------------------------------------------------------------------- questions


def test_hits_are_the_occupied_voxels_best_first():
    prediction = make()
    hits = prediction.query("car")
    assert len(hits) == int((prediction.occupancy > 0.5).sum()) > 10
    assert bool((hits.score.diff() <= 0).all())
    assert hits.text == "car"
    torch.testing.assert_close(hits.xyz, GRID.xyz_from_index(hits.index))
    x, y, z = hits.index[0].tolist()
    assert float(prediction.occupancy[x, y, z]) > 0.5
    features = F.normalize(prediction.read_at("language", hits.xyz), dim=-1)
    torch.testing.assert_close(hits.score, features @ encoder().encode(["car"])[0])
    assert hits.top(3).score.tolist() == hits.score[:3].tolist()
    assert len(hits.top(10_000)) == len(hits)


def test_commas_take_the_better_fit():
    prediction = make()

    def by_voxel(text):
        hits = prediction.query(text)
        return {tuple(i): s for i, s in zip(hits.index.tolist(), hits.score.tolist(), strict=True)}

    both, car, tree = by_voxel(" car ,, tree,"), by_voxel("car"), by_voxel("tree")
    assert both == pytest.approx({voxel: max(car[voxel], tree[voxel]) for voxel in car}, abs=1e-5)


@pytest.mark.parametrize("text", ["", "   ", ",", " , ,"])
def test_an_empty_query_is_refused(text):
    with pytest.raises(ConfigError, match=r"a query must hold a word; got .* Ask for example 'car'\."):
        make().query(text)


def test_without_words_nothing_can_be_asked():
    with pytest.raises(ConfigError, match="must have a text encoder"):
        make(words=False).query("car")
    with pytest.raises(ConfigError, match="must have a text encoder"):
        make(words=False).labels(vocabulary(["car"]))


def test_nothing_occupied():
    prediction = make(occupancy=torch.zeros(GRID.shape))
    assert len(prediction.query("car")) == 0
    assert prediction.labels(vocabulary(["car", "tree"])).unique().tolist() == [2]
    assert prediction.labels().unique().tolist() == [4]


def test_labels_are_classes_of_the_vocabulary_or_its_number_where_free():
    prediction = make()
    words = {"vehicle": ["car", "automobile"], "plant": ["tree"]}
    labels = prediction.labels(vocabulary(words))
    occupied = prediction.occupancy > 0.5
    assert bool((labels[~occupied] == 2).all())
    x, y, z = prediction.occupied_index[5].tolist()
    score = F.normalize(prediction.read_occupied("language")[5], dim=0) @ encoder().encode(WORDS).T
    assert int(labels[x, y, z]) == int(score[:3].argmax() == 2)


def test_the_edge_of_the_threshold_is_free():
    occupancy = torch.zeros(GRID.shape)
    occupancy[0, 0, 0] = 0.5
    occupancy[1, 0, 0] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert make(occupancy=occupancy).occupied_index.tolist() == [[1, 0, 0]]


def test_heads_are_read_once():
    prediction = make()
    first = prediction.read_occupied("language")
    assert prediction.read_occupied("language") is first


# ------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("threshold", [0.5, 0.1, 0.333, 0.0, 1.0])
def test_save_and_load(tmp_path, threshold):
    occupancy = rand(*GRID.shape)
    # Beside the threshold float16 would round to the wrong side.
    occupancy[0] = torch.nextafter(torch.tensor(threshold), torch.tensor(2.0)).clamp_max(1.0)
    occupancy[1] = threshold
    prediction = make(threshold, occupancy=occupancy)
    again = Prediction.load(prediction.save(tmp_path / "frame.npz"))
    assert (again.token, again.grid, again.threshold) == ("frame", GRID, threshold)
    assert torch.equal(again.occupied_index, prediction.occupied_index)
    torch.testing.assert_close(again.occupancy, prediction.occupancy, atol=1e-3, rtol=0)
    words = vocabulary({"vehicle": ["car", "automobile"], "plant": ["tree"]})
    assert float((again.labels(words) == prediction.labels(words)).float().mean()) > 0.99
    assert float((again.labels() == prediction.labels()).float().mean()) > 0.99
    for text in ("car", "tree, road"):
        before, after = prediction.query(text), again.query(text)
        torch.testing.assert_close(before.score, after.score, atol=2e-3, rtol=0)
        assert {tuple(i) for i in before.top(9).index.tolist()} & {tuple(i) for i in after.top(9).index.tolist()} or (
            len(before) == 0
        )


def test_ranking_survives_a_file(tmp_path):
    prediction = make()
    again = Prediction.load(prediction.save(tmp_path / "frame.npz"))
    before, after = prediction.query("automobile"), again.query("automobile")
    place = {tuple(index): number for number, index in enumerate(after.index.tolist())}
    moved = [abs(number - place[tuple(index)]) for number, index in enumerate(before.index.tolist())]
    assert max(moved) <= 3  # neighbours of nearly equal score may swap in half precision


def test_a_file_keeps_what_the_model_had(tmp_path):
    prediction = make(words=False)
    again = Prediction.load(prediction.save(tmp_path / "a" / "b" / "frame.npz"))
    assert again.text_encoder is None
    assert again.read_occupied("semantic").shape == (len(prediction.occupied_index), 5)
    with pytest.raises(ConfigError, match="a prediction from a file must hold 'language' to answer"):
        again.read_at("language", torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="must hold 'flow'"):
        again.read_occupied("flow")
    thrice = Prediction.load(again.save(tmp_path / "frame.npz"))
    assert torch.equal(thrice.occupied_index, prediction.occupied_index)


def test_a_loaded_prediction_can_be_saved_and_asked(tmp_path):
    again = Prediction.load(make().save(tmp_path / "one.npz"))
    twice = Prediction.load(again.save(tmp_path / "two.npz"))
    assert torch.equal(again.query("car").score, twice.query("car").score)


def refusal(path) -> str:
    with pytest.raises(LexivoxError) as caught:
        Prediction.load(path)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in (str(path), "text encoder", "voxel_size_m"))
    return str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    assert "a prediction must be an .npz written by save(); got" in refusal(tmp_path / "none.npz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path, share):
    path = make().save(tmp_path / "frame.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


def test_a_damaged_file_is_refused_or_read_the_same(tmp_path):
    path = make().save(tmp_path / "frame.npz")
    content, whole = bytearray(path.read_bytes()), Prediction.load(path)
    for place in range(40, len(content), len(content) // 50):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(LexivoxError):
            assert torch.equal(Prediction.load(path).occupancy, whole.occupancy)


def other_files() -> dict[str, bytes]:
    files = {"text": b"no zip at all", "zip": io.BytesIO(), "npz": io.BytesIO(), "npy": io.BytesIO()}
    with zipfile.ZipFile(files["zip"], "w") as archive:
        archive.writestr("meta.txt", "{}")
    np.savez(files["npz"], points=np.zeros(3))
    np.save(files["npy"], np.zeros((3, 3)))
    return {name: file if isinstance(file, bytes) else file.getvalue() for name, file in files.items()}


@pytest.mark.parametrize("name", ["text", "zip", "npz", "npy"])
def test_another_file(tmp_path, name):
    path = tmp_path / "frame.npz"
    path.write_bytes(other_files()[name])
    refusal(path)


def changed(path, **meta) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    known = json.loads(arrays["meta"].tobytes()) | meta
    arrays["meta"] = np.frombuffer(json.dumps(known).encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    "meta",
    [
        {"format": "lexivox-prediction-9"},
        {"threshold": "half"},
        {"grid": {}},
        {"grid": {"lower_m": 3, "voxel_size_m": [1, 1, 1], "shape": [2, 2, 2], "frame": "ego"}},
        {"grid": {"lower_m": [0, 0, 0], "voxel_size_m": [1, 1, 1], "shape": [2, 2, 2], "frame": "ego"}},
        {"grid": {"lower_m": [0, 0, 0], "voxel_size_m": [1, 1, 0], "shape": [8, 9, 4], "frame": "ego"}},
        {"text": {"kind": "python"}},
        {"text": 7},
    ],
    ids=str,
)
def test_meaningless_descriptions(tmp_path, meta):
    path = make().save(tmp_path / "frame.npz")
    changed(path, **meta)
    refusal(path)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


@pytest.mark.parametrize("where", ["meta", "occupancy", "head/language"])
def test_code_in_a_file_is_never_run(tmp_path, where):
    path = make().save(tmp_path / "frame.npz")
    with np.load(path) as file:
        arrays = dict(file)
    hostile = np.empty(1, dtype=object)
    hostile[0] = Evil()
    arrays[where] = hostile
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    assert "allow_pickle=False" in refusal(path)
    path.write_bytes(pickle.dumps(Evil()))
    refusal(path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "frame.npz"
    with pytest.raises(DataError, match=r"^a file must be writable; got [^\n]*\. Free space .*frame\.npz\.$"):
        make().save(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = make().save(tmp_path / "frame.npz")
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(DataError, match="got No space left on device"):
        make(0.2).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["frame.npz"]
