"""Exact volume rendering of a grid that is constant inside each voxel (spec 9.5).

With extinction ``s`` per metre and the lengths ``l`` of a ray's segments, optical depth ``tau = s * l``:

    T_k = exp(-sum of tau_j over j < k)      transmittance: the share of the ray that reaches segment k
    w_k = T_k * (1 - exp(-tau_k))            weight: the share that ends in it;  sum of w + T_end = 1
    depth = sum of the integral of t * s * T(t) dt over segment k   (no midpoints: exact)

Two passes: extinction alone gives the weights; whatever else there is (logits, language features) is then added up
only where the weight counts, by :func:`composite`. Compiled on the CPU when numba is installed, Triton on CUDA, pure
torch elsewhere; all in float32, or float64 for float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError
from lexivox.ops.sampling import gather_ragged_rows, has_numba, has_triton
from lexivox.ops.walk import Segments

Density = Literal["voxel_alpha", "sigmoid_per_metre"]
"""What a probability of the density head means (spec 11, A1): the share of light that one voxel edge stops, or, as
published, the extinction per metre itself."""

Background = Literal["none", "exit"]
"""Where the light that nothing stops counts (spec 11, A6): nowhere, as published, or where the ray's walk ends."""

MAX_OPACITY = 0.9997
"""Over an edge of 0.4 m an extinction of 20 per metre."""


def extinction_from_opacity(
    opacity: Float[Tensor, "*points"], edge_m: float, density: Density = "voxel_alpha"
) -> Float[Tensor, "*points"]:
    """Extinction per metre of a probability; above ``MAX_OPACITY`` it grows no more and has no gradient."""
    if density == "sigmoid_per_metre":
        return opacity
    return -torch.log1p(-opacity.clamp_max(MAX_OPACITY)) / edge_m


def extinction_from_logit(
    logit: Float[Tensor, "*points"], edge_m: float, density: Density = "voxel_alpha"
) -> Float[Tensor, "*points"]:
    """Extinction per metre of a logit; without a bound and with a gradient everywhere.

    ``-log(1 - sigmoid(x))`` is ``softplus(x)``: to learn from, this is better than the way over probabilities.
    """
    if density == "sigmoid_per_metre":
        return logit.sigmoid()
    return F.softplus(logit) / edge_m


@dataclass(frozen=True, slots=True)
class Weights:
    """Where rays end.

    Attributes:
        weight: share of its ray that ends in each segment.
        transmittance: share that reaches the segment.
        remaining: share of each ray that nothing stops; 1 for a ray without segments.
        moment_m: integral of distance times share over the ray, without what remains.
    """

    weight: Float[Tensor, "N"]
    transmittance: Float[Tensor, "N"]
    remaining: Float[Tensor, "R"]
    moment_m: Float[Tensor, "R"]

    @property
    def opacity(self) -> Float[Tensor, "R"]:
        """Share of each ray that is stopped."""
        return 1.0 - self.remaining


def render_weights(extinction: Float[Tensor, "N"], segments: Segments) -> Weights:
    """Weights of all segments; differentiable in ``extinction``, not in the distances.

    Args:
        extinction: per metre, not below 0. bfloat16 and float16 are rendered in float32.

    Raises:
        ShapeError: not one extinction for each segment.
    """
    if len(extinction) != len(segments):
        raise ShapeError(
            f"extinction must hold one number for each segment; got {len(extinction)} for {len(segments)}. "
            "Read the volume at the rows of the segments."
        )
    wide = torch.float64 if extinction.dtype == torch.float64 else torch.float32
    inputs = extinction.to(wide), segments.start_m.to(wide), segments.stop_m.to(wide), segments.count
    if extinction.device.type == "cpu" and has_numba():
        return render_weights_numba(*inputs)
    if extinction.device.type == "cuda" and has_triton():
        return render_weights_triton(*inputs)
    return render_weights_torch(*inputs)


def render_weights_numba(
    extinction: Float[Tensor, "N"],
    start_m: Float[Tensor, "N"],
    stop_m: Float[Tensor, "N"],
    count: Int64[Tensor, "R"],
) -> Weights:
    """:func:`render_weights` by the compiled loop; tensors on the CPU only."""
    from lexivox.ops.kernels import render_numba

    offsets = F.pad(count.cumsum(0), (1, 0))
    return Weights(*render_numba.March.apply(extinction.contiguous(), start_m, stop_m, offsets))


def render_weights_triton(
    extinction: Float[Tensor, "N"],
    start_m: Float[Tensor, "N"],
    stop_m: Float[Tensor, "N"],
    count: Int64[Tensor, "R"],
) -> Weights:
    """:func:`render_weights` by the Triton kernel."""
    from lexivox.ops.kernels import render_triton

    offsets = F.pad(count.cumsum(0), (1, 0))
    return Weights(*render_triton.March.apply(extinction.contiguous(), start_m, stop_m, offsets))


def render_weights_torch(
    extinction: Float[Tensor, "N"],
    start_m: Float[Tensor, "N"],
    stop_m: Float[Tensor, "N"],
    count: Int64[Tensor, "R"],
) -> Weights:
    """:func:`render_weights` in torch, on any device."""
    length_m = stop_m - start_m
    tau = extinction * length_m
    before, total = exclusive_sums(tau, count)
    transmittance, opacity = torch.exp(-before), -torch.expm1(-tau)
    weight = transmittance * opacity
    stopped_m = weight * start_m + transmittance * length_m * _moment(tau, opacity)
    ray = torch.repeat_interleave(count, output_size=len(tau))
    moment_m = tau.new_zeros(len(count)).index_add(0, ray, stopped_m)
    return Weights(weight, transmittance, torch.exp(-total), moment_m)


def _moment(tau: Float[Tensor, "N"], opacity: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """``opacity / tau - exp(-tau)``; by its series for small ``tau``, where the difference would be all rounding."""
    is_small = tau < 0.1
    small, large = torch.where(is_small, tau, 0.0), torch.where(is_small, 1.0, tau)
    series, term = torch.zeros_like(tau), torch.full_like(tau, 0.5)
    for n in range(1, 9):  # (-1)^(n+1) n tau^n / (n+1)!
        term = -term * small / (n + 1) if n > 1 else term * small
        series = series + n * term
    return torch.where(is_small, series, opacity / large - (1.0 - opacity))


def exclusive_sums(
    value: Float[Tensor, "N"], count: Int64[Tensor, "R"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "R"]]:
    """Sums over the earlier values of the same ray, and over all of them.

    Each ray gets a row of its own: a running sum over all rays at once would lose its last digits, and an
    infinite value would reach the rays behind.
    """
    if not len(value):
        return value, value.new_zeros(len(count))
    ray = torch.repeat_interleave(count, output_size=len(value))
    first = count.cumsum(0) - count
    place = torch.arange(len(value), device=value.device) - first[ray]
    rows = value.new_zeros(len(count), int(count.max()) + 1)
    sums = rows.index_put((ray, place + 1), value).cumsum(dim=1)
    return sums[ray, place], sums[:, -1]


def render_depth(
    weights: Weights,
    segments: Segments,
    background: Background | float | Float[Tensor, "R"] = "exit",
) -> Float[Tensor, "R"]:
    """Expected distance in metres along each ray.

    Args:
        background: where the share that nothing stops counts: ``"exit"`` (where the ray leaves the grid or reaches
            its far end; the segments must be all of the ray's), ``"none"`` (as published; a ray through thin air
            is then too short), or distances in metres.
    """
    if isinstance(background, str):
        if background == "none":
            return weights.moment_m
        background = segments.exit_m.to(weights.moment_m)
    return weights.moment_m + weights.remaining * background


def composite(
    weight: Float[Tensor, "N"],
    row: Int64[Tensor, "N"],
    table: Float[Tensor, "V C"],
    segments: Segments,
    eps: float = 1e-4,
) -> Float[Tensor, "R C"]:
    """Weighted sums of table rows along each ray: ``out[r] = sum over its segments of weight * table[row]``.

    No tensor of segments x channels exists, forward or backward; differentiable in weight and table. Segments with
    a weight of at most ``eps`` are left out and their weights get no gradient from here; ``eps=-1`` keeps all.

    Args:
        row: of each segment; mostly its voxel plus the sample's first row, or the row of a unique voxel.
    """
    return composite_rows(weight, row, table, segments.count, eps)


def composite_rows(
    weight: Float[Tensor, "N"],
    row: Int64[Tensor, "N"],
    table: Float[Tensor, "V C"],
    count: Int64[Tensor, "R"],
    eps: float = 1e-4,
) -> Float[Tensor, "R C"]:
    """:func:`composite` for rays that own any number of weighted rows: the next ``count[r]`` each."""
    wide = torch.float64 if table.dtype == torch.float64 else torch.float32
    inputs = weight.to(wide), row, table.to(wide), count, eps
    if table.device.type == "cpu" and has_numba():
        return composite_numba(*inputs)
    if table.device.type == "cuda" and has_triton() and not torch.are_deterministic_algorithms_enabled():
        return composite_triton(*inputs)
    return composite_torch(*inputs)


def composite_numba(
    weight: Float[Tensor, "N"],
    row: Int64[Tensor, "N"],
    table: Float[Tensor, "V C"],
    count: Int64[Tensor, "R"],
    eps: float,
) -> Float[Tensor, "R C"]:
    """:func:`composite` by the compiled loop; tensors on the CPU only."""
    from lexivox.ops.kernels import composite_numba

    offsets = F.pad(count.cumsum(0), (1, 0))
    return composite_numba.Composite.apply(weight.contiguous(), row.contiguous(), table.contiguous(), offsets, eps)


def composite_triton(
    weight: Float[Tensor, "N"],
    row: Int64[Tensor, "N"],
    table: Float[Tensor, "V C"],
    count: Int64[Tensor, "R"],
    eps: float,
) -> Float[Tensor, "R C"]:
    """:func:`composite` by the Triton kernel."""
    from lexivox.ops.kernels import render_triton

    offsets = F.pad(count.cumsum(0), (1, 0))
    return render_triton.Composite.apply(weight.contiguous(), row.contiguous(), table.contiguous(), offsets, eps)


def composite_torch(
    weight: Float[Tensor, "N"],
    row: Int64[Tensor, "N"],
    table: Float[Tensor, "V C"],
    count: Int64[Tensor, "R"],
    eps: float,
) -> Float[Tensor, "R C"]:
    """:func:`composite` in torch, on any device."""
    keep = weight.detach() > eps
    ray = torch.repeat_interleave(count, output_size=len(row))
    kept = torch.bincount(ray[keep], minlength=len(count))
    return gather_ragged_rows(table, row[keep], weight[keep], kept)


def distortion_loss(weight: Float[Tensor, "N"], segments: Segments, far_m: float = 1.0) -> Float[Tensor, "R"]:
    """How far apart the weights of each ray lie (Mip-NeRF 360, eq. 15), in linear time.

    Sum over all pairs of segments of ``w_i w_j |m_i - m_j|`` with middles m, plus a third of ``w_i^2`` times the
    length: 0 for a ray that ends at one place.

    Args:
        far_m: distances are divided by it.
    """
    if weight.device.type == "cpu" and has_numba():
        return distortion_loss_numba(weight, segments) / far_m
    return distortion_loss_torch(weight, segments) / far_m


def distortion_loss_numba(weight: Float[Tensor, "N"], segments: Segments) -> Float[Tensor, "R"]:
    """:func:`distortion_loss` by the compiled loop, in metres; tensors on the CPU only."""
    from lexivox.ops.kernels.distortion_numba import Distortion

    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    inputs = weight.to(wide), segments.start_m.to(wide), segments.stop_m.to(wide)
    return Distortion.apply(*(x.contiguous() for x in inputs), segments.offsets)


def distortion_loss_torch(weight: Float[Tensor, "N"], segments: Segments) -> Float[Tensor, "R"]:
    """:func:`distortion_loss` in torch, in metres, on any device."""
    middle, length = segments.middle_m.to(weight), segments.length_m.to(weight)
    before, _ = exclusive_sums(weight, segments.count)
    moment_before, _ = exclusive_sums(weight * middle, segments.count)
    pairs = 2.0 * weight * (middle * before - moment_before)
    return segments.sum(pairs + weight * weight * length / 3.0)
