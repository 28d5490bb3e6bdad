"""Planted faults of calibration and images are found on a real drive, and nothing on the untouched one.

The whole table, on every recording, is made by ``benchmarks/doctor_faults.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lexivox.data.datasets import open_dataset
from lexivox.data.doctor import projection
from lexivox.data.doctor.agreement import NUM_STRIPS, Agreement, agreement
from lexivox.data.doctor.edges import NUM_SECTORS, edge_views
from lexivox.data.doctor.projection import check_projection
from lexivox.data.doctor.suspects import already_moved, gross, sizes, slight_sizes, turns
from lexivox.data.doctor.timing import Motion, delays, motions
from lexivox.data.synthetic import SyntheticDrive
from lexivox.geometry.transform import RigidTransform
from tests.reference.agreement import slow_agreement


@pytest.fixture(scope="module")
def kitti(realdata):
    """Three scans of one forward camera, and the motion of the car at about 7 m/s."""
    drive = open_dataset("semantickitti", realdata / "semantickitti")
    indices = [1, 2, 4]
    samples = [drive[i] for i in indices]
    return drive, samples, motions(drive, indices, samples)


def planted(samples, change):
    return [view for s in samples for view in edge_views(replace(s, views=tuple(change(v) for v in s.views)))]


def faults(views, motion):
    return {found.fault: found.text for found in check_projection(views, motion) if found.fault}


FAULTS = {
    "mirrored": lambda view: replace(view, image=view.image.flip(2)),
    "extrinsics-inverted": lambda view: replace(view, ego_from_cam=view.ego_from_cam.inverse()),
    "rotation-transposed": lambda view: replace(
        view, ego_from_cam=RigidTransform(view.ego_from_cam.rotation.T, view.ego_from_cam.translation)
    ),
    "image-size": lambda view: replace(view, image_from_cam=view.image_from_cam * torch.tensor([[0.5], [0.5], [1.0]])),
    "turned": lambda view: replace(view, ego_from_cam=RigidTransform.from_yaw(0.035) @ view.ego_from_cam),
}


def test_nothing_is_wrong_with_the_untouched_drive(kitti):
    _, samples, motion = kitti
    first, last = check_projection(planted(samples, lambda view: view), motion)
    assert (first.severity, last.severity) == ("ok", "ok")
    assert "outlines of the sweep lie on image edges" in first.text
    assert "at 7.1 m/s delays between images and sweep show from about 56 ms" in last.text


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_name(kitti, fault):
    _, samples, motion = kitti
    found = faults(planted(samples, FAULTS[fault]), motion)
    assert list(found) == [fault]
    expected = {
        "image-size": "multiply the first two rows of the intrinsics by 2.0",
        "turned": "turn the cameras by -2 degrees about the up axis of the car",  # 0.035 rad
    }
    assert expected.get(fault, "") in found[fault]


@pytest.mark.parametrize(("step", "side"), [(1, "later"), (-1, "earlier")])
def test_images_of_the_neighbouring_exposure_tell_sign_and_size_of_the_delay(kitti, step, side):
    """Images of the next scan (104 ms later) were taken later than their stamps say, and so on."""
    drive, samples, motion = kitti
    others = [replace(s, views=drive[i + step].views) for s, i in zip(samples, [1, 2, 4], strict=True)]
    found = faults([view for s in others for view in edge_views(s)], motion)
    assert list(found) == ["time-offset"]
    by_ms = int(found["time-offset"].split("images' times ")[1].split(" ms")[0])
    assert 80 <= by_ms <= 130
    assert f"ms {side}" in found["time-offset"]


def test_a_car_that_stands_tells_nothing_about_time(kitti):
    _, samples, motion = kitti
    still = RigidTransform.from_yaw(0.0, (0.01, 0.0, 0.0))
    standing = {token: Motion(None, (still, 0.5)) for token in motion}
    *_, last = check_projection(planted(samples, lambda view: view), standing)
    assert last.severity == "unsure"
    assert "cannot be told: the car stands still (0.02 m/s)" in last.text


def test_an_image_of_nothing_is_a_misfit_and_no_cloud_is_unsure(kitti):
    _, samples, motion = kitti
    generator = torch.Generator().manual_seed(0)

    def noise(view):
        return replace(view, image=torch.randint(0, 255, view.image.shape, generator=generator).to(torch.uint8))

    assert list(faults(planted(samples, noise), motion)) == ["misfit"]
    empty = [replace(view, edges=view.edges[:5], sector=view.sector[:5]) for view in planted(samples, lambda v: v)]
    (found,) = check_projection(empty, motion)
    assert found.severity == "unsure"
    assert found.text == "the sweeps hold only 15 outlines of things, too few to check the calibration"
    assert list(check_projection([], motion)) == []


def test_only_cameras_that_do_not_fit_are_suspects(monkeypatch):
    """A few hundred edges of a camera fit a little better somewhere beside, by chance, however right the camera is."""
    samples = list(SyntheticDrive(223, 2))
    views = [view for sample in samples for view in edge_views(sample)]
    names = {view.camera for view in views}
    fitting = {n for n in names if projection.fits(agreement([v for v in views if v.camera == n]))}
    asked = []
    monkeypatch.setattr(projection, "investigate", lambda views, *_: asked.append({view.camera for view in views}))
    list(check_projection(views, {}))
    assert asked[0] == names  # the whole rig first
    assert 1 <= len(fitting) < len(names)
    assert asked[1:] == [{n} for n in dict.fromkeys(v.camera for v in views) if n not in fitting]


def test_agreement_is_a_mean_with_a_jackknife_error():
    # Two sectors of 3 and 1 edges with sums 6 and 0: mean 6/4 = 1.5; left out: 0/1 = 0 and 6/3 = 2.
    total, count = torch.zeros(NUM_SECTORS).double(), torch.zeros(NUM_SECTORS).double()
    total[0], count[0], count[1] = 6.0, 3.0, 1.0
    strips = torch.zeros(NUM_STRIPS).double()
    strips[0], strips[1] = 3.0, 1.0
    found = Agreement(total, count, strips)
    assert found.mean == pytest.approx(1.5)
    assert found.spread == pytest.approx(16 / 10)
    # The other 358 leave the mean at 1.5: squares of 0, 2 and 358 times 1.5 about their mean.
    without = torch.tensor([0.0, 2.0] + [1.5] * (NUM_SECTORS - 2)).double()
    expected = (without - without.mean()).square().sum() * (NUM_SECTORS - 1) / NUM_SECTORS
    assert found.error == pytest.approx(float(expected) ** 0.5)
    assert found.gain_over(found) == (0.0, 0.0)


def test_all_suspects_at_once_agree_as_one_after_the_other(kitti):
    _, samples, motion = kitti
    views = [view for sample in samples[:2] for view in edge_views(sample)]
    searched = [*turns([-1.0, 0.5, 2.0]), slight_sizes(), *sizes(views[0]), *delays(motion)]
    for some in (*searched, *gross(), *already_moved(samples)):
        together = agreement([some.undo(view) for view in views])
        for k in range(0, len(some.mends), 37):
            alone = slow_agreement([some.one(k).undo(view) for view in views])
            at_once = together[k] if together.mean.ndim else together
            for name in ("total", "count", "strips"):
                torch.testing.assert_close(getattr(at_once, name), getattr(alone, name), rtol=1e-9, atol=1e-9)
            for name in ("mean", "error", "spread"):
                torch.testing.assert_close(getattr(at_once, name), getattr(alone, name))


def test_a_view_agrees_where_edges_lie_on_a_post(kitti):
    """A bright post in a dark image: edges on its outline agree, a little aside they do not."""
    view = edge_views(kitti[1][0])[0]
    xyz_cam = torch.tensor([[0.0, 0.0, 10.0]]).double().repeat(80, 1)
    xyz_cam[:, 1] = torch.linspace(-1.0, 1.0, 80)
    u = float(view.image_from_cam[0, 2] / view.image_hw[1] * view.prominence.shape[1])
    image = torch.zeros_like(view.prominence)
    image[:, int(u)] = 1.0
    edges = view.ego_from_cam.apply(xyz_cam)
    own = replace(view, prominence=image, edges=edges, sector=torch.zeros(80, dtype=torch.int64))
    assert agreement([own]).mean == 1.0
    aside = view.ego_from_cam.apply(xyz_cam + torch.tensor([0.3, 0.0, 0.0]))
    assert agreement([replace(own, edges=aside)]).mean == 0.0
