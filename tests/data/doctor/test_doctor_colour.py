"""Exchanged channels: of a whole rig, of one camera among others, and silence where there is no colour."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lexivox.data.datasets import open_dataset
from lexivox.data.doctor.colour import _groups, _verdict, check_colours


@pytest.fixture(scope="module")
def sample(realdata):
    return open_dataset("nuscenes", realdata / "nuscenes")[0]


def exchanged(sample, cameras):
    views = [replace(v, image=v.image.flip(0)) if v.name in cameras else v for v in sample.views]
    return replace(sample, views=tuple(views))


def test_real_colours_are_right_and_exchanged_ones_are_found(sample):
    names = [view.name for view in sample.views]
    (healthy,) = check_colours([sample])
    assert healthy.severity == "ok"
    assert healthy.text.startswith(f"{', '.join(names)}: colours are those of a street")
    (found,) = check_colours([exchanged(sample, names)])
    assert (found.severity, found.fault) == ("error", "bgr")
    assert found.text.startswith(f"{', '.join(names)}: red and blue are exchanged; read the images as BGR")
    (found,) = check_colours([exchanged(sample, ["CAM_BACK"])])
    assert found.text.startswith("CAM_BACK: red and blue are exchanged")


def test_grey_images_tell_nothing(sample):
    grey = [replace(v, image=v.image.float().mean(0).byte().expand(3, -1, -1).contiguous()) for v in sample.views[:1]]
    (found,) = check_colours([replace(sample, views=tuple(grey))])
    assert found.severity == "unsure"
    assert list(check_colours([replace(sample, views=())])) == []
    assert list(check_colours([])) == []


def test_cameras_that_overlap_form_groups_of_two_sides():
    # a and b agree, c is opposite to b, d overlaps with nobody.
    groups = list(_groups(["a", "b", "c", "d"], {("a", "b"): 0.9, ("b", "c"): -0.8, ("a", "d"): 0.1}))
    assert groups == [{"a": 1, "b": 1, "c": -1}, {"d": 1}]


def test_a_group_of_two_sides_without_votes_is_an_error_too():
    (found,) = _verdict({"a": 1, "b": -1}, {"a": 0.1, "b": 0.1})
    assert (found.severity, found.fault) == ("error", "bgr")
    assert "a show things in colours opposite to b: exchange red and blue of one side" in found.text
    (found,) = _verdict({"a": 1, "b": -1}, {"a": -2.0, "b": 2.0})
    assert found.text.startswith("a: red and blue are exchanged")


def test_the_sky_is_what_lies_over_every_return():
    from lexivox.data.doctor.colour import _above

    uv = torch.tensor([[5.0, 90.0], [15.0, 45.0]])  # of an image of 90 x 320: in the first and second of 32 columns
    above = _above(uv, (90, 320))
    # The first column reaches down to 1 - 0.05: 85 of the 90 rows; the second to 0.45: 40 rows. None: 85 rows.
    assert above[:, 0].sum() == 85
    assert above[:, 5].sum() == 40
    assert above[:, 159].sum() == 85
