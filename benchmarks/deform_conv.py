"""Time and memory of a deformable 3x3 convolution against named alternatives in the same run.

    python benchmarks/deform_conv.py [--channels 256] [--height 58] [--width 100] [--repeats 7]

The default is one layer of stage 3 of POP-3D's ResNet at full size, one image. ``plain`` is the convolution without
offsets, which nothing deformable can beat; ``taps`` reads one tap after the other with ``grid_sample``; ``at once``
gathers all taps of the image before it multiplies.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.ops import deform_conv
from lexivox.ops.deform_conv import modulated_deform_conv2d, tap_places

Layer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def tap_by_tap(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Nine calls of ``grid_sample``, each multiplied with its part of the kernel and added up."""
    size = torch.tensor([x.shape[-1], x.shape[-2]], device=x.device)
    places = (2.0 * tap_places(offset, (3, 3), 1, 1, 1) / size - 1.0).to(x.dtype)
    out = 0.0
    for tap in range(9):
        read = F.grid_sample(x, places[..., tap, :], align_corners=False) * mask[:, tap, None]
        out = out + F.conv2d(read, weight[:, :, tap // 3, tap % 3, None, None])
    return out  # type: ignore[return-value]


def plain(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def ours(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, strip: int = deform_conv.STRIP) -> Tensor:
    kept, deform_conv.STRIP = deform_conv.STRIP, strip
    try:
        return modulated_deform_conv2d(x, offset, mask, weight, 1, 1, 1)
    finally:
        deform_conv.STRIP = kept


LAYERS: dict[str, Layer] = {
    "plain": plain,
    "ours": ours,
    "ours, at once": partial(ours, strip=1 << 30),
    "taps": tap_by_tap,
}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median after one run that is not counted: time on the clock on a GPU, of the process's own work on a CPU."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time  # other work on the machine does not count
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(1e3 * (clock() - start))
    return statistics.median(times)


def forward(layer: Layer, inputs: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return layer(*inputs)


def both(layer: Layer, inputs: list[Tensor]) -> None:
    for tensor in inputs:
        tensor.grad = None
    out = layer(*inputs)
    out.backward(torch.ones_like(out))


def saved_mb(layer: Layer, inputs: list[Tensor]) -> float:
    """Megabytes that the forward pass keeps for the backward pass, its inputs not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(*inputs)
    del out
    return sum(kept.values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--height", type=int, default=58)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    channels, size = arguments.channels, (arguments.height, arguments.width)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    print(f"{channels} channels, {size[0]} x {size[1]}, {device}, {torch.get_num_threads()} thread(s), medians")
    print(f"{'':16}{'dtype':>10}{'forward ms':>12}{'both ms':>10}{'kept MB':>10}")
    for dtype in (torch.float32, torch.bfloat16):
        shapes = ((1, channels, *size), (1, 18, *size), (1, 9, *size), (channels, channels, 3, 3))
        inputs = [torch.randn(*shape, device=device, dtype=dtype) for shape in shapes]
        inputs = [tensor.contiguous(memory_format=torch.channels_last).requires_grad_() for tensor in inputs]
        for name, layer in LAYERS.items():
            fast, slow = (milliseconds(partial(f, layer, inputs), arguments.repeats) for f in (forward, both))
            name_of_type = str(dtype).removeprefix("torch.")
            print(f"{name:16}{name_of_type:>10}{fast:12.1f}{slow:10.1f}{saved_mb(layer, inputs):10.1f}")


if __name__ == "__main__":
    main()
