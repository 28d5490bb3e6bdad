"""CLIP's own state dicts become folders: the official towers' outputs come out of both ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexivox.config import ClipTeacherConfig
from lexivox.errors import ConfigError, WeightsError
from lexivox.teachers.base import check_same_space
from lexivox.teachers.clip import MaskClipTeacher
from lexivox.teachers.clip_resnet import ClipResNetTeacher, pool_cells
from lexivox.teachers.clip_vit import dense_tokens, project
from lexivox.teachers.refinements import Refinement
from lexivox.weights.clip import Heads, import_clip
from lexivox.weights.clip_words import write_words

pytest.importorskip("transformers", reason='pip install "lexivox[text]"')


def read(path: Path) -> dict[str, torch.Tensor]:
    archive = np.load(path, allow_pickle=False)
    return {k: torch.from_numpy(archive[k]) for k in archive.files if archive[k].dtype.kind in "fi"}


def below(case: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def official(golden) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return read(golden / "maskclip.npz"), read(golden / "clip_text.npz")


@pytest.fixture(scope="module")
def words(realdata) -> Path:
    return realdata / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"


@pytest.fixture(scope="module")
def published(official) -> dict[str, torch.Tensor]:
    """Both official towers as one state dict under CLIP's own names; they happen to share their 16 channels."""
    image, text = official
    state = {**below(image, "clip/"), **below(text, "clip/")}
    return {**state, "input_resolution": torch.tensor(48), "context_length": torch.tensor(77)}


@pytest.fixture(scope="module")
def vit(published, words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    torch.save(published, folder / "ViT.pt")
    return import_clip(folder / "ViT.pt", words, folder / "model", Heads(vision=4, text=2))


def test_the_official_image_features_come_out(vit, official) -> None:
    case, _ = official
    model = MaskClipTeacher(vit).network
    tokens = dense_tokens(model, case["in/image_40x72"])
    assert torch.allclose(project(model, tokens.values), case["quick_gelu/features"], atol=2e-4)
    pooled = model.get_image_features(case["in/image_48"]).pooler_output
    assert torch.allclose(pooled, case["out/encode_image"], atol=2e-4)


def test_the_official_text_features_come_out(vit, official, golden) -> None:
    encoder = MaskClipTeacher(vit).text_encoder("{}")
    check_same_space(MaskClipTeacher(vit), encoder)
    strings = np.load(golden / "clip_text.npz", allow_pickle=False)["tokenizer/strings_utf8"].tolist()
    texts = [bytes(text).decode() for text in strings]
    plain = [row for row, text in enumerate(texts) if text.isascii() and text.strip() and "&" not in text]
    assert len(plain) > 15
    expected = F.normalize(official[1]["text/encode_text"][plain], dim=-1)
    assert torch.allclose(encoder.encode([texts[row] for row in plain]), expected, atol=1e-4)


def test_shapes_are_read_off_the_arrays(vit) -> None:
    config = json.loads((vit / "config.json").read_text())
    assert config["projection_dim"] == 16
    assert config["vision_config"]["image_size"] == 48
    assert config["vision_config"]["patch_size"] == 8
    assert config["vision_config"]["num_hidden_layers"] == 3
    assert config["text_config"]["max_position_embeddings"] == 77
    assert config["text_config"]["eos_token_id"] == 49407
    assert MaskClipTeacher(vit).network.logit_scale.isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.proj"), "must hold 'proj'; got none"),
        (lambda s: s.update({"visual.head.weight": torch.zeros(2)}), "CLIP's arrays only; got head.weight"),
        (lambda s: s.pop("token_embedding.weight"), "must hold 'token_embedding.weight'; got none"),
    ],
)
def test_other_arrays_are_refused(published, words, tmp_path, change, message) -> None:
    state = dict(published)
    change(state)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=message):
        import_clip(tmp_path / "other.pt", words, tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize(("content", "message"), [(b"no gzip", "must be its published gzip"), (None, "got .*No such")])
def test_other_vocabularies_are_refused(tmp_path, content, message) -> None:
    if content:
        (tmp_path / "bpe.gz").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        write_words(tmp_path / "bpe.gz", tmp_path)


# --------------------------------------------------------------------------------------------- ResNet


def test_pooled_cells_and_refinements_match_the_official_code(official) -> None:
    case, _ = official
    own = below(case, "resnet_form/")
    pooling = torch.nn.ModuleDict()
    for name in ("q_proj", "k_proj", "v_proj", "c_proj"):
        weight = own[f"{name}.weight"].reshape(*own[f"{name}.weight"].shape[:2])
        pooling[name] = torch.nn.Linear(*weight.T.shape)
        pooling[name].load_state_dict({"weight": weight, "bias": own[f"{name}.bias"]})
    tokens = pool_cells(pooling.requires_grad_(False), own["in"])
    scores = torch.einsum("vdhw,md->vmhw", F.normalize(tokens.values, dim=1), case["in/text"])
    assert torch.allclose(scores, own["scores_plain"], atol=1e-4)
    refined = Refinement(prompt_denoising=0.3, key_smoothing=1.0, keys_unit_over="tokens")(scores, tokens.keys)
    assert torch.allclose(refined, own["scores_ks1.0_pd0.3"], atol=1e-3)


def resnet_state(official, blocks=(1, 2, 1, 1), width: int = 8) -> dict[str, torch.Tensor]:
    """A ResNet tower typed from CLIP's published names, and the official text tower."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        state[f"visual.{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5

    def norm(name: str, channels: int) -> None:
        for part, value in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"visual.{name}.{part}"] = torch.full((channels,), value)
        state[f"visual.{name}.num_batches_tracked"] = torch.tensor(3)

    for number, (inner, outer) in enumerate(((3, width // 2), (width // 2, width // 2), (width // 2, width)), 1):
        conv(f"conv{number}", outer, inner, 3, 3)
        norm(f"bn{number}", outer)
    channels = width
    for stage, count in enumerate(blocks, 1):
        planes = width * 2 ** (stage - 1)
        for block in range(count):
            name = f"layer{stage}.{block}"
            for number, (inner, outer, side) in enumerate(
                ((channels, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1)), 1
            ):
                conv(f"{name}.conv{number}", outer, inner, side, side)
                norm(f"{name}.bn{number}", outer)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * planes, channels, 1, 1)
                norm(f"{name}.downsample.1", 4 * planes)
            channels = 4 * planes
    for name, outer in (("q_proj", channels), ("k_proj", channels), ("v_proj", channels), ("c_proj", 16)):
        conv(f"attnpool.{name}", outer, channels)
        state[f"visual.attnpool.{name}.bias"] = torch.zeros(outer)
    state["visual.attnpool.positional_embedding"] = torch.zeros(50, channels)
    return {**state, **below(official[1], "clip/")}


@pytest.fixture(scope="module")
def resnet(official, words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    torch.save(resnet_state(official), folder / "RN.pt")
    return import_clip(folder / "RN.pt", words, folder / "model", Heads(text=2))


def test_a_resnet_is_a_teacher_with_words(resnet, vit) -> None:
    teacher, encoder = ClipTeacherConfig(kind="clip_resnet", checkpoint=str(resnet), short_side_px=64).build()
    assert isinstance(teacher, ClipResNetTeacher)
    check_same_space(teacher, encoder)
    assert teacher.space != MaskClipTeacher(vit).space
    assert torch.allclose(encoder.encode(["car"]), MaskClipTeacher(vit).text_encoder().encode(["car"]), atol=1e-5)
    image = torch.randint(0, 256, (1, 3, 60, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = teacher.features(image)
    assert features.shape == (1, 16, 2, 3)
    assert features.isfinite().all()
    assert teacher.scores(image, encoder.encode(["car", "tree"])).shape == (1, 2, 2, 3)


def test_the_stem_and_a_block_by_hand(official, resnet) -> None:
    """Averages instead of strides, the shortcut included: written out from the arrays."""
    state, eps = resnet_state(official), 1e-5
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def conv_norm(x: torch.Tensor, conv: str, norm: str, padding: int = 0, stride: int = 1) -> torch.Tensor:
        return F.conv2d(x, state[f"visual.{conv}.weight"], padding=padding, stride=stride) / (1 + eps) ** 0.5 + 0.1

    x = conv_norm(image, "conv1", "bn1", 1, 2).relu()
    x = conv_norm(x, "conv2", "bn2", 1).relu()
    x = F.avg_pool2d(conv_norm(x, "conv3", "bn3", 1).relu(), 2)
    for stage, blocks in enumerate((1, 2, 1, 1), 1):
        for block in range(blocks):
            name, step = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = conv_norm(conv_norm(x, f"{name}.conv1", "").relu(), f"{name}.conv2", "", 1).relu()
            y = conv_norm(F.avg_pool2d(y, step), f"{name}.conv3", "")
            x = (y + (conv_norm(F.avg_pool2d(x, step), f"{name}.downsample.0", "") if block == 0 else x)).relu()
    ours = ClipResNetTeacher(resnet).network(image)
    assert ours.shape == (1, 256, 2, 2)
    assert torch.allclose(ours, x, rtol=1e-3, atol=1e-3 * float(x.abs().max()))


def test_a_folder_without_a_resnet_is_refused(vit, resnet) -> None:
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="must hold a ResNet of CLIP; got another model"):
        ClipResNetTeacher(vit).features(image)
    with pytest.raises(ConfigError, match="must be a model of type clip; got 'clip_text_model'"):
        MaskClipTeacher(resnet).features(image)
