"""Modulated deformable convolution (v2; Zhu et al. 2019, eq. 1) in plain torch: a gather, then a matrix product.

Every tap of the kernel reads the image at its own learned place and with its own learned weight. The taps of a
strip of output pixels are gathered into rows, and the rows multiplied with the kernel while they are still in
the cache; nothing of ``kernel area`` times the batch is ever held there, neither forward nor backward
(``benchmarks/deform_conv.py``: little more than the time of the matrix product). On CUDA one Triton kernel reads the
taps of all images at once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lexivox.ops.sampling import bilinear_cells, deformable_gather_triton, gather_rows, has_triton, table_from_maps

STRIP = 512
"""Output pixels gathered at once on a CPU."""


class ModulatedDeformConv2d(nn.Module):
    """A 3x3 convolution without bias whose taps move and fade as a plain convolution of the input says.

    ``conv_offset`` yields 27 maps: (dy, dx) of the nine taps in turn, then the logits of their weights (spec
    POP-3D 2.1). It starts at zero, so that at first the output is half of a plain convolution's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.conv_offset = nn.Conv2d(in_channels, 27, 3, stride, dilation, dilation)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, x: Float[Tensor, "N C H W"], kernel: Float[Tensor, "D C 3 3"] | None = None
    ) -> Float[Tensor, "N D h w"]:
        """``kernel``: instead of its own, one that a norm was multiplied into."""
        moved = self.conv_offset(x)
        offset, mask = moved[:, :18], moved[:, 18:].sigmoid()
        kernel = self.weight if kernel is None else kernel
        return modulated_deform_conv2d(x, offset, mask, kernel, self.stride, self.dilation, self.dilation)


def modulated_deform_conv2d(
    x: Float[Tensor, "N C H W"],
    offset: Float[Tensor, "N K2 h w"],
    mask: Float[Tensor, "N K h w"],
    weight: Float[Tensor, "D C kh kw"],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Float[Tensor, "N D h w"]:
    """``out[p] = sum over taps k of weight[k] @ x(p + k + offset[k]) * mask[k]``, bilinear, 0 outside.

    Places are computed in float32 also under autocast, where a place in bfloat16 would be off by half a pixel;
    the values are read and multiplied in autocast's type.

    Args:
        offset: (dy, dx) of the K = kh * kw taps in turn, in pixels.
        mask: weight of each tap.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    height, width = x.shape[-2:]
    places = tap_places(offset, weight.shape[-2:], stride, padding, dilation)
    if takes_one_kernel(device):
        return _read_at_once(x.to(dtype), places, mask, weight.to(dtype))
    rows, share = bilinear_cells(places, height, width)  # (N, h, w, K, 4)
    share = share * mask.permute(0, 2, 3, 1)[..., None].to(share.dtype)
    kernel = weight.permute(0, 2, 3, 1).flatten(1).to(dtype)  # (D, kh * kw * C)
    with torch.autocast(device, enabled=False):
        inputs = table_from_maps(x.to(dtype)), rows.flatten(1, 2), share.flatten(1, 2), kernel
        out: Tensor = _GatherMultiply.apply(*inputs)  # type: ignore[assignment]
    return out.unflatten(1, offset.shape[-2:]).movedim(-1, 1)


def takes_one_kernel(device: str) -> bool:
    """True where all taps of all images are read by one kernel: a GPU is idle while strips are handed to it."""
    return device == "cuda" and has_triton()


def _read_at_once(
    x: Float[Tensor, "N C H W"],
    places: Float[Tensor, "N h w K 2"],
    mask: Float[Tensor, "N K h w"],
    weight: Float[Tensor, "D C kh kw"],
) -> Float[Tensor, "N D h w"]:
    """The taps by :func:`deformable_gather_triton`, one sample each: value, places and masks get their gradients."""
    height, width = x.shape[-2:]
    value = x.permute(0, 2, 3, 1).flatten(1, 2)[:, :, None]  # no copy where channels come last
    share = mask.permute(0, 2, 3, 1).to(places.dtype).reshape(-1, 1, 1, 1)
    at = (places / places.new_tensor([width, height])).reshape(-1, 1, 1, 1, 2)
    count = [len(at) // len(x)] * len(x)
    taps = deformable_gather_triton(value, [(height, width)], at, share, count)
    out = taps.unflatten(0, (*places.shape[:3], -1)).flatten(3) @ weight.permute(0, 2, 3, 1).flatten(1).T
    return out.movedim(-1, 1)


def tap_places(
    offset: Float[Tensor, "N K2 h w"], kernel_hw: tuple[int, int] | torch.Size, stride: int, padding: int, dilation: int
) -> Float[Tensor, "N h w K 2"]:
    """Where the taps of every output pixel read: (x, y) in cells of the input, in float32 or finer."""
    dtype = torch.promote_types(offset.dtype, torch.float32)
    options = {"dtype": dtype, "device": offset.device}
    lines, columns = (
        torch.arange(size, **options)[:, None] * stride - padding + torch.arange(taps, **options) * dilation + 0.5
        for size, taps in zip(offset.shape[-2:], kernel_hw, strict=True)
    )  # (h, kh), (w, kw)
    y, x = torch.broadcast_tensors(lines[:, None, :, None], columns[None, :, None, :])  # (h, w, kh, kw)
    moved = offset.to(dtype).permute(0, 2, 3, 1).unflatten(-1, (-1, 2)).flip(-1)  # (dy, dx) to (dx, dy)
    return torch.stack([x.flatten(2), y.flatten(2)], -1) + moved


class _GatherMultiply(torch.autograd.Function):
    """Gathered taps times the kernel, strip by strip; the backward pass gathers them again."""

    @staticmethod
    def forward(
        ctx,
        table: Float[Tensor, "T C"],
        rows: Int64[Tensor, "N P K 4"],
        share: Float[Tensor, "N P K 4"],
        kernel: Float[Tensor, "D KC"],
    ) -> Float[Tensor, "N P D"]:
        ctx.save_for_backward(table, rows, share, kernel)
        out = table.new_empty(*rows.shape[:2], kernel.shape[0])
        for image, own in enumerate(_of_each_image(table, rows)):
            for strip in _strips(rows):
                taps = _gather(table[own], rows[image, strip], share[image, strip])
                torch.mm(taps, kernel.T, out=out[image, strip])
        return out

    @staticmethod
    def backward(ctx, *gradients: Tensor):  # type: ignore[override]
        table, rows, share, kernel = ctx.saved_tensors
        gradient = gradients[0].to(table.dtype)
        grad_table, grad_share = torch.empty_like(table), torch.empty_like(share)
        grad_kernel = torch.zeros_like(kernel, dtype=torch.promote_types(kernel.dtype, torch.float32))
        for image, own in enumerate(_of_each_image(table, rows)):
            inputs = [part.detach().requires_grad_() for part in (table[own], share[image])]
            with torch.enable_grad():
                taps = _gather(inputs[0], rows[image], inputs[1])
            grad_kernel += gradient[image].T @ taps.detach()
            grad_table[own], grad_share[image] = torch.autograd.grad(taps, inputs, gradient[image] @ kernel)
        return grad_table, None, grad_share, grad_kernel.to(kernel.dtype)


def _of_each_image(table: Float[Tensor, "T C"], rows: Int64[Tensor, "N P K 4"]) -> list[slice]:
    size = len(table) // max(len(rows), 1)
    return [slice(image * size, (image + 1) * size) for image in range(len(rows))]


def _strips(rows: Int64[Tensor, "N P K 4"]) -> list[slice]:
    step = STRIP if rows.device.type == "cpu" else max(rows.shape[1], 1)
    return [slice(start, start + step) for start in range(0, rows.shape[1], step)]


def _gather(
    table: Float[Tensor, "T C"], rows: Int64[Tensor, "P K 4"], share: Float[Tensor, "P K 4"]
) -> Float[Tensor, "P KC"]:
    return gather_rows(table, rows.flatten(0, 1), share.flatten(0, 1)).view(len(rows), -1)
