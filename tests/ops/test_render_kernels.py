"""The kernels of rendering against the torch twin; Triton runs on a GPU, else interpreted on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops.render import (
    Weights,
    composite_numba,
    composite_torch,
    composite_triton,
    render_weights_numba,
    render_weights_torch,
    render_weights_triton,
)
from lexivox.ops.sampling import has_numba, has_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not has_triton(), reason="no triton; pip install triton (Linux)")
needs_numba = pytest.mark.skipif(not has_numba(), reason='no numba; pip install "lexivox[fast]"')
MARCHES = [
    pytest.param((render_weights_triton, DEVICE), id="triton", marks=needs_triton),
    pytest.param((render_weights_numba, "cpu"), id="numba", marks=needs_numba),
]
COMPOSITES = [
    pytest.param((composite_triton, DEVICE), id="triton", marks=needs_triton),
    pytest.param((composite_numba, "cpu"), id="numba", marks=needs_numba),
]
COUNTS = {"mixed": [5, 0, 1, 130, 0], "one": [1], "block": [128, 256], "none hits": [0, 0], "no rays": []}
NAMES = ("weight", "transmittance", "remaining", "moment_m")


class Case:
    """Rays with few and many segments, some of no length; from exactly empty to walls."""

    def __init__(self, counts: list[int], dtype: torch.dtype, device: str):
        generator = torch.Generator().manual_seed(0)
        total = sum(counts)
        length = torch.rand(total, generator=generator, dtype=torch.float64) * 0.4
        length[3::7] = 0.0
        stop = length.cumsum(0)
        self.counts = torch.tensor(counts, dtype=torch.int64)
        first = (stop - length)[(self.counts.cumsum(0) - self.counts).clamp_max(max(total - 1, 0))] if total else stop
        near = first.repeat_interleave(self.counts) - 0.5 if total else stop
        extinction = torch.exp(torch.rand(total, generator=generator, dtype=torch.float64) * 8 - 6)
        extinction[::5], extinction[6::40] = 0.0, 1e3
        self.row = torch.randint(0, 20, (total,), generator=generator)
        self.weight = torch.rand(total, generator=generator, dtype=torch.float64)
        self.weight[::3] *= 1e-4
        self.generator, self.dtype, self.device = generator, dtype, device
        self.numbers = [x.to(dtype).to(device) for x in (extinction, stop - length - near, stop - near)]

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator.manual_seed(1)).to(self.dtype).to(self.device)

    def march(self, function) -> list[Tensor]:
        """All four outputs, then the gradient of a mixture of them."""
        extinction = self.numbers[0].clone().requires_grad_()
        weights: Weights = function(extinction, *self.numbers[1:], self.counts.to(self.device))
        outputs = [getattr(weights, name) for name in NAMES]
        loss = torch.stack([(out * self.randn(*out.shape)).sum() for out in outputs]).sum()
        return [x.detach().cpu() for x in (*outputs, *torch.autograd.grad(loss, extinction))]

    def composite(self, function, channels: int, eps: float = 1e-4) -> list[Tensor]:
        """The sums, then the gradients of weight and table."""
        table = self.randn(20, channels).requires_grad_()
        weight = self.weight.to(self.dtype).to(self.device).requires_grad_()
        out = function(weight, self.row.to(self.device), table, self.counts.to(self.device), eps)
        gradients = torch.autograd.grad(out, (weight, table), self.randn(*out.shape))
        return [x.detach().cpu() for x in (out, *gradients)]


def equal(ours: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == other.dtype
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0.0)


@pytest.mark.parametrize("kernel", MARCHES)
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_march_equals_the_torch_twin(kernel, counts, dtype, tolerance) -> None:
    function, device = kernel
    equal(
        Case(counts, dtype, device).march(function), Case(counts, dtype, "cpu").march(render_weights_torch), tolerance
    )


@pytest.mark.parametrize("kernel", COMPOSITES)
@pytest.mark.parametrize("channels", [1, 17, 200])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_composite_equals_the_torch_twin(kernel, channels, counts, dtype, tolerance) -> None:
    function, device = kernel
    expected = Case(counts, dtype, "cpu").composite(composite_torch, channels)
    equal(Case(counts, dtype, device).composite(function, channels), expected, tolerance)


@pytest.mark.parametrize("kernel", MARCHES)
def test_gradcheck_of_march(kernel) -> None:
    function, device = kernel
    case = Case([3, 0, 4], torch.float64, device)
    extinction = (case.numbers[0].clamp(1e-3, 5.0)).requires_grad_()

    def outputs(extinction):
        weights = function(extinction, *case.numbers[1:], case.counts.to(device))
        return tuple(getattr(weights, name) for name in NAMES)

    assert gradcheck(outputs, extinction, fast_mode=True)


@pytest.mark.parametrize("kernel", COMPOSITES)
def test_gradcheck_of_composite(kernel) -> None:
    function, device = kernel
    case = Case([3, 0, 4], torch.float64, device)
    weight, table = case.weight.clamp_min(1e-2).to(device).requires_grad_(), case.randn(20, 3).requires_grad_()
    row, counts = case.row.to(device), case.counts.to(device)
    check = {"fast_mode": True, "nondet_tol": 1e-12}
    assert gradcheck(lambda w, t: function(w, row, t, counts, 1e-4), (weight, table), **check)


@pytest.mark.parametrize("kernel", MARCHES)
def test_a_wall_leaves_no_rounding_before_it(kernel) -> None:
    """The sum before a wall of depth 1e4 is not the sum behind it less 1e4."""
    function, device = kernel
    stop = torch.arange(1.0, 6.0, device=device)
    extinction = torch.tensor([0.1, 0.2, 1e4, 0.3, 1e4], device=device)
    weights = function(extinction, stop - 1, stop, torch.tensor([5], device=device))
    expected = torch.exp(-torch.tensor([0.0, 0.1, 0.3])).tolist()
    assert weights.transmittance[:3].tolist() == pytest.approx(expected, rel=1e-6)
    assert weights.transmittance[3:].tolist() == [0.0, 0.0]


@needs_numba
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexivox.ops.kernels import render_numba

    def all_of() -> list[Tensor]:
        case = Case([5, 0, 1, 130, 2], torch.float32, "cpu")
        return [*case.march(render_weights_numba), *case.composite(composite_numba, 17)]

    alone = all_of()
    monkeypatch.setattr(render_numba, "_ALONE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for ours, expected in zip(all_of(), alone, strict=True):
        assert torch.equal(ours, expected)


COMPILE = r"""
import re
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lexivox.ops.kernels import render_triton as kernels

march = dict(BLOCK=128, ACC=tl.float32)
tiles = dict(CHANNELS=512, BLOCK_S=8, BLOCK_C=128, ACC=tl.float32)
kinds = dict(offsets="*i64", row="*i64", eps="fp32")
for name, constants, warps in (
    ("_march_kernel", march, 1), ("_march_backward_kernel", march, 1),
    ("_composite_kernel", tiles, 4), ("_composite_backward_kernel", tiles, 4),
):
    kernel = getattr(kernels, name)
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else kinds.get(n, "*fp32") for n in names}
    values = {(names.index(n),): value for n, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    source = ASTSource(kernel, signature, constexprs=values, attrs=aligned)
    options = {"enable_fp_fusion": True, "num_warps": warps}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    print(name, ptx.count("ld.global.v4.b32") > 0, bool(re.search(r"\b(red|atom)\.", ptx)))
"""


@needs_triton
def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """Hopper code: rows are read 16 bytes at a time, and only the table's gradient takes atomics."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert found["_march_kernel"].endswith("False")
    assert found["_march_backward_kernel"].endswith("False")
    assert found["_composite_kernel"] == "True False"
    assert found["_composite_backward_kernel"] == "True True"
