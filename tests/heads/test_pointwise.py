from __future__ import annotations

import pytest
import torch
from torch import nn

from lexivox.errors import ShapeError
from lexivox.heads.pointwise import PointwiseHead


def test_layers_are_the_published_ones() -> None:
    head = PointwiseHead(256, 512, 2, 2, decoder_channels=256)
    shapes = [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(512, 256), (256, 512), (2, 256)]
    assert [type(m) for m in head.decoder] == [nn.Linear, nn.Softplus, nn.Linear]


def test_published_parameters() -> None:
    heads = PointwiseHead(256, 512, 2, decoder_channels=256), PointwiseHead(256, 1024, 512)
    assert sum(p.numel() for head in heads for p in head.parameters()) == 2_100_994  # spec POP-3D 8


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_num_layers_counts_the_decoder(num_layers: int) -> None:
    head = PointwiseHead(6, 5, 4, num_layers)
    assert sum(isinstance(m, nn.Linear) for m in head.decoder) == num_layers
    assert head(torch.randn(3, 6)).shape == (3, 4)


def test_equal_to_the_formula() -> None:
    head, x = PointwiseHead(3, 4, 2), torch.randn(5, 3)
    first, _, second = head.decoder
    hidden = (x @ first.weight.T + first.bias).exp().add(1).log() @ second.weight.T + second.bias
    torch.testing.assert_close(head(x), hidden @ head.classifier.weight.T + head.classifier.bias)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_chunks_and_one_product_for_two_layers_change_nothing(num_layers: int) -> None:
    head, x = PointwiseHead(3, 4, 2, num_layers, chunk=7), torch.randn(50, 3)
    with torch.no_grad():
        torch.testing.assert_close(head(x), head.classifier(head.decoder(x)))
        assert head(x[:0]).shape == (0, 2)


def test_every_parameter_gets_a_gradient() -> None:
    head = PointwiseHead(3, 4, 2, 3)
    head(torch.randn(5, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_a_head_needs_a_layer() -> None:
    with pytest.raises(ShapeError, match="num_layers of a head must be 1 or more; got 0"):
        PointwiseHead(3, 4, 2, 0)


def test_the_mlp_of_occflownet() -> None:
    """Spec occflownet 1.5: 64 -> 256 x 3 -> 1 with ReLU after every hidden layer, Glorot's start, biases 0."""
    options = {"activation": "relu", "last_activation": True, "glorot": True}
    head = PointwiseHead(64, 256, 1, 3, **options)
    assert [type(m) for m in head.decoder] == [nn.Linear, nn.ReLU] * 3
    assert sum(p.numel() for p in head.parameters()) == 64 * 256 + 2 * 256 * 256 + 256 + 3 * 256 + 1
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert not any(bool(layer.bias.any()) for layer in layers)
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.98 * bound < float(layers[0].weight.detach().abs().max()) <= bound
    x = torch.randn(600, 64)
    with torch.no_grad():
        hidden = x
        for layer in layers[:-1]:
            hidden = (hidden @ layer.weight.T).clamp_min(0.0)
        torch.testing.assert_close(head(x), hidden @ layers[-1].weight.T)


def test_a_head_can_start_nearly_empty() -> None:
    head = PointwiseHead(4, 8, 1, output_prob=0.02)
    assert float(head.classifier.bias.detach().sigmoid()) == pytest.approx(0.02)
