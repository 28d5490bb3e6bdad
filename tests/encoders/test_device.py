"""The same numbers on a GPU, forward and backward."""

from __future__ import annotations

import pytest
import torch

from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.heads.pointwise import PointwiseHead
from lexivox.ops.losses import cross_entropy, lovasz_softmax
from tests.rig import GRID, batch_of, points, ring

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def loss_and_gradients(device: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    planes = TriplaneEncoder(GRID, channels=16, num_heads=2, anchors=(2, 3, 3))
    encoder = CameraEncoder(GRID, image=ImageEncoder(16, widths=(8, 16, 24)), triplane=planes, num_frequencies=1)
    model = torch.nn.ModuleList([encoder, PointwiseHead(encoder.channels, 8, 2)]).to(device)
    batch = torch.arange(300, device=device) % 2
    features = model[0](batch_of(ring(2)).to(device)).sample(points(300).to(device), batch)
    logits, label = model[1](features), (torch.arange(300, device=device) % 3 == 0).long()
    loss = cross_entropy(logits, label) + lovasz_softmax(logits.softmax(1), label)
    loss.backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach().cpu(), **gradients}


def test_gpu_equals_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee")
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "ieee")
    here, there = loss_and_gradients("cpu"), loss_and_gradients("cuda")
    for name, expected in here.items():
        torch.testing.assert_close(there[name], expected, atol=2e-3 * float(expected.abs().max()) + 1e-6, rtol=0.0)
