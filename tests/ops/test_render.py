"""Rendering of packed segments: closed forms, the scalar twin, laws, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from reference import rendering
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from lexivox.errors import ShapeError
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops import render
from lexivox.ops.render import (
    Weights,
    composite,
    distortion_loss,
    extinction_from_logit,
    extinction_from_opacity,
    render_depth,
    render_weights,
    render_weights_torch,
)
from lexivox.ops.sampling import has_numba
from lexivox.ops.walk import Segments, walk

GRID = VoxelGrid((-8.0, -2.0, -1.0), (0.4, 0.4, 0.4), (40, 10, 5), "ego")
NAMES = ("weight", "transmittance", "remaining", "moment_m")
PATHS = [
    pytest.param("torch"),
    pytest.param("numba", marks=pytest.mark.skipif(not has_numba(), reason='no numba; pip install "lexivox[fast]"')),
]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setattr(render, "has_numba", lambda: request.param == "numba")
    return request.param


def random_segments(counts: list[int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Segments:
    """Segments that meet each other, some of no length, the first at some distance."""
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    for count in counts:
        length = torch.rand(count + 1, generator=generator, dtype=torch.float64)
        length[2::4] = 0.0
        pieces.append(length.cumsum(0))
    start, stop = (torch.cat([p[cut] for p in pieces]).to(dtype) for cut in (slice(None, -1), slice(1, None)))
    voxel = torch.randint(0, 50, (len(start),), generator=generator)
    return Segments(torch.tensor(counts), voxel, start, stop)


def random_extinction(segments: Segments, seed: int = 0) -> Tensor:
    """From thin air (the series) to a wall, and exactly 0."""
    generator = torch.Generator().manual_seed(seed)
    extinction = torch.exp(torch.rand(len(segments), generator=generator, dtype=torch.float64) * 9 - 6)
    extinction[::5] = 0.0
    return extinction.to(segments.start_m)


COUNTS = [5, 0, 1, 9, 0, 3]


def test_constant_medium_is_exact(path):
    """Spec 13-3: depth = (1 - exp(-sL)) / s - L exp(-sL), here from inside and in float64."""
    for sigma in (1e-9, 1e-4, 0.05, 0.3, 2.0, 30.0):
        for towards in ((1.0, 0.0, 0.0), (3.0, 0.4, 0.1), (-1.0, 0.2, -0.05)):
            segments = walk(
                GRID, torch.tensor([[0.1, 0.2, 0.3]]).double(), torch.tensor([towards]).double(), torch.tensor([6.0])
            )
            length = float(segments.exit_m)
            weights = render_weights(torch.full((len(segments),), sigma, dtype=torch.float64), segments)
            through = math.exp(-sigma * length)
            depth = -math.expm1(-sigma * length) / sigma - length * through
            assert float(weights.remaining) == pytest.approx(through, abs=1e-12)
            assert float(weights.weight.sum()) == pytest.approx(1 - through, abs=1e-12)
            assert float(render_depth(weights, segments, "none")) == pytest.approx(depth, abs=1e-6)
            assert float(render_depth(weights, segments)) == pytest.approx(depth + through * length, abs=1e-6)


def test_one_wall(path):
    """Free air, then from 4 m on a voxel with extinction 20: the light stops 1 / 20 m inside."""
    segments = walk(GRID, torch.zeros(1, 3).double(), torch.tensor([[1.0, 0.0, 0.0]]).double())
    extinction = torch.where(segments.voxel == GRID.flat_from_index(torch.tensor([30, 5, 2])), 20.0, 0.0).double()
    weights = render_weights(extinction, segments)
    expected = 4.0 * (1 - math.exp(-8.0)) + (1 / 20) * (1 - math.exp(-8.0)) - 0.4 * math.exp(-8.0)
    assert float(weights.moment_m) == pytest.approx(expected, abs=1e-6)
    assert float(weights.remaining) == pytest.approx(math.exp(-8.0), abs=1e-9)
    hit = segments.start_m.sub(4.0).abs() < 1e-9
    assert float(weights.weight[hit]) == pytest.approx(1 - math.exp(-8.0), abs=1e-9)
    assert float(weights.weight[~hit].abs().sum()) == 0.0


def test_equal_to_the_scalar_twin(path):
    segments = random_segments(COUNTS)
    extinction = random_extinction(segments)
    ours = render_weights(extinction, segments)
    at = 0
    for ray, count in enumerate(COUNTS):
        own = slice(at, at + count)
        parts = (x[own].tolist() for x in (extinction, segments.start_m, segments.stop_m))
        weights, transmittances, remaining, moment = rendering.march(*parts)
        assert ours.weight[own].tolist() == pytest.approx(weights, abs=1e-12)
        assert ours.transmittance[own].tolist() == pytest.approx(transmittances, abs=1e-12)
        assert float(ours.remaining[ray]) == pytest.approx(remaining, abs=1e-12)
        assert float(ours.moment_m[ray]) == pytest.approx(moment, abs=1e-7)
        at += count


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_what_ends_and_what_remains_is_everything(path, dtype, tolerance):
    segments = random_segments([150] * 40 + [0, 1], dtype)
    for scale in (1e-4, 1.0, 1e3):
        weights = render_weights(scale * random_extinction(segments), segments)
        total = segments.sum(weights.weight) + weights.remaining
        torch.testing.assert_close(total, torch.ones_like(total), atol=tolerance, rtol=0.0)
        assert weights.weight.dtype == dtype
        assert (weights.opacity >= 0).all()


def test_a_ray_does_not_feel_the_others(path):
    """Nothing is added up across rays: not a digit changes, not even beside an infinite wall."""
    segments = random_segments([7, 20, 3], torch.float32)
    extinction = random_extinction(segments)
    loud = extinction.clone()
    loud[:7] = torch.inf
    together = render_weights(loud, segments)
    alone = Segments(segments.count[1:], segments.voxel[7:], segments.start_m[7:], segments.stop_m[7:])
    for name in NAMES:
        cut = 7 if name in ("weight", "transmittance") else 1
        assert torch.equal(getattr(together, name)[cut:], getattr(render_weights(extinction[7:], alone), name))


@pytest.mark.skipif(not has_numba(), reason='no numba; pip install "lexivox[fast]"')
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_loop_equals_the_torch_twin(dtype, tolerance, threads, monkeypatch):
    from lexivox.ops.kernels import render_numba

    monkeypatch.setattr(render_numba, "_ALONE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    segments = random_segments([0, 40, 3, 0, 150, 1, 90, 0], dtype)
    generator = torch.Generator().manual_seed(3)
    results = []
    for function in (render_weights, lambda e, s: render_weights_torch(e, s.start_m, s.stop_m, s.count)):
        extinction = random_extinction(segments).requires_grad_()
        weights = function(extinction, segments)
        generator.manual_seed(3)
        outputs = [getattr(weights, name) for name in NAMES]
        loss = sum((o * torch.randn(o.shape, generator=generator).to(o)).sum() for o in outputs)
        results.append([x.detach() for x in (*outputs, *torch.autograd.grad(loss, extinction))])
    for ours, expected in zip(*results, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, expected, atol=tolerance * max(1.0, float(expected.abs().max())), rtol=0.0)


@pytest.mark.parametrize("chosen", [*NAMES, "all"])
def test_gradcheck_of_weights_and_depth(path, chosen):
    segments = random_segments([4, 0, 1, 6])
    extinction = (random_extinction(segments) + 1e-3).requires_grad_()

    def outputs(extinction):
        weights = render_weights(extinction, segments)
        return tuple(getattr(weights, n) for n in NAMES) if chosen == "all" else getattr(weights, chosen)

    assert gradcheck(outputs, extinction, atol=1e-6)
    assert gradcheck(lambda e: render_depth(render_weights(e, segments), segments), extinction, atol=1e-6)


def test_gradients_in_thin_air_and_behind_walls(path):
    """From 1e-30 to 1e30 per metre: finite, and the slope of the moment in thin air is half the length squared."""
    segments = Segments(torch.tensor([3]), torch.zeros(3).long(), torch.arange(3.0) * 0.4, torch.arange(1.0, 4.0) * 0.4)
    for values in ((0.0, 0.0, 0.0), (1e-30, 0.0, 1e-30), (1e30, 1.0, 1e30), (0.0, 200.0, 200.0)):
        extinction = torch.tensor(values, requires_grad=True)
        weights = render_weights(extinction, segments)
        total = weights.weight.sum() + weights.moment_m.sum() + weights.remaining.sum()
        (slope,) = torch.autograd.grad(total, extinction)
        assert slope.isfinite().all()
        if max(values) < 1e-20:
            assert slope.tolist() == pytest.approx([0.08, 0.24, 0.40])


def test_half_precision_is_rendered_in_float32(path):
    segments = random_segments([6], torch.float32)
    weights = render_weights(random_extinction(segments).bfloat16(), segments)
    assert weights.weight.dtype == weights.moment_m.dtype == torch.float32


def test_without_rays_or_segments(path):
    nothing = walk(GRID, torch.zeros(0, 3), torch.zeros(0, 3))
    missing = walk(GRID, torch.full((2, 3), 99.0), torch.ones(2, 3))
    for segments, rays in ((nothing, 0), (missing, 2)):
        extinction = torch.zeros(0, requires_grad=True)
        weights = render_weights(extinction, segments)
        assert weights.remaining.tolist() == [1.0] * rays
        assert render_depth(weights, segments).tolist() == [0.0] * rays
        assert render_depth(weights, segments, 30.0).tolist() == [30.0] * rays
        table = torch.ones(3, 2, requires_grad=True)
        out = composite(weights.weight, segments.voxel, table, segments)
        assert out.tolist() == [[0.0, 0.0]] * rays
        loss = out.sum() + weights.remaining.sum() + distortion_loss(weights.weight, segments).sum()
        slopes = torch.autograd.grad(loss, (table, extinction))  # a step without rays is a step all the same
        assert not slopes[0].any()
        empty = torch.ones(0, 2, requires_grad=True)
        assert composite(weights.weight, segments.voxel, empty, segments).tolist() == [[0.0, 0.0]] * rays
        assert distortion_loss(weights.weight, segments).tolist() == [0.0] * rays


def test_background_is_a_choice():
    segments = Segments(torch.tensor([1, 1]), torch.zeros(2).long(), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))
    weights = Weights(torch.zeros(2), torch.ones(2), torch.tensor([1.0, 0.5]), torch.tensor([0.0, 1.5]))
    assert render_depth(weights, segments, "none").tolist() == [0.0, 1.5]
    assert render_depth(weights, segments, "exit").tolist() == [3.0, 4.0]
    assert render_depth(weights, segments, 10.0).tolist() == [10.0, 6.5]
    assert render_depth(weights, segments, torch.tensor([7.0, 8.0])).tolist() == [7.0, 5.5]


def test_extinction_of_a_probability():
    prob = torch.tensor([0.0, 0.5, 0.9, 0.9999, 1.0])
    sigma = extinction_from_opacity(prob, 0.4)
    stopped = -torch.expm1(-sigma * 0.4)
    assert stopped.tolist() == pytest.approx([0.0, 0.5, 0.9, 0.9997, 0.9997], abs=1e-6)
    assert float(sigma[-1]) == pytest.approx(20.28, abs=0.01)
    assert torch.equal(extinction_from_opacity(prob, 0.4, "sigmoid_per_metre"), prob)
    logit = torch.tensor([-20.0, -3.0, 0.0, 4.0, 60.0], requires_grad=True)
    from_logit = extinction_from_logit(logit, 0.4)
    expected = extinction_from_opacity(logit.detach().double().sigmoid()[:4], 0.4)
    torch.testing.assert_close(from_logit.detach()[:4], expected.float(), atol=1e-6, rtol=1e-5)
    (slope,) = torch.autograd.grad(from_logit.sum(), logit)
    assert float(slope[-1]) == pytest.approx(2.5)  # a wall too sure of itself can still be unlearnt
    assert torch.equal(extinction_from_logit(logit, 0.4, "sigmoid_per_metre"), logit.sigmoid())


def gather_multiply_sum(weight, row, table, segments):
    """The formulation with a tensor of segments x channels."""
    return torch.zeros(segments.num_rays, table.shape[1], dtype=table.dtype).index_add(
        0, segments.ray, weight[:, None] * table[row]
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("channels", [1, 17, 70])
def test_composite_equals_gather_multiply_sum(path, dtype, tolerance, channels):
    segments = random_segments(COUNTS, dtype)
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(50, channels, generator=generator).to(dtype).requires_grad_()
    weight = torch.rand(len(segments), generator=generator).to(dtype).requires_grad_()
    cotangent = torch.randn(len(COUNTS), channels, generator=generator).to(dtype)
    results = []
    for function in (composite, gather_multiply_sum):
        out = function(weight, segments.voxel, table, segments)
        results.append([out, *torch.autograd.grad(out, (weight, table), cotangent)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)


def test_composite_against_the_scalar_twin_and_its_threshold(path):
    segments = random_segments([4, 2])
    weight = torch.tensor([0.5, 1e-5, 0.25, 1e-4, 0.0, 0.125]).double().requires_grad_()
    table = torch.arange(100.0).double().view(50, 2).requires_grad_()
    out = composite(weight, segments.voxel, table, segments)
    kept = weight.detach() * (weight.detach() > 1e-4)
    for ray, own in enumerate((slice(0, 4), slice(4, 6))):
        expected = rendering.composite(kept[own].tolist(), segments.voxel[own].tolist(), table.tolist())
        assert out[ray].tolist() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(out.sum(), weight)
    assert (slope != 0).tolist() == [True, False, True, False, False, True]
    exact = composite(weight, segments.voxel, table, segments, eps=-1.0)
    (slope,) = torch.autograd.grad(exact.sum(), weight)
    assert (slope != 0).all()


class Largest(TorchDispatchMode):
    """Remembers the most numbers that any tensor made under it had."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


@pytest.mark.parametrize("function", [composite, gather_multiply_sum])
def test_no_tensor_of_segments_and_channels(path, function):
    """Spec 13-4: forward and backward, nothing is larger than the table; the plain formulation is, so the test sees."""
    segments = random_segments([200] * 20)
    weight = torch.rand(4000, dtype=torch.float64, requires_grad=True)
    table = torch.randn(50, 100, dtype=torch.float64, requires_grad=True)
    with Largest() as largest:
        function(weight, segments.voxel, table, segments).sum().backward()
    assert (largest.numbers <= 50 * 100) == (function is composite)


def test_gradcheck_of_composite(path):
    segments = random_segments([3, 0, 2])
    table = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(5, dtype=torch.float64).add(0.1).requires_grad_()
    assert gradcheck(lambda w, t: composite(w, segments.voxel, t, segments), (weight, table))


def test_distortion_equals_all_pairs(path):
    segments = random_segments(COUNTS)
    weight = render_weights(random_extinction(segments), segments).weight.detach().requires_grad_()
    ours = distortion_loss(weight, segments)
    at = 0
    for ray, count in enumerate(COUNTS):
        own = slice(at, at + count)
        expected = rendering.distortion(*(x[own].tolist() for x in (weight, segments.start_m, segments.stop_m)))
        assert float(ours[ray].detach()) == pytest.approx(expected, abs=1e-12)
        at += count
    torch.testing.assert_close(distortion_loss(weight, segments, 2.0), ours / 2)
    assert gradcheck(lambda w: distortion_loss(w, segments), weight)


def test_extinction_must_fit_the_segments():
    segments = random_segments([2, 1])
    with pytest.raises(ShapeError, match="extinction must hold one number for each segment; got 5 for 3"):
        render_weights(torch.zeros(5), segments)
