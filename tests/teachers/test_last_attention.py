from __future__ import annotations

import pytest
import torch
from reference.last_attention import mix

from lexivox.teachers.clip_vit import dense_tokens
from lexivox.teachers.last_attention import mix_values, neighbourhood

transformers = pytest.importorskip("transformers", reason='pip install "lexivox[text]"')

KINDS = ["plain", "value", "sclip", "clearclip", "naclip"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_equals_its_loops(kind) -> None:
    generator = torch.Generator().manual_seed(0)
    grid_hw = (2, 3)
    q, k, v = (torch.randn(1, 7, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    ours = mix_values(q, k, v, 2, kind, grid_hw)
    slow = mix(q[0].numpy(), k[0].numpy(), v[0].numpy(), 2, kind, grid_hw)
    assert torch.allclose(ours[0], torch.from_numpy(slow), atol=1e-7)


def test_near_patches_are_preferred_and_the_class_token_is_not() -> None:
    near = neighbourhood((1, 3), 1)
    # sigma 5: one patch away exp(-1/50), two exp(-4/50)
    expected = torch.tensor([1.0, 0.98019867, 0.92311635])
    assert torch.allclose(near[1, 1:], expected)
    assert torch.equal(near[0], torch.zeros(4))
    assert torch.equal(near[:, 0], torch.zeros(4))


@pytest.fixture(scope="module")
def model():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 100},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.CLIPModel(config).eval().requires_grad_(False)


def test_plain_is_the_network_as_it_was_trained(model) -> None:
    pixels = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    tower = model.vision_model
    official = tower(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
    expected = tower.post_layernorm(official)[:, 1:].transpose(1, 2).unflatten(2, (3, 5))
    assert torch.allclose(dense_tokens(model, pixels, "plain").values, expected, atol=1e-5)


def test_what_drops_the_rest_of_the_block_ignores_its_feed_forward(model) -> None:
    pixels = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    before = {kind: dense_tokens(model, pixels, kind).values for kind in KINDS}
    last = model.vision_model.encoder.layers[-1]
    weight = last.mlp.fc2.weight.clone()
    last.mlp.fc2.weight.mul_(2.0)
    after = {kind: dense_tokens(model, pixels, kind).values for kind in KINDS}
    last.mlp.fc2.weight.copy_(weight)
    assert [kind for kind in KINDS if torch.equal(before[kind], after[kind])] == ["clearclip", "naclip"]
