from __future__ import annotations

import pytest
import torch
from torch import nn

from lexivox.backbones.swin import Swin

transformers = pytest.importorskip("transformers")


def tiny(**options) -> Swin:
    torch.manual_seed(0)
    return Swin("tiny", out_stages=(1, 3, 4), **options)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 60, 92, generator=torch.Generator().manual_seed(1))


def test_levels_are_those_of_the_whole_implementation(images) -> None:
    made = tiny().eval()
    config = transformers.SwinConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
    config.out_features = ["stage1", "stage3", "stage4"]
    other = transformers.SwinBackbone(config).eval()
    other.swin.embeddings.load_state_dict(made.embeddings.state_dict())
    other.swin.encoder.layers.load_state_dict(made.stages.state_dict())
    other.hidden_states_norms["stage1"] = nn.Identity()
    for stage in ("3", "4"):
        nn.init.normal_(made.norms[stage].weight)
        other.hidden_states_norms[f"stage{stage}"].load_state_dict(made.norms[stage].state_dict())
    with torch.no_grad():
        for ours, theirs in zip(made(images), other(images).feature_maps, strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(made.first_level(images), made(images)[0])


def test_strides_and_channels(images) -> None:
    made = tiny().eval()
    with torch.no_grad():
        assert [tuple(x.shape[1:]) for x in made(images)] == [(96, 15, 23), (384, 4, 6), (768, 2, 3)]
    assert made.channels == (96, 384, 768)


def test_published_count() -> None:
    # Swin-B is 87,768,224 with windows of 7: without its classifier and last norm, with the norms of stages 3 and 4,
    # and tables of 23 x 23 instead of 13 x 13 places for each of its 376 heads.
    count = sum(p.numel() for p in Swin("base", out_stages=(1, 3, 4)).parameters())
    assert count == 87_768_224 - 1_025_000 - 2048 + 1024 + 2048 + (23 * 23 - 13 * 13) * 376


def test_computing_again_changes_no_gradient(images) -> None:
    gradients = []
    for again in (False, True):
        made = tiny(checkpointing=again, drop_path=0.0)
        sum(level.square().mean() for level in made(images)).backward()
        gradients.append([p.grad for p in made.parameters()])
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, again)
