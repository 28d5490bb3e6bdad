"""Laws of rigid transforms, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexivox.errors import ShapeError
from lexivox.geometry.transform import RigidTransform

number = st.floats(-100, 100)
vector = st.tuples(number, number, number)
quaternion = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 1e-3)
pose = st.tuples(quaternion, vector)
laws = settings(max_examples=60, deadline=None)


def transform(pose):
    return RigidTransform.from_quaternion(*pose)


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@laws
@given(pose, pose, pose, vector)
def test_composition_applies_in_turn_and_is_associative(a, b, c, xyz):
    a, b, c = transform(a), transform(b), transform(c)
    xyz = torch.tensor([xyz], dtype=torch.float64)
    close((a @ b).apply(xyz), a.apply(b.apply(xyz)))
    close(((a @ b) @ c).matrix(), (a @ (b @ c)).matrix())
    close((a @ b).matrix(), a.matrix() @ b.matrix())


@laws
@given(pose, pose)
def test_inverse(a, b):
    a, b = transform(a), transform(b)
    close((a @ a.inverse()).matrix(), torch.eye(4, dtype=torch.float64))
    close((a @ b).inverse().matrix(), (b.inverse() @ a.inverse()).matrix())
    close(RigidTransform.from_matrix(a.matrix()).matrix(), a.matrix())


@laws
@given(pose, vector, vector)
def test_distances_and_handedness_stay(a, p, q):
    a = transform(a)
    pair = torch.tensor([p, q], dtype=torch.float64)
    close(torch.pdist(a.apply(pair)), torch.pdist(pair))
    close(torch.linalg.det(a.rotation), torch.tensor(1.0, dtype=torch.float64))


@laws
@given(st.floats(-6, 6), vector)
def test_yaw_is_the_quaternion_about_z(yaw, shift):
    turned = RigidTransform.from_quaternion([2 * math.cos(yaw / 2), 0.0, 0.0, 2 * math.sin(yaw / 2)], shift)
    close(RigidTransform.from_yaw(yaw, shift).matrix(), turned.matrix())


def test_a_quarter_turn_by_hand():
    ego_from_box = RigidTransform.from_yaw(math.pi / 2, (10.0, 0.0, 1.0))
    moved = ego_from_box.apply(torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64))
    close(moved, torch.tensor([[10.0, 2.0, 1.0]], dtype=torch.float64))


def test_a_batch_is_its_members_and_points_keep_their_dtype():
    members = [RigidTransform.from_yaw(k, (k, 2.0, 3.0)) for k in (0.1, 0.7, 2.0)]
    stacked, xyz = RigidTransform.stack(members), torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    assert stacked.apply(xyz).shape == (3, 5, 3)
    assert stacked.apply(xyz).dtype == torch.float32
    for number, member in enumerate(members):
        torch.testing.assert_close(stacked.apply(xyz)[number], member.apply(xyz))
        close(stacked[number].matrix(), member.matrix())
    close((stacked @ members[0]).matrix()[1], (members[1] @ members[0]).matrix())


def test_a_quaternion_without_length_is_refused():
    with pytest.raises(ShapeError, match="quaternion must have a length above 0"):
        RigidTransform.from_quaternion([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
