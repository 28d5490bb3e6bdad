"""What the records of the viewer refuse, and how they are packed for the page."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
import torch

from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.geometry.grid import OCC3D, POP3D
from lexivox.grounding.answer import Verdict
from lexivox.grounding.regions import connect
from lexivox.view.colors import heat_ramp, quantize
from lexivox.view.hits import top_hits
from lexivox.view.html import SCRIPTS, asset, report_html, write_report
from lexivox.view.pack import pack_heat, pack_image, pack_report, pack_scene
from lexivox.view.scene import (
    ClassLayer,
    Curve,
    HeatLayer,
    NamedImage,
    PointCloud,
    RunReport,
    ScoreTable,
    VoxelScene,
    VoxelSet,
    layer_named,
)
from lexivox.view.surround import place_of, surround_order

RED = np.array([[255, 0, 0]], dtype=np.uint8)
ONE = np.array([[1, 2, 3]])


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def test_a_layer_must_fit_the_voxels() -> None:
    with pytest.raises(ShapeError, match="must hold a value per voxel; got 2 for 1"):
        VoxelScene(OCC3D, ONE, (HeatLayer("q", np.zeros(2)),))
    with pytest.raises(ShapeError, match="layer 'q'"):
        VoxelSet("truth", ONE, (HeatLayer("q", np.zeros(2)),))


def test_voxels_must_lie_in_the_grid() -> None:
    outside = np.array([[200, 0, 0]])
    with pytest.raises(ShapeError, match=r"must lie in the grid of \(200, 200, 16\); got \[200, 0, 0\]"):
        VoxelScene(OCC3D, outside)
    with pytest.raises(ShapeError, match="must lie in the grid"):
        VoxelScene(OCC3D, ONE, truth=VoxelSet("truth", -ONE))


def test_labels_must_have_names_and_colours() -> None:
    with pytest.raises(ShapeError, match=r"must lie in 0\.\.0; got 3\.\.3\. Drop free"):
        ClassLayer("c", np.array([3]), ("car",), RED)
    with pytest.raises(ShapeError, match="must hold a colour for each"):
        ClassLayer("c", np.array([0]), ("car", "road"), RED)


def test_layers_are_found_by_name() -> None:
    scene = VoxelScene(OCC3D, ONE, (HeatLayer("a van", np.zeros(1)),))
    assert layer_named(scene.voxels(), None) is scene.layers[0]
    assert layer_named(scene.voxels(), "a van") is scene.layers[0]
    with pytest.raises(ConfigError, match=r"got 'a bus'\. It has: 'a van'"):
        layer_named(scene.voxels(), "a bus")
    with pytest.raises(ConfigError, match="truth must be given"):
        scene.voxels(truth=True)


def test_ground_follows_the_frame() -> None:
    assert VoxelScene(OCC3D, ONE).ground_m == 0.0
    assert VoxelScene(POP3D, ONE).ground_m == -1.84
    assert VoxelScene(POP3D, ONE, ground_z_m=-1.5).ground_m == -1.5


def test_a_table_row_must_have_all_cells() -> None:
    with pytest.raises(ShapeError, match="row 'ours' of table 't' must have 2 cells; got 1"):
        ScoreTable("t", ("IoU", "mIoU"), {"ours": (0.1,)})


def test_packing_keeps_order_and_values() -> None:
    index = np.array([[5, 1, 2], [0, 3, 9], [199, 199, 15]])
    score = np.array([0.5, 1.5, 1.0])
    packed = pack_scene(VoxelScene(OCC3D, index, (HeatLayer("q", score),)))
    (voxels,) = packed["sets"]
    np.testing.assert_array_equal(unpacked(voxels["index"], "<u2").reshape(3, 3).T, index)
    layer = voxels["layers"][0]
    back = layer["lo"] + unpacked(layer["value"], "u1") / 255 * (layer["hi"] - layer["lo"])
    np.testing.assert_allclose(back, score, atol=1 / 255)
    assert [hit["row"] for hit in layer["hits"]] == [1, 2]  # row 0 is 3.5 m from row 1
    assert layer["hits"][0]["xyz"] == [-39.8, -38.6, 2.8]  # -40 + 0.5*0.4, -40 + 3.5*0.4, -1 + 9.5*0.4


def test_nan_scores_are_the_lowest_and_never_a_hit() -> None:
    score = np.array([np.nan, 0.2, 0.4])
    value, low, high = quantize(score)
    assert (value.tolist(), low, high) == ([0, 0, 255], 0.2, 0.4)
    packed = pack_heat(OCC3D, np.array([[0, 0, 0], [50, 0, 0], [99, 0, 0]]), HeatLayer("q", score))
    assert [hit["row"] for hit in packed["hits"]] == [2, 1]
    empty = pack_heat(OCC3D, np.zeros((2, 3), dtype=np.int64), HeatLayer("q", np.full(2, np.nan)))
    json.dumps(empty, allow_nan=False)
    assert empty["hits"] == []


def test_hits_stand_apart() -> None:
    index = np.array([[0, 0, 0], [1, 0, 0], [30, 0, 0], [31, 0, 0]])
    rows = top_hits(OCC3D, index, np.array([0.9, 1.0, 0.5, 0.4]), apart_m=4.0)
    assert rows.tolist() == [1, 2]
    assert top_hits(OCC3D, index, np.array([0.9, 1.0, 0.5, 0.4]), count=1).tolist() == [1]
    assert top_hits(OCC3D, index[:0], np.zeros(0)).tolist() == []


def test_many_voxels_are_searched_in_bounded_work() -> None:
    index = np.argwhere(np.ones((100, 100, 10)))
    score = np.random.default_rng(0).random(len(index))
    assert top_hits(OCC3D, index, score)[0] == score.argmax()


def test_points_are_packed_in_their_own_box() -> None:
    xyz = np.array([[-3.0, 2.0, 0.5], [4.0, 2.5, 1.5], [np.nan, 0.0, 0.0]])
    packed = pack_scene(VoxelScene(OCC3D, ONE, points=PointCloud(xyz)))["points"]
    steps = unpacked(packed["value"], "<u2").reshape(3, -1).T / 65535
    np.testing.assert_allclose(steps * packed["extent"] + packed["lower"], xyz[:2], atol=2e-4)
    empty = pack_scene(VoxelScene(OCC3D, ONE, points=PointCloud(np.zeros((0, 3)))))["points"]
    assert empty["count"] == 0


def test_images_are_jpeg_or_png() -> None:
    pixels = np.zeros((20, 2000, 3), dtype=np.uint8)
    assert pack_image(NamedImage("a", pixels))["src"].startswith("data:image/jpeg;base64,")
    assert pack_image(NamedImage("a", b"\x89PNG...."))["src"].startswith("data:image/png;base64,")
    with pytest.raises(DataError, match="image 'CAM_BACK' must be a JPEG or PNG; got bytes that begin with b'<svg'"):
        pack_image(NamedImage("CAM_BACK", b"<svg onload=alert(1)>"))


def test_cameras_stand_where_they_look() -> None:
    names = ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"]
    assert [names[i] for i in surround_order(names)] == [
        *("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
        *("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
    ]
    pandaset = ["front_camera", "left_camera", "back_camera", "right_camera"]
    assert [pandaset[i] for i in surround_order(pandaset)] == [
        *("front_camera", "left_camera", "back_camera", "right_camera")
    ]
    assert surround_order(["2", "1", "front"]) == [2, 0, 1]
    assert place_of("rear_left_camera") == "back left"


def test_scores_are_text_and_curves_survive_nan() -> None:
    steps, values = np.arange(3), np.array([2.0, np.nan, 1.0])
    table = ScoreTable("t", ("a", "b", "c", "d"), {"r": (1.0, None, 7, float("nan"))})
    packed = pack_report(RunReport("run", tables=(table,), curves=(Curve("loss", steps, values),)))
    assert packed["tables"][0]["rows"][0]["cells"] == ["1.000", "–", "7", "–"]
    assert packed["curves"][0]["values"] == [2.0, None, 1.0]
    long = Curve("loss", np.arange(100_000), np.ones(100_000))
    thin = pack_report(RunReport("run", curves=(long,)))["curves"][0]
    assert len(thin["steps"]) <= 600
    assert set(thin["values"]) == {1.0}


def test_no_text_can_leave_its_place_in_the_page() -> None:
    evil = '</script><img src=x onerror="alert(1)">{{data}}\u2028'
    page = report_html(RunReport(evil, notes=(evil,), facts={evil: evil}))
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert json.loads(page.split('id="lexivox-data">')[1].split("</script>")[0])["notes"] == [evil]


def test_the_page_needs_nothing_from_outside(report: RunReport) -> None:
    text = report_html(report).replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text


def test_six_keyframes_stay_small(report: RunReport, tmp_path) -> None:
    path = write_report(RunReport("run", scenes=report.scenes * 2), tmp_path / "new" / "report.html")
    assert path.stat().st_size < 4_000_000


def test_an_unwritable_report_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="report must be writable; got"):
        write_report(RunReport("run"), tmp_path / "file" / "report.html")


def test_page_and_pictures_share_their_colours() -> None:
    script = asset("theme.js")
    for theme in ("light", "dark"):
        assert f"[{', '.join(map(str, heat_ramp(theme)[0].tolist()))}]" in script
        assert f"[{', '.join(map(str, heat_ramp(theme)[255].tolist()))}]" in script
    assert all(asset(f"{name}.js").startswith("//") for name in SCRIPTS)


def test_what_was_found_is_packed_with_its_boxes() -> None:
    index = np.array([[5, 5, 0], [50, 5, 0], [51, 5, 0]])
    regions = connect(OCC3D, torch.from_numpy(index[1:]), torch.tensor([0.2, 0.9]))
    layer = HeatLayer("q", np.array([-np.inf, 0.2, 0.9]), tuple(regions), Verdict(True, 0.01, 0.05, 0.1, 2))
    packed = pack_heat(OCC3D, index, layer)
    assert packed["places"] == 1
    assert packed["verdict"]["here"] is True
    assert (packed["lo"], packed["hi"]) == (0.2, 0.9)
    [found] = packed["regions"]
    assert (found["row"], found["count"], found["size"]) == (2, 2, [0.8, 0.4, 0.4])
    assert np.ptp(np.array(found["corners"]), axis=0).tolist() == pytest.approx([0.8, 0.4, 0.4])
    assert pack_heat(OCC3D, index, HeatLayer("q", np.zeros(3)))["verdict"] is None
