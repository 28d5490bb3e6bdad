"""Prediction files alone against label files: every benchmark, what is missing, what is wrong, and no model at all."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from lexivox import cli
from lexivox.data import formats
from lexivox.data.benchmark_classes import OCC3D, OPENOCCUPANCY, SEMANTICKITTI_VOXELS, SURROUNDOCC
from lexivox.data.classes import NUSCENES_RAW
from lexivox.data.dense_labels import DenseLabels
from lexivox.data.point_formats import read_nuscenes_panoptic, write_nuscenes_panoptic
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.dense import DenseScore, occ3d_protocol
from lexivox.evaluate.files.base import FileOptions
from lexivox.evaluate.files.origins import nuscenes_origins, read_origins, write_origins
from lexivox.evaluate.files.score import FILE_BENCHMARKS, score_files
from lexivox.evaluate.files.splits import split_tokens
from lexivox.geometry import grid as grids

TOKENS = ("a1", "b2", "c3")


def volume(grid, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.full(grid.shape, classes.free, dtype=torch.uint8)
    index = [torch.randint(n, (3000,), generator=generator) for n in grid.shape]
    label[tuple(index)] = torch.randint(1, 17, (3000,), generator=generator).to(torch.uint8)
    return label


@pytest.fixture
def occ3d(tmp_path):
    """Three labelled samples of two scenes, and a prediction of each that is right in half of the space."""
    generator = torch.Generator().manual_seed(9)
    for number, token in enumerate(TOKENS):
        truth = volume(grids.OCC3D, OCC3D, number)
        seen = [torch.rand(grids.OCC3D.shape, generator=generator) < share for share in (0.5, 0.2)]
        labels = DenseLabels(grids.OCC3D, OCC3D, truth, *seen)
        formats.write_occ3d(tmp_path / f"gts/scene-{number // 2}/{token}/labels.npz", labels)
        said = volume(grids.OCC3D, OCC3D, number + 10)
        said[:100] = truth[:100]
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / f"maps/{token}.npz", pred=said.numpy())
    return tmp_path


def test_occ3d_reports_all_three_masks(occ3d):
    scored = score_files(occ3d / "maps", occ3d / "gts", "occ3d")
    assert [mask for mask, _ in scored.rows] == ["none", "lidar", "camera"]
    for mask, scores in scored.rows:
        metric = DenseScore(occ3d_protocol(mask))
        for path in sorted((occ3d / "gts").rglob("labels.npz")):
            truth = formats.read_occ3d(path)
            with np.load(occ3d / f"maps/{path.parent.name}.npz") as file:
                said = torch.from_numpy(file["pred"])
            metric.update(said, truth.label, truth.counted(mask))
        assert scores == metric.compute()
    text = scored.to_text(per_class=True)
    for words in ("occ3d/camera", "| lidar |", "3 of 3 samples", "Occ3D-nuScenes labels.npz #", "driveable_surface"):
        assert words in text
    content = json.loads(scored.to_json())
    assert content["coverage"] == {"scored": 3, "labelled": 3, "missing": [], "not_labelled": []}
    assert [row["mask"] for row in content["results"]] == ["none", "lidar", "camera"]
    assert scored.table("mine").to_markdown(per_class=False).count("| mine |") == 3


def test_labels_are_told_apart_by_what_they_hold(occ3d):
    first = score_files(occ3d / "maps", occ3d / "gts", "occ3d")
    assert score_files(occ3d / "maps", occ3d / "gts", "occ3d").label_hash == first.label_hash
    path = occ3d / "gts/scene-0/a1/labels.npz"
    labels = formats.read_occ3d(path)
    labels.label[0, 0, 0] = 3
    formats.write_occ3d(path, labels)
    assert score_files(occ3d / "maps", occ3d / "gts", "occ3d").label_hash != first.label_hash


def test_missing_predictions_are_named_or_stated(occ3d, capsys):
    (occ3d / "maps/b2.npz").rename(occ3d / "maps/other.npz")
    words = ["evaluate", "--predictions", str(occ3d / "maps"), "--labels", str(occ3d / "gts"), "--protocol", "occ3d"]
    assert cli.main(words) == 1
    assert "every labelled sample must have a prediction; got 2 of 3, none for b2" in capsys.readouterr().err
    assert cli.main([*words, "--allow-missing", "--per-class"]) == 0
    out = capsys.readouterr().out
    assert "| 2 of 3 samples |" in out
    assert "1 labelled samples have no prediction and are left out, first b2" in out
    assert "1 predictions are of no labelled sample of the split and are not scored, first other" in out
    content = json.loads((occ3d / "maps/scores.json").read_text())
    assert content["coverage"] == {"scored": 2, "labelled": 3, "missing": ["b2"], "not_labelled": ["other"]}


def test_a_list_of_samples_is_a_split(occ3d):
    scored = score_files(occ3d / "maps", occ3d / "gts", "occ3d", tokens=["a1"])
    assert scored.pairs.coverage == "1 of 1 samples"
    assert scored.pairs.unlabelled == ("b2", "c3")
    with pytest.raises(DataError, match="a split must hold at least one sample; got none"):
        score_files(occ3d / "maps", occ3d / "gts", "occ3d", tokens=[])
    with pytest.raises(DataError, match="every sample of the split must have a label; got none for zz"):
        score_files(occ3d / "maps", occ3d / "gts", "occ3d", tokens=["a1", "zz"])


def broken(path, **arrays):
    np.savez(path, **arrays)


FREE = np.full((200, 200, 16), 17, dtype=np.uint8)
BAD = {
    "shape": (lambda p: broken(p, pred=FREE[:50]), ShapeError, r"shape \(200, 200, 16\); got \(50, 200, 16\)"),
    "axes": (lambda p: broken(p, pred=FREE.T.copy()), ShapeError, "Its axes look like z, y, x"),
    "dtype": (lambda p: broken(p, pred=FREE / 17.0), DataError, "must hold whole class numbers; got float64"),
    "nan": (lambda p: broken(p, pred=FREE * np.nan), DataError, "must hold whole class numbers"),
    "classes": (lambda p: broken(p, pred=FREE + 1), DataError, r"must be 0 to 17, those of occ3d; got \[18\]"),
    "frame": (lambda p: broken(p, pred=FREE, frame="lidar"), DataError, "got frame lidar"),
    "arrays": (lambda p: broken(p, x=FREE, y=FREE), DataError, "must hold an array pred or semantics; got x, y"),
    "damaged": (lambda p: p.write_bytes(b"PK"), DataError, "must be a readable .npz; got"),
    "pickle": (lambda p: broken(p, pred=np.array([{"a": 1}], dtype=object)), DataError, "must be a readable .npz; got"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_wrong_file_is_named_with_its_sample(occ3d, fault):
    make, error, words = BAD[fault]
    make(occ3d / "maps/b2.npz")
    with pytest.raises(error, match=words) as refusal:
        score_files(occ3d / "maps", occ3d / "gts", "occ3d")
    assert "b2" in str(refusal.value)


def test_a_damaged_label_is_named(occ3d):
    (occ3d / "gts/scene-0/b2/labels.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"labels must be an .npz with semantics, mask_lidar, mask_camera") as refusal:
        score_files(occ3d / "maps", occ3d / "gts", "occ3d")
    assert "b2" in str(refusal.value)


def test_folders_that_do_not_fit(occ3d, tmp_path):
    with pytest.raises(ConfigError, match="protocol of files must be one of occ3d, rayiou"):
        score_files(occ3d / "maps", occ3d / "gts", "occ4d")
    with pytest.raises(DataError, match="predictions must be a folder; got none"):
        score_files(occ3d / "nowhere", occ3d / "gts", "occ3d")
    with pytest.raises(DataError, match=r"labels must hold files like labels.npz; got none"):
        score_files(occ3d / "maps", occ3d / "maps", "occ3d")
    (tmp_path / "again").mkdir()
    np.savez(tmp_path / "again/zz.npz", pred=FREE)
    with pytest.raises(DataError, match="predictions and labels must be of the same samples; got none in both"):
        score_files(tmp_path / "again", occ3d / "gts", "occ3d", allow_missing=True)
    (occ3d / "maps/more").mkdir()
    (occ3d / "maps/a1.npz").rename(occ3d / "maps/more/b2.npz")
    with pytest.raises(DataError, match="predictions must hold one file for each sample; got two of b2"):
        score_files(occ3d / "maps", occ3d / "gts", "occ3d")


def test_rayiou_needs_origins(occ3d):
    with pytest.raises(DataError, match="rays of a1 must start somewhere; got no origins of it"):
        score_files(occ3d / "maps", occ3d / "gts", "rayiou")
    origins = {token: torch.tensor([[0.0, 0.0, 1.8], [3.0, 1.0, 1.8]]).double() for token in TOKENS}
    path = write_origins(occ3d / "origins.json", origins)
    assert read_origins(path)["b2"].tolist() == origins["b2"].tolist()
    scored = score_files(occ3d / "maps", occ3d / "gts", "rayiou", options=FileOptions(origins=read_origins(path)))
    ((mask, scores),) = scored.rows
    assert (mask, scores.protocol) == ("rays that meet something", "rayiou/occ3d")
    assert 0.2 < scores.values["rayiou"] < 1.0
    path.write_text('{"a1": [[0, 0]]}')
    with pytest.raises(DataError, match=r"origins of a1 must be rows of three finite numbers; got \(1, 2\)"):
        read_origins(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="origins must be JSON like"):
        read_origins(path)


def test_raypq_needs_objects(occ3d):
    for token in ("a1",):
        origins = {token: torch.tensor([[0.0, 0.0, 1.8]]).double()}
        options = FileOptions(origins=origins)
        with pytest.raises(DataError, match="objects of the prediction of a1 must hold an array instances; got pred"):
            score_files(occ3d / "maps", occ3d / "gts", "raypq", options=options, tokens=[token])
        label = formats.read_occ3d(occ3d / f"gts/scene-0/{token}/labels.npz").label.numpy()
        for path, name in ((occ3d / "maps/a1.npz", "pred"), (occ3d / "gts/scene-0/a1/labels.npz", "semantics")):
            np.savez(path, **{name: label, "instances": label})
        scored = score_files(occ3d / "maps", occ3d / "gts", "raypq", options=options, tokens=[token])
        assert scored.rows[0][1].values["raypq"] == 1.0
        assert scored.rows[0][1].protocol == "raypq/occ3d/min10"


def test_origins_from_a_real_dataroot(realdata):
    origins = nuscenes_origins(realdata / "nuscenes")
    assert len(origins) == 2
    for rows in origins.values():
        assert rows.shape == (1, 3)
        assert rows[0].tolist() == pytest.approx([0.94, 0.0, 1.84], abs=0.02)  # of LIDAR_TOP on the car


@pytest.mark.parametrize(
    ("name", "grid", "classes", "write"),
    [
        ("openoccupancy", grids.OPENOCCUPANCY, OPENOCCUPANCY, formats.write_openoccupancy),
        ("surroundocc", grids.SURROUNDOCC, SURROUNDOCC, formats.write_surroundocc),
    ],
)
def test_rows_and_dense_predictions_score_alike(tmp_path, name, grid, classes, write):
    truth, said = (volume(grid, classes, seed) for seed in (0, 1))
    said[:60] = truth[:60]
    truth[0, 0, 0] = classes.ignore
    write(tmp_path / "labels/scene_1/occupancy/x.pcd.bin.npy", DenseLabels(grid, classes, truth))
    write(tmp_path / "rows/x.npy", DenseLabels(grid, classes, said))
    (tmp_path / "dense").mkdir()
    np.savez_compressed(tmp_path / "dense/x.npz", said.numpy())
    rows, dense = (score_files(tmp_path / kind, tmp_path / "labels", name) for kind in ("rows", "dense"))
    assert rows.rows == dense.rows
    assert rows.rows[0][1].counts["voxels"] == grid.num_voxels - 1


def test_semantickitti_voxels(tmp_path):
    truth = volume(grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS, 0)
    for folder, name in (("truth/sequences/08/voxels", "truth"), ("said/sequences/08/predictions", "said")):
        labels = DenseLabels(grids.SEMANTICKITTI, SEMANTICKITTI_VOXELS, truth)
        formats.write_semantickitti_voxels(tmp_path / folder, "000005", labels), name
    with pytest.raises(DataError, match="labels of 08/000005 must say which voxels are invalid; got no file"):
        score_files(tmp_path / "said", tmp_path / "truth", "semantickitti-ssc")
    invalid = np.zeros(grids.SEMANTICKITTI.num_voxels // 8, dtype=np.uint8)
    (tmp_path / "truth/sequences/08/voxels/000005.invalid").write_bytes(invalid.tobytes())
    scored = score_files(tmp_path / "said", tmp_path / "truth", "semantickitti-ssc")
    assert scored.rows[0][1].values["iou_occupied"] == 1.0
    said = tmp_path / "said/sequences/08/predictions/000005.label"
    said.write_bytes(np.full(grids.SEMANTICKITTI.num_voxels, 52, dtype="<u2").tobytes())
    with pytest.raises(DataError, match="prediction of 08/000005 must give every voxel a class that is scored"):
        score_files(tmp_path / "said", tmp_path / "truth", "semantickitti-ssc")
    labels = FILE_BENCHMARKS["semantickitti-ssc"].labels.find(tmp_path / "truth", "labels")
    kind = FILE_BENCHMARKS["semantickitti-ssc"]
    assert list(split_tokens(kind, "val", labels, None)) == ["08/000005"]
    assert list(split_tokens(kind, "train", labels, None)) == []
    with pytest.raises(ConfigError, match="split of SemanticKITTI must be one of train, val, test; got 'mini'"):
        split_tokens(kind, "mini", labels, None)


@pytest.fixture(scope="module")
def official(golden):
    with np.load(golden / "panoptic_quality.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_official_semantickitti_panoptic_from_files(official, tmp_path):
    g = official
    for side, folder in (("gt", "truth/sequences/08/labels"), ("pred", "said/sequences/08/predictions")):
        (tmp_path / folder).mkdir(parents=True)
        for frame in ("000000", "000005"):
            g[f"kitti/{frame}/{side}_label"].astype("<u4").tofile(tmp_path / folder / f"{frame}.label")
    scored = score_files(tmp_path / "said", tmp_path / "truth", "panoptic-semantickitti")
    values = scored.rows[0][1].values
    for name, theirs in (("pq", "pq_mean"), ("pq_dagger", "pq_dagger"), ("miou", "iou_mean")):
        assert values[name] == pytest.approx(float(g[f"kitti/min_points_50/{theirs}"]), abs=1e-9)
    options = FileOptions(min_points=30, novel=("bicycle", "truck", "sidewalk"), ids="merged")
    mended = score_files(tmp_path / "said", tmp_path / "truth", "panoptic-semantickitti", options=options)
    assert mended.rows[0][1].protocol == "panoptic/min30+merged"
    values = mended.rows[0][1].values
    per_class = mended.rows[0][1].per_class["pq"]
    assert values["pq_novel"] == pytest.approx(sum(per_class[c] for c in ("bicycle", "truck", "sidewalk")) / 3)
    assert values["pq_novel_stuff"] == pytest.approx(per_class["sidewalk"])
    assert {"pq_base", "rq_base_things", "sq_novel_things"} <= set(values)
    assert "Novel classes are bicycle, truck, sidewalk; base classes all others." in mended.to_text()
    lidarseg = score_files(tmp_path / "said", tmp_path / "truth", "lidarseg-semantickitti").rows[0][1]
    assert lidarseg.values["miou"] == pytest.approx(float(g["kitti/min_points_50/iou_mean"]), abs=1e-9)
    with pytest.raises(ConfigError, match=r"novel classes must be some of car, .*; got boat"):
        score_files(
            tmp_path / "said", tmp_path / "truth", "panoptic-semantickitti", options=FileOptions(novel=("boat",))
        )


def test_official_nuscenes_panoptic_from_files(official, tmp_path):
    g = official
    for frame in ("f11", "f17"):
        for side, name in (("truth", "gt"), ("said/panoptic/val", "pred")):
            (tmp_path / side).mkdir(parents=True, exist_ok=True)
            np.savez(tmp_path / side / f"{frame}_panoptic.npz", data=g[f"nuscenes/{frame}/{name}_panoptic"])
    scored = score_files(tmp_path / "said", tmp_path / "truth", "panoptic-nuscenes")
    with pytest.raises(ConfigError, match="segment ids must be official where there is no fault to mend"):
        score_files(tmp_path / "said", tmp_path / "truth", "panoptic-nuscenes", options=FileOptions(ids="merged"))
    wanted = g["nuscenes/all_PQ_SQ_RQ_mIoU_PQdagger"]
    got = [scored.rows[0][1].values[name] for name in ("pq", "sq", "rq", "miou", "pq_dagger")]
    assert got == pytest.approx(wanted.tolist(), abs=1e-9)
    label, number = read_nuscenes_panoptic(tmp_path / "truth/f11_panoptic.npz", NUSCENES_RAW)
    write_nuscenes_panoptic(tmp_path / "said/panoptic/val/f11_panoptic.npz", label, number % 1000)
    with pytest.raises(DataError, match="classes must be 0 to 16, those of nuscenes16_points; got") as refusal:
        score_files(tmp_path / "said", tmp_path / "truth", "panoptic-nuscenes")
    assert "f11" in str(refusal.value)


def test_nuscenes_splits_need_tables(realdata):
    kind = FILE_BENCHMARKS["occ3d"]
    with pytest.raises(ConfigError, match="split 'val' of nuScenes must come with --dataroot; got none"):
        split_tokens(kind, "val", [], None)
    samples = split_tokens(kind, "all", [], realdata / "nuscenes")
    assert list(samples) == list(nuscenes_origins(realdata / "nuscenes"))
    records = split_tokens(FILE_BENCHMARKS["panoptic-nuscenes"], "all", [], realdata / "nuscenes")
    files = split_tokens(FILE_BENCHMARKS["surroundocc"], "all", [], realdata / "nuscenes")
    assert len(records) == len(files) == len(samples) == 2
    assert not {*records} & {*samples}
    assert all("__LIDAR_TOP__" in name and "." not in name for name in files)


def test_the_command_line_alone(occ3d):
    code = (
        "import sys; from lexivox.cli import main; status = main(sys.argv[1:]); "
        "assert not [m for m in sys.modules if m.split('.')[0] in ('pydantic', 'transformers', 'PIL')], 'heavy'; "
        "assert not [m for m in sys.modules if m.startswith(('lexivox.model', 'lexivox.encoders', 'lexivox.heads', "
        "'lexivox.teachers', 'lexivox.config', 'lexivox.train', 'lexivox.fields'))], 'models'; sys.exit(status)"
    )
    words = ["--predictions", str(occ3d / "maps"), "--labels", str(occ3d / "gts"), "--protocol", "occ3d"]
    alone = subprocess.run(
        [sys.executable, "-c", code, "evaluate", *words], capture_output=True, text=True, timeout=120
    )
    assert alone.returncode == 0, alone.stderr
    module = [sys.executable, "-m", "lexivox.evaluate", *words, "--json", str(occ3d / "x.json")]
    again = subprocess.run(module, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert (occ3d / "x.json").read_text() == (occ3d / "maps/scores.json").read_text()
    assert again.stdout.splitlines()[0].startswith("| protocol | labels | mask | coverage | miou |")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "evaluate must be given a run folder, or --predictions and --labels; got neither"),
        (["--labels", "x"], "labels must come with --predictions and without a run folder"),
        (["run", "--labels", "x", "--predictions", "y"], "labels must come with --predictions and without a run"),
        (["--labels", "x", "--predictions", "y"], "--protocol of files must be one of occ3d, rayiou"),
        (["--labels", "x", "--predictions", "y", "--protocol", "occ3d"], "predictions must be a folder; got none"),
    ],
)
def test_wrong_options_are_one_line(words, line, capsys):
    assert cli.main(["evaluate", *words]) == 1
    assert line in capsys.readouterr().err


def test_the_help_names_every_benchmark():
    from lexivox.commands.files import PROTOCOLS

    assert tuple(FILE_BENCHMARKS) == PROTOCOLS
