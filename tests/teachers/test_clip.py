from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.config import ClipTeacherConfig
from lexivox.errors import ConfigError, WeightsError
from lexivox.teachers.base import ImageTeacher, check_same_space
from lexivox.teachers.checkpoint import load_image_text
from lexivox.teachers.clip import MaskClipTeacher
from lexivox.teachers.clip_vit import dense_tokens, project, resize_positions, use_legacy_gelu
from lexivox.teachers.refinements import Refinement, denoise_prompts, smooth_keys

transformers = pytest.importorskip("transformers", reason='pip install "lexivox[text]"')


def tiny_clip(patch: int = 8, width: int = 48, layers: int = 3, heads: int = 4, size: int = 48):
    text = {
        "vocab_size": 49408,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = {
        "hidden_size": width,
        "intermediate_size": width * 4,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": size,
        "patch_size": patch,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return transformers.CLIPModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def case(golden) -> dict[str, Tensor]:
    archive = np.load(golden / "maskclip.npz", allow_pickle=False)
    return {name: torch.from_numpy(archive[name]) for name in archive.files}


def transformers_keys(case: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's key names of the image tower as transformers' names."""
    own = {key.removeprefix("clip/visual."): value for key, value in case.items() if key.startswith("clip/visual.")}
    state = {
        "vision_model.embeddings.class_embedding": own["class_embedding"],
        "vision_model.embeddings.position_embedding.weight": own["positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": own["conv1.weight"],
        "visual_projection.weight": own["proj"].T,
    }
    for part in ("weight", "bias"):
        state[f"vision_model.pre_layrnorm.{part}"] = own[f"ln_pre.{part}"]
        state[f"vision_model.post_layernorm.{part}"] = own[f"ln_post.{part}"]
        for block in range(3):
            old, new = f"transformer.resblocks.{block}", f"vision_model.encoder.layers.{block}"
            in_proj = own[f"{old}.attn.in_proj_{part}"].chunk(3)
            state |= {f"{new}.self_attn.{x}_proj.{part}": y for x, y in zip("qkv", in_proj, strict=True)}
            state[f"{new}.self_attn.out_proj.{part}"] = own[f"{old}.attn.out_proj.{part}"]
            state[f"{new}.mlp.fc1.{part}"] = own[f"{old}.mlp.c_fc.{part}"]
            state[f"{new}.mlp.fc2.{part}"] = own[f"{old}.mlp.c_proj.{part}"]
            state |= {f"{new}.layer_norm{n}.{part}": own[f"{old}.ln_{n}.{part}"] for n in (1, 2)}
    return state


@pytest.fixture(params=["legacy_gelu", "quick_gelu"])
def official(request, case):
    model = tiny_clip()
    missing, unexpected = model.load_state_dict(transformers_keys(case), strict=False)
    assert not unexpected
    assert not [key for key in missing if "vision" in key or "visual" in key]
    return request.param, use_legacy_gelu(model) if request.param == "legacy_gelu" else model


def test_dense_features_match_the_official_code(official, case) -> None:
    name, model = official
    tokens = dense_tokens(model, case["in/image_40x72"])
    assert torch.allclose(tokens.values, case[f"{name}/dense_v"], atol=2e-4)
    assert torch.allclose(tokens.keys, case[f"{name}/dense_k"], atol=2e-4)
    features = project(model, tokens.values)
    assert torch.allclose(features, case[f"{name}/features"], atol=2e-4)
    scores = torch.einsum("vdhw,md->vmhw", F.normalize(features, dim=1), case["in/text"])
    assert torch.allclose(scores, case[f"{name}/scores"], atol=1e-4)


def test_refinements_match_the_official_code(official, case) -> None:
    name, _ = official
    scores, keys = case[f"{name}/scores"], case[f"{name}/dense_k"]
    for threshold in (0.5, 0.2):
        assert torch.allclose(denoise_prompts(scores, threshold), case[f"{name}/scores_pd{threshold}"], atol=1e-3)
    for threshold in (1.0, 0.3):
        smoothed = smooth_keys(scores, keys, threshold, "tokens")
        assert torch.allclose(smoothed, case[f"{name}/scores_ks{threshold}"], atol=1e-3)
    both = Refinement(prompt_denoising=0.2, key_smoothing=1.0, keys_unit_over="tokens")(scores, keys)
    assert torch.allclose(both, case[f"{name}/scores_ks1.0_pd0.2"], atol=1e-3)


def test_smoothing_over_channels_by_hand() -> None:
    # Two patches with equal keys, one orthogonal; all unsure: the equal ones share their probabilities.
    keys = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
    scores = torch.tensor([[[[0.01, 0.0, 0.0]], [[0.0, 0.0, 0.01]]]])
    probs = (scores * 100).softmax(dim=1)[0, :, 0]
    expected = torch.stack([probs[:, 0] + probs[:, 1], probs[:, 0] + probs[:, 1], probs[:, 2]], dim=1)
    assert torch.allclose(smooth_keys(scores, keys, 1.0)[0, :, 0], expected)
    assert torch.allclose(smooth_keys(scores, keys, 0.0)[0, :, 0], probs)


def test_positions_keep_the_class_token_and_the_training_grid() -> None:
    position = torch.arange(5.0)[:, None].expand(5, 2)
    assert torch.equal(resize_positions(position, (2, 2)), position)
    resized = resize_positions(position, (2, 4))
    assert resized.shape == (9, 2)
    assert torch.equal(resized[0], position[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_clip(patch=16, width=32, layers=2, heads=2, size=32).save_pretrained(path)
    return path


def test_teacher_from_a_saved_folder(folder) -> None:
    teacher = MaskClipTeacher(folder, short_side_px=64)
    assert isinstance(teacher, ImageTeacher)
    images = torch.randint(0, 256, (2, 3, 60, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = teacher.features(images)
    assert features.shape == (2, teacher.dim, 4, 7)  # 60x100 -> 64x112, patches of 16
    assert not features.requires_grad
    assert torch.allclose(features[1:], teacher.features(images[1:]), atol=1e-6)
    assert torch.equal(features, MaskClipTeacher(folder, short_side_px=64).features(images))
    assert not torch.allclose(features, MaskClipTeacher(folder, short_side_px=64, legacy_gelu=True).features(images))


def test_both_towers_of_a_checkpoint_share_their_space(folder) -> None:
    teacher = MaskClipTeacher(folder)
    check_same_space(teacher, teacher.text_encoder())
    assert teacher.space.startswith("clip-16@")
    assert teacher.fingerprint != MaskClipTeacher(folder, short_side_px=448).fingerprint


def test_other_models_are_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="must be a model of type clip; got 'bert'"):
        load_image_text(tmp_path, ("clip",))


def test_scores_are_cosines_until_a_refinement_is_asked_for(folder) -> None:
    teacher = MaskClipTeacher(folder, short_side_px=64)
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    text = F.normalize(torch.randn(5, teacher.dim, generator=torch.Generator().manual_seed(3)), dim=1)
    features = F.normalize(teacher.features(images), dim=1)
    plain = teacher.scores(images, text)
    assert torch.allclose(plain, torch.einsum("vdhw,md->vmhw", features, text), atol=1e-6)
    refined = teacher.scores(images, text, Refinement(prompt_denoising=0.999))
    assert (refined == -100).any()
    smooth = teacher.scores(images, text, Refinement(key_smoothing=1.0))
    tokens = dense_tokens(teacher.network, teacher.prepare(images))
    assert torch.allclose(smooth, smooth_keys(plain, tokens.keys, 1.0), atol=1e-5)
    assert not torch.allclose(smooth, smooth_keys(plain, tokens.keys, 1.0, "tokens"), atol=1e-3)


def test_weights_that_lack_a_tower_are_refused(folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    kept = {key: value for key, value in load_file(folder / "model.safetensors").items() if "visual" not in key}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(WeightsError, match="must hold both towers; got none of 1 weights, first visual_projection"):
        load_image_text(tmp_path, ("clip",))


def test_a_config_chooses_the_attention(folder) -> None:
    teacher, encoder = ClipTeacherConfig(checkpoint=str(folder), attention="naclip", legacy_gelu=True).build()
    assert (teacher.attention, teacher.legacy_gelu, teacher.short_side_px) == ("naclip", True, 512)
    assert encoder.space == teacher.space
