"""What time asks of readers: keyframes without pixels, and tracks that stay the same for a whole drive."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from PIL import Image

from lexivox.data.datasets import open_dataset
from lexivox.data.datasets.files import read_no_image
from lexivox.data.datasets.pandaset_boxes import PANDAR_GT, _read
from lexivox.data.datasets.pandaset_drive import PandasetDrive
from lexivox.data.synthetic.drive import SyntheticDrive
from lexivox.data.synthetic.nuscenes_writer import DriveSpec, write_nuscenes
from lexivox.errors import DataError


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    drives = [DriveSpec(5, 4, "train"), DriveSpec(6, 3, "train")]
    root = write_nuscenes(tmp_path_factory.mktemp("city"), drives, "v1.0-mini", image_hw=(32, 56), num_azimuths=360)
    return open_dataset("nuscenes", root, None, boxes=True, labels="panoptic")


@pytest.fixture(scope="module")
def pandaset(realdata):
    return open_dataset("pandaset", realdata / "pandaset", boxes=True)


@pytest.fixture(params=["city", "drive", "pandaset", "semantickitti"])
def dataset(request):
    if request.param == "drive":
        return SyntheticDrive(5, 2, image_hw=(16, 28), num_azimuths=60)
    if request.param == "semantickitti":
        return open_dataset("semantickitti", request.getfixturevalue("realdata") / "semantickitti")
    return request.getfixturevalue(request.param)


def test_without_images_everything_else_is_the_same(dataset):
    full = dataset[1]
    with mock.patch.object(Image.Image, "convert", side_effect=AssertionError("decoded")):
        bare = dataset.without_images(1)
    assert len(bare.views) == len(full.views) > 0
    for view, known in zip(bare.views, full.views, strict=True):
        assert not view.has_image
        assert view.image_hw == known.image_hw
        assert view.image.dtype == torch.uint8
        assert torch.equal(view.image_from_cam, known.image_from_cam)
        assert torch.equal(view.ego_from_cam.matrix(), known.ego_from_cam.matrix())
    assert torch.equal(bare.lidar.xyz, full.lidar.xyz)
    assert torch.equal(bare.global_from_ego.matrix(), full.global_from_ego.matrix())
    assert bare.token == full.token


def test_a_missing_or_damaged_image_is_named_all_the_same(tmp_path):
    with pytest.raises(DataError, match="image of CAM of sample 7 must exist; got none"):
        read_no_image(tmp_path / "none.jpg", "CAM of sample 7")
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="image of CAM of sample 7 must be readable"):
        read_no_image(tmp_path / "damaged.jpg", "CAM of sample 7")


def tracks_of(dataset, indices):
    """Track -> keyframe -> (global centre, size, label, velocity in the world)."""
    found: dict[int, dict[int, tuple]] = {}
    for index in indices:
        sample = dataset.without_images(index)
        boxes = sample.boxes
        assert len(boxes.track.unique()) == len(boxes.track), "a track is there once"
        center = sample.global_from_ego.apply(boxes.center.double())
        flat = torch.nn.functional.pad(boxes.velocity, (0, 1)).double() @ sample.global_from_ego.rotation.T
        rows = zip(boxes.track.tolist(), center, boxes.size_m, boxes.label.tolist(), flat, strict=True)
        for track, *row in rows:
            found.setdefault(track, {})[index] = (*row, sample.timestamp_ns * 1e-9)
    return found


@pytest.mark.parametrize("name", ["city", "pandaset"])
def test_a_track_is_one_object_for_the_whole_drive(name, request):
    """Same class; it goes from keyframe to keyframe as far as its velocities say."""
    dataset = request.getfixturevalue(name)
    first = dataset.drives[0]
    indices = [i for i, drive in enumerate(dataset.drives) if drive == first]
    found = tracks_of(dataset, indices)
    long = [track for track in found.values() if len(track) > 1]
    assert len(long) > 20
    off = []
    for track in long:
        assert len({row[2] for row in track.values()}) == 1
        for (_, a), (_, b) in zip(list(track.items())[:-1], list(track.items())[1:], strict=True):
            mean = (a[3] + b[3]) / 2 * (b[4] - a[4])
            off.append(float((b[0] - a[0] - mean)[:2].norm()))
    off = torch.tensor(off)
    assert off[off.isfinite()].quantile(0.95) < 0.5
    assert off.isfinite().double().mean() > 0.95


def test_tracks_of_two_drives_of_the_city_differ(city):
    tracks = {drive: set() for drive in city.drives}
    for index, drive in enumerate(city.drives):
        tracks[drive] |= set(city.without_images(index).boxes.track.tolist())
    one, other = tracks.values()
    assert not one & other


def test_an_object_of_two_lidars_keeps_its_track_when_one_cuboid_ends(realdata, pandaset):
    """PandaSet 002: a cuboid of the forward LiDAR goes on alone at one keyframe; its twin's track must go on."""
    drive = PandasetDrive(realdata / "pandaset" / "002")
    twin_of: dict[str, str] = {}
    tables = {frame: _read(drive, frame, "x") for frame in drive.choose_keyframes(None)}
    for table in tables.values():
        known = set(table["uuid"])
        rows = zip(table["uuid"], table["cuboids.sibling_id"], table["cuboids.sensor_id"], strict=True)
        twin_of |= {uuid: sibling for uuid, sibling, sensor in rows if sensor == PANDAR_GT and sibling in known}
    alone = [
        (index, uuid)
        for index, table in enumerate(tables.values())
        for uuid in table["uuid"]
        if uuid in twin_of and twin_of[uuid] not in set(table["uuid"])
    ]
    assert len(alone) == 1
    ((index, _),) = alone
    before, here = (set(pandaset.without_images(i).boxes.track.tolist()) for i in (index - 1, index))
    raw = len(set(list(tables.values())[index]["uuid"]) - set(list(tables.values())[index - 1]["uuid"]))
    assert len(here - before) == raw - 1
