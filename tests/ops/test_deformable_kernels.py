"""The kernels of deformable sampling against the torch twin; Triton runs on a GPU, else interpreted on the CPU."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops import sampling
from lexivox.ops.sampling import (
    deformable_gather,
    deformable_gather_numba,
    deformable_gather_torch,
    deformable_gather_triton,
    has_numba,
    has_triton,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not has_triton(), reason="no triton; pip install triton (Linux)")
needs_numba = pytest.mark.skipif(not has_numba(), reason='no numba; pip install "lexivox[fast]"')
KERNELS = [
    pytest.param((deformable_gather_triton, DEVICE), id="triton", marks=needs_triton),
    pytest.param((deformable_gather_numba, "cpu"), id="numba", marks=needs_numba),
]
Kernel = tuple[Callable[..., Tensor], str]
LEVEL_HW = [(3, 5), (2, 1), (1, 1)]


class Case:
    """Random pyramids, and places inside, around, on the borders of and far away from them."""

    def __init__(self, count: list[int], heads: int, channels: int, dtype: torch.dtype = torch.float32):
        self.generator = torch.Generator().manual_seed(0)
        self.count, queries = count, sum(count)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.value = self.randn(len(count), 18, heads, channels).to(dtype)
        self.locations = self.randn(queries, heads, len(LEVEL_HW), 2, 2).mul(0.6).add(0.5).to(wide)
        if queries > 4:
            self.locations[0] = 1e7  # an anchor behind a camera
            self.locations[1, :, 0] = torch.tensor([0.3, 0.5]).to(wide)  # the very centre of a cell
            self.locations[2], self.locations[3] = 0.0, 1.0  # the image's corners
        self.attention = self.randn(queries, heads, len(LEVEL_HW), 2).to(wide)
        self.cotangent = self.randn(queries, heads * channels)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def leaves(self, device: str = "cpu") -> list[Tensor]:
        inputs = self.value, self.locations, self.attention
        return [leaf.detach().clone().to(device).requires_grad_() for leaf in inputs]

    def run(self, gather: Callable[..., Tensor], device: str = "cpu") -> list[Tensor]:
        """The output and the gradients of value, locations and attention."""
        value, locations, attention = leaves = self.leaves(device)
        out = gather(value, LEVEL_HW, locations, attention, self.count)
        gradients = torch.autograd.grad(out, leaves, self.cotangent.to(out))
        return [x.detach().cpu() for x in (out, *gradients)]


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14), (torch.bfloat16, 2**-7)]
)
@pytest.mark.parametrize(
    ("count", "heads", "channels"),
    [([4, 0, 3], 2, 5), ([0, 19], 1, 40), ([1], 3, 1), ([6], 1, 8)],
    ids=["an empty camera", "several blocks", "one of all", "powers of two"],
)
def test_equal_to_the_torch_twin(
    kernel: Kernel, count: list[int], heads: int, channels: int, dtype: torch.dtype, tolerance: float
) -> None:
    case = Case(count, heads, channels, dtype)
    for ours, expected in zip(case.run(*kernel), case.run(deformable_gather_torch), strict=True):
        assert ours.dtype == expected.dtype
        scale = float(expected.double().abs().max())
        torch.testing.assert_close(ours.double(), expected.double(), atol=tolerance * scale, rtol=0.0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 1e-5), ("f64", 1e-10)])
def test_golden_through_the_kernels(
    kernel: Kernel, golden: Path, kind: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, device = kernel
    monkeypatch.setattr(sampling, "deformable_gather", gather)
    with np.load(golden / "msda.npz", allow_pickle=False) as archive:
        case = {name[4:]: torch.from_numpy(archive[name]) for name in archive.files if name.startswith(kind)}
    names = ("value", "sampling_locations", "attention_weights")
    leaves = [case[name].to(device).requires_grad_() for name in names]
    level_hw = [(h, w) for h, w in case["spatial_shapes"].tolist()]
    output = sampling.multi_scale_deformable_sampling(leaves[0], level_hw, *leaves[1:])
    torch.testing.assert_close(output.detach().cpu(), case["output"], atol=tolerance, rtol=0.0)
    gradients = torch.autograd.grad(output, leaves, case["cotangent"].to(device))
    for gradient, name in zip(gradients, names, strict=True):
        expected = case[f"grad_{name}"]
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(gradient.cpu(), expected, atol=tolerance * scale, rtol=0.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel: Kernel) -> None:
    gather, device = kernel
    leaves = Case([1, 1], 1, 2, torch.float64).leaves(device)
    assert gradcheck(lambda *x: gather(x[0], LEVEL_HW, *x[1:], [1, 1]), leaves, fast_mode=True, nondet_tol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_views_that_are_not_contiguous(kernel: Kernel) -> None:
    case = Case([2, 1], 2, 3)
    plain = case.run(*kernel)
    case.value = case.value.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    case.locations = case.locations.transpose(0, 1).contiguous().transpose(0, 1)
    for ours, expected in zip(case.run(*kernel), plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)


@needs_numba
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexivox.ops.kernels import deformable_numba

    case = Case([4, 0, 3], 3, 5)
    alone = case.run(deformable_gather_numba)
    monkeypatch.setattr(deformable_numba, "_ALONE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for ours, expected in zip(case.run(deformable_gather_numba), alone, strict=True):
        assert torch.equal(ours, expected)


@needs_triton
@pytest.mark.usefixtures("deterministic")
def test_deterministic_gradients_do_not_depend_on_the_order() -> None:
    case = Case([0, 19], 1, 40)
    out, grad_value, *_ = case.run(deformable_gather_triton, DEVICE)
    expected = case.run(deformable_gather_torch)[1]
    torch.testing.assert_close(grad_value, expected, atol=1e-6 * float(expected.abs().max()), rtol=0.0)
    order = torch.randperm(19, generator=case.generator)
    case.locations, case.attention = case.locations[order], case.attention[order]
    case.cotangent = case.cotangent[order]
    turned_out, turned_grad, *_ = case.run(deformable_gather_triton, DEVICE)
    assert torch.equal(turned_out, out[order])
    assert torch.equal(turned_grad, grad_value)


@needs_triton
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.usefixtures("deterministic")
def test_deterministic_gradients_that_vanish_or_overflow() -> None:
    case = Case([5], 1, 2)
    case.cotangent.zero_()
    assert not case.run(deformable_gather_triton, DEVICE)[1].any()
    case.cotangent[4, 0] = math.inf  # as after a loss scale that was too large: it must be noticed
    assert not case.run(deformable_gather_triton, DEVICE)[1].isfinite().all()


@needs_triton
def test_known_to_torch_as_an_operator() -> None:
    """Schema, shapes for the compiler, registered gradient."""
    from lexivox.ops.kernels import deformable_triton

    value, locations, attention = Case([1, 1], 1, 2).leaves(DEVICE)
    levels = torch.tensor([(3, 5, 0), (2, 1, 15), (1, 1, 17)], dtype=torch.int32, device=DEVICE)
    owner = torch.tensor([0, 1], dtype=torch.int32, device=DEVICE)
    inputs = value, levels, owner, locations, attention
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(deformable_triton.deformable_gather, inputs, test_utils=tests)


COMPILE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lexivox.ops.kernels import deformable_triton as kernels

sizes = dict(HEADS=8, CHANNELS=32, LEVELS=4, SAMPLES=64, BLOCK_P=32, BLOCK_C=32, ACC=tl.float32)
kinds = dict(levels="*i32", owner="*i32", queries="i32", tokens="i32", value="*bf16", out="*bf16", grad_out="*bf16")
forward, backward = kernels._forward_kernel, kernels._backward_kernel
for kernel, fixed in ((forward, None), (backward, False), (backward, True)):
    constants = sizes | ({} if fixed is None else {"FIXED": fixed})
    kinds["grad_value"] = "*i64" if fixed else "*fp32"
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kinds.get(name, "*fp32") for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, constexprs=values, attrs=aligned)
    target = GPUTarget("cuda", 90, 32)
    ptx = triton.compile(source, target=target, options={"enable_fp_fusion": True}).asm["ptx"]
    print(ptx.count("ld.global.v4.b32") >= 4, ptx.count(".add.v4.f32"))
"""


@needs_triton
def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """Hopper code of all three: 16-byte loads, and gradients added four at a time unless in fixed point."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["True 0", "True 8", "True 0"]


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_cuda_takes_the_kernel_and_little_memory() -> None:
    """Published side plane of one camera: 64 samples of 4 levels; unfused they would fill 1.6 GB."""
    level_hw = [(116, 200), (58, 100), (29, 50), (15, 25)]
    value = torch.randn(1, 30_825, 8, 32, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    places = torch.rand(800, 8, 4, 64, 2, device="cuda", requires_grad=True)
    weights = torch.rand(800, 8, 4, 64, device="cuda", requires_grad=True)
    before = torch.cuda.max_memory_allocated()
    out = deformable_gather(value, level_hw, places, weights, [800])
    assert "deformable" in type(out.grad_fn).__name__.lower()
    torch.cuda.reset_peak_memory_stats()
    out.sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 250e6


@pytest.mark.parametrize(("is_installed", "taken"), [(True, 1.0), (False, 2.0)])
def test_cpu_takes_the_loop_where_it_can(is_installed: bool, taken: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "has_numba", lambda: is_installed)
    for mark, name in enumerate(("triton", "numba", "torch")):
        answer = torch.full((2, 2), float(mark))
        monkeypatch.setattr(sampling, f"deformable_gather_{name}", lambda *_, answer=answer: answer)
    case = Case([2], 1, 2)
    assert (deformable_gather(case.value, LEVEL_HW, case.locations, case.attention, [2]) == taken).all()
