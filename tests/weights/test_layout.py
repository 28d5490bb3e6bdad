"""Our model of the published configuration has the published arrays, no more and no less (spec POP-3D 8)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.geometry.grid import POP3D
from lexivox.model import OccupancyModel
from lexivox.ops.attention import PlaneSelfAttention
from lexivox.weights.keys import DERIVED, PLANES, published_names
from tests.weights.published import full, model_of


@pytest.fixture(scope="module")
def layout(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "pop3d_state_dict_layout.npz", allow_pickle=False) as archive:
        return {name.removeprefix("r101/"): archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def model() -> OccupancyModel:
    with torch.device("meta"):
        return model_of(full())


def test_every_array_has_the_published_name_and_shape(layout, model: OccupancyModel) -> None:
    names = published_names(model.state_dict())
    theirs = {
        str(key): (tuple(shape[1 : 1 + shape[0]].tolist()), str(dtype).removeprefix("torch."))
        for key, shape, dtype in zip(layout["keys"], layout["ndim_then_shape"], layout["dtype"], strict=True)
    }
    assert len(theirs) == 818
    ours = {
        names[name]: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    }
    assert ours == {name: value for name, value in theirs.items() if name not in DERIVED}
    assert theirs.keys() - ours.keys() == set(DERIVED)


def test_the_same_arrays_learn(layout, model: OccupancyModel) -> None:
    keys = [str(key) for key in layout["keys"]]
    names = published_names(model.state_dict())
    ours = {names[name]: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert set(ours) == {key for key, is_parameter in zip(keys, layout["is_parameter"], strict=True) if is_parameter}
    assert {key for key, learns in ours.items() if learns} == {
        key for key, learns in zip(keys, layout["trainable"], strict=True) if learns
    }
    assert sum(p.numel() for p in model.parameters()) == int(layout["parameters"]) == 64_626_752
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learning == int(layout["trainable_parameters"]) == 64_299_008


def test_resnet50_has_the_published_counts() -> None:
    with torch.device("meta"):
        model = model_of(full(50))
    assert len(model.state_dict()) + len(DERIVED) == 478
    assert sum(p.numel() for p in model.parameters()) == 44_576_629
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 44_301_109


def planes(**options) -> TriplaneEncoder:
    return TriplaneEncoder(
        POP3D,
        channels=256,
        num_heads=8,
        num_layers=1,
        num_levels=4,
        anchors=(4, 32, 32),
        points_per_anchor=2,
        **options,
    )


def test_reference_points(layout) -> None:
    made = planes()
    lower, upper = torch.tensor(POP3D.lower_m), torch.tensor(POP3D.upper_m)
    for plane, name in enumerate(PLANES):
        ours = ((made.get_buffer(f"reference_{plane}") - lower) / (upper - lower)).transpose(0, 1).reshape(-1, 3)[::97]
        np.testing.assert_allclose(ours.numpy(), layout[f"ref_3d_{name}_every97th"], atol=1e-6)
    np.testing.assert_allclose(made.get_buffer("own_place")[::97].numpy(), layout["ref_2d_hw_every97th"], atol=1e-6)


def test_start_values_of_the_offsets(layout) -> None:
    layer = planes(spread_self_attention=False).layers[0]
    start = layer.self_attention.sampling_offsets.bias.detach()
    np.testing.assert_allclose(start.numpy(), layout["init/self_offsets_bias"], atol=1e-5)
    for plane, offsets in enumerate(layer.cross_attention.sampling_offsets):
        expected = layout[f"init/cross_offsets_bias_{plane}"]
        np.testing.assert_allclose(offsets.bias.detach().numpy(), expected, atol=1e-5)


def test_points_that_start_at_one_place_never_part() -> None:
    """Why ``spread_self_attention`` exists: equal gradients for all points of a head."""
    for spread in (False, True):
        torch.manual_seed(0)
        layer = PlaneSelfAttention(16, 2, 4, dropout=0.0)
        layer.reset_parameters()
        if not spread:
            torch.nn.init.zeros_(layer.sampling_offsets.bias)
        place = (torch.arange(9)[:, None] + 0.5) / 9
        layer(torch.randn(1, 9, 16), torch.randn(9, 16), place.expand(9, 2), (3, 3)).square().sum().backward()
        gradient = layer.sampling_offsets.bias.grad.view(2, 2, 4, 2)  # head, copy, point, xy
        assert torch.allclose(gradient, gradient[:, :, :1].expand_as(gradient), atol=1e-6) != spread
