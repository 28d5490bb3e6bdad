from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops import deform_conv
from lexivox.ops.deform_conv import ModulatedDeformConv2d, modulated_deform_conv2d
from lexivox.ops.sampling import has_triton
from tests.reference import deform_conv as slow

SHAPES = [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 0, 1)]
"""Stride, padding, dilation."""


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def case(stride: int, padding: int, dilation: int, size: tuple[int, int] = (6, 7)) -> tuple[Tensor, ...]:
    """Two images of 3 channels; taps wander far over the border."""
    x, weight = rand(2, 3, *size), rand(4, 3, 3, 3, seed=1)
    h, w = ((n + 2 * padding - 2 * dilation - 1) // stride + 1 for n in size)
    return x, 3.0 * rand(2, 18, h, w, seed=2), rand(2, 9, h, w, seed=3), weight


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_slow_twin(shape: tuple[int, int, int]) -> None:
    inputs = case(*shape)
    ours = modulated_deform_conv2d(*inputs, *shape)
    x, offset, mask, weight = (tensor.numpy() for tensor in inputs)
    for n in range(2):
        expected = slow.modulated_deform_conv2d(x[n], offset[n], mask[n], weight, *shape)
        np.testing.assert_allclose(ours[n].numpy(), expected, atol=1e-12)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = case(1, 1, 1)
    expected = modulated_deform_conv2d(*inputs, 1, 1, 1)
    monkeypatch.setattr(deform_conv, "STRIP", 5)
    torch.testing.assert_close(modulated_deform_conv2d(*inputs, 1, 1, 1), expected, atol=1e-12, rtol=0.0)


@pytest.mark.skipif(not has_triton(), reason="no triton; pip install triton (Linux)")
@pytest.mark.parametrize("shape", SHAPES[2:])
def test_one_kernel_gives_what_strips_give(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"  # there Triton's interpreter runs it
    outputs = []
    for takes in (False, True):
        leaves = [tensor.to(device).requires_grad_() for tensor in case(*shape, size=(5, 4))]
        monkeypatch.setattr(deform_conv, "takes_one_kernel", lambda device, takes=takes: takes)
        out = modulated_deform_conv2d(*leaves, *shape)
        outputs.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    torch.testing.assert_close(*outputs, atol=1e-10, rtol=0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_taps_at_rest_are_a_plain_convolution(shape: tuple[int, int, int]) -> None:
    x, offset, mask, weight = case(*shape)
    ours = modulated_deform_conv2d(x, torch.zeros_like(offset), torch.ones_like(mask), weight, *shape)
    torch.testing.assert_close(ours, F.conv2d(x, weight, None, *shape), atol=1e-12, rtol=0.0)


def test_taps_that_all_move_by_whole_pixels_read_a_shifted_image() -> None:
    x, offset, mask, weight = case(1, 1, 1, (12, 13))
    offset = torch.tensor([2.0, -1.0]).repeat(9)[:, None, None].expand_as(offset).double()  # down 2, left 1
    ours = modulated_deform_conv2d(x, offset, torch.ones_like(mask), weight, 1, 1, 1)
    plain = F.conv2d(x, weight, None, 1, 1)
    torch.testing.assert_close(ours[..., 1:9, 2:12], plain[..., 3:11, 1:11], atol=1e-12, rtol=0.0)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_new_layer_gives_half_of_a_plain_convolution(stride: int, dilation: int) -> None:
    # sigmoid(0) = 0.5; spec POP-3D 11 (vi)
    layer, x = ModulatedDeformConv2d(5, 6, stride, dilation), rand(2, 5, 9, 8, dtype=torch.float32)
    expected = 0.5 * F.conv2d(x, layer.weight, None, stride, dilation, dilation)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_channels_of_the_offset_are_pairs_of_dy_and_dx_and_then_masks() -> None:
    layer, x = ModulatedDeformConv2d(1, 1), torch.zeros(1, 1, 7, 7)
    x[0, 0, 2, 3] = 1.0
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 1] = 2.0  # tap 1 stands one line above
        layer.conv_offset.bias[2], layer.conv_offset.bias[3] = 1.0, -2.0
        layer.conv_offset.bias[18 + 1] = 3.0
        out = layer(x)[0, 0]
    # Read at (y - 1 + 1, x - 2): the output is lit at (2, 5).
    assert out.nonzero().tolist() == [[2, 5]]
    assert float(out[2, 5]) == pytest.approx(2.0 / (1.0 + np.exp(-3.0)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_gradients(shape: tuple[int, int, int]) -> None:
    x, offset, mask, weight = case(*shape, size=(2, 3))
    inputs = [tensor.requires_grad_() for tensor in (x[:, :2].clone(), offset, mask, weight[:2, :2].clone())]
    assert gradcheck(lambda *tensors: modulated_deform_conv2d(*tensors, *shape), inputs)


def test_bfloat16_reads_at_exact_places() -> None:
    layer, x = ModulatedDeformConv2d(16, 8), rand(1, 16, 4, 300, dtype=torch.float32)
    with torch.no_grad():
        layer.conv_offset.bias[:18] = 0.25
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(x)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_bfloat16_gradients_are_close() -> None:
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        layer, x = ModulatedDeformConv2d(8, 8), rand(2, 8, 6, 7, dtype=torch.float32).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            layer(x).float().square().sum().backward()
        gradients.append([x.grad, *[p.grad for p in layer.parameters()]])
    for exact, rough in zip(*gradients, strict=True):
        assert rough.dtype == torch.float32
        assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_no_images() -> None:
    assert ModulatedDeformConv2d(3, 4)(torch.zeros(0, 3, 5, 5)).shape == (0, 4, 5, 5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
def test_gpu_equals_cpu(dtype: torch.dtype, tolerance: float) -> None:
    found = []
    for device in ("cpu", "cuda"):
        inputs = [tensor.float().to(device).requires_grad_() for tensor in case(1, 1, 1, (20, 31))]
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            out = modulated_deform_conv2d(*inputs, 1, 1, 1)
        out.float().square().sum().backward()
        found.append([out.float().detach().cpu(), *[tensor.grad.cpu() for tensor in inputs]])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=tolerance * float(expected.abs().max()), rtol=0.0)
