"""TIPSv2 and SigLIP through transformers, on tiny models that are saved and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lexivox.config import ClipTeacherConfig, FeatureFilesConfig
from lexivox.errors import ConfigError
from lexivox.teachers.base import ImageTeacher, TextEncoder, check_same_space
from lexivox.teachers.clip import MaskClipTeacher
from lexivox.teachers.siglip import SiglipTeacher
from lexivox.teachers.tips import TipsTeacher

transformers = pytest.importorskip("transformers", reason='pip install "lexivox[text]"')
WORDS = ["car", "tree", "road", "a", "photo", "of", "."]


def write_words(folder: Path, length: int) -> None:
    """A tokenizer of a few whole words, as any fast tokenizer lies beside its model."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<unk>", *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=length
    ).save_pretrained(folder)


def save(model, folder: Path) -> Path:
    model.save_pretrained(folder)
    write_words(folder, 16)
    return folder


@pytest.fixture(scope="module")
def tips(tmp_path_factory) -> Path:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Tipsv2Config(
        text_config={**sizes, "vocab_size": 20, "intermediate_size": 64, "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 56, "patch_size": 14, "layerscale_value": 0.5},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Tipsv2Model(config)
    return save(model, tmp_path_factory.mktemp("tips"))


def make_siglip(kind: str, folder: Path) -> Path:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = {**sizes, "vocab_size": 20, "max_position_embeddings": 16, "projection_size": 32}
    side = {"num_patches": 16} if kind == "siglip2" else {"image_size": 32}
    vision = {**sizes, "patch_size": 8, **side}
    build = {
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
        "siglip2": (transformers.Siglip2Config, transformers.Siglip2Model),
    }[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build[1](build[0](text_config=text, vision_config=vision))
    return save(model, folder)


@pytest.fixture(scope="module", params=["siglip", "siglip2"])
def siglip(request, tmp_path_factory) -> Path:
    return make_siglip(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 60, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_tips_is_a_teacher_with_words(tips, images) -> None:
    teacher = TipsTeacher(tips, short_side_px=56)
    encoder = teacher.text_encoder()
    assert isinstance(teacher, ImageTeacher)
    assert isinstance(encoder, TextEncoder)
    check_same_space(teacher, encoder)
    features, words = teacher.features(images), encoder.encode(["car", "tree"])
    assert features.shape == (2, 32, 4, 7)
    assert words.shape == (2, 32)
    assert torch.allclose(words.norm(dim=1), torch.ones(2))
    assert not features.requires_grad
    assert torch.allclose(features[1:], teacher.features(images[1:]), atol=1e-5)


def test_tips_without_the_values_is_the_network_itself(tips, images) -> None:
    teacher = TipsTeacher(tips, use_values=False, short_side_px=56)
    pixels = teacher.prepare(images[:1])
    assert 0.0 <= pixels.min() <= pixels.max() <= 1.0
    official = teacher.network.vision_model(pixel_values=pixels).last_hidden_state
    expected = official[:, 2:].transpose(1, 2).unflatten(2, (4, 7))  # class token and one register first
    assert torch.allclose(teacher.features(images[:1]), expected, atol=1e-5)
    assert not torch.allclose(teacher.features(images), TipsTeacher(tips, short_side_px=56).features(images))


def test_the_value_path_is_attention_to_oneself(tips) -> None:
    """With one patch-token left to attend to, attention and value path agree: no token sees another."""
    from lexivox.teachers.tips import _value_block

    block = TipsTeacher(tips).network.vision_model.encoder.layer[-1]
    tokens = torch.randn(6, 1, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(_value_block(block, tokens), block(tokens), atol=1e-6)


def patches_one_by_one(pixels: torch.Tensor, side: int = 8) -> torch.Tensor:
    """Patches from left to right and top to bottom; inside, pixels likewise, each with its three colours."""
    rows = []
    for top in range(0, pixels.shape[1], side):
        for left in range(0, pixels.shape[2], side):
            numbers = [pixels[color, top + i, left + j] for i in range(side) for j in range(side) for color in range(3)]
            rows.append(torch.stack(numbers))
    return torch.stack(rows)


def test_siglip_pools_a_single_patch_as_the_network_does(siglip) -> None:
    teacher = SiglipTeacher(siglip, short_side_px=8)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels = teacher.prepare(image)
    if teacher.network.config.model_type == "siglip2":
        patches = patches_one_by_one(pixels[0])
        official = teacher.network.get_image_features(
            pixel_values=patches[None],
            pixel_attention_mask=torch.ones(1, 1, dtype=torch.int64),
            spatial_shapes=torch.tensor([[1, 1]]),
        )
    else:
        official = teacher.network.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True)
    assert torch.allclose(teacher.features(image)[..., 0, 0], official.pooler_output, atol=1e-5)


def test_siglip_tokens_are_those_of_the_network(siglip, images) -> None:
    """Many patches: the head's answer to each is that to a picture of equal tokens."""
    from lexivox.teachers.siglip import _patch_rows, pool_alone

    teacher = SiglipTeacher(siglip, short_side_px=32)
    pixels = teacher.prepare(images[:1])
    tower = teacher.network.vision_model
    if teacher.network.config.model_type == "siglip2":
        rows = patches_one_by_one(pixels[0])
        assert torch.equal(_patch_rows(pixels, 8)[0], rows)
        hidden = tower(rows[None], torch.ones(1, 28), torch.tensor([[4, 7]])).last_hidden_state
    else:
        hidden = tower(pixels, interpolate_pos_encoding=True).last_hidden_state
    expected = pool_alone(tower.head, hidden)
    assert torch.allclose(teacher.features(images[:1]), expected.transpose(1, 2).unflatten(2, (4, 7)), atol=1e-5)
    equal = hidden[:, 3:4].expand(-1, 5, -1)
    assert torch.allclose(pool_alone(tower.head, hidden)[:, 3], tower.head(equal), atol=1e-5)


def test_siglip_has_words_in_lower_case(siglip) -> None:
    teacher = SiglipTeacher(siglip, short_side_px=32)
    encoder = teacher.text_encoder("{}")
    check_same_space(teacher, encoder)
    assert torch.equal(encoder.encode(["Car"]), encoder.encode(["car"]))
    assert not torch.allclose(encoder.encode(["car"]), encoder.encode(["tree"]))


def test_windows_equal_the_whole_image_when_one_covers_it(tips, siglip, images) -> None:
    for make, folder in ((TipsTeacher, tips), (SiglipTeacher, siglip)):
        whole = F.normalize(make(folder, short_side_px=56).features(images), dim=1)
        one = make(folder, short_side_px=56, window_px=140).features(images)
        assert torch.allclose(one, whole, atol=1e-6)
        many = make(folder, short_side_px=56, window_px=28, stride_px=14).features(images)
        assert many.shape == whole.shape
        assert (many.norm(dim=1) <= 1 + 1e-5).all()
        assert not torch.allclose(many, whole, atol=1e-3)


def test_fingerprints_tell_every_option_apart(tips, siglip) -> None:
    teachers = [
        TipsTeacher(tips),
        TipsTeacher(tips, use_values=False),
        TipsTeacher(tips, short_side_px=560),
        TipsTeacher(tips, window_px=448),
        TipsTeacher(tips, window_px=448, stride_px=224),
        SiglipTeacher(siglip),
    ]
    assert len({teacher.fingerprint for teacher in teachers}) == len(teachers)
    assert TipsTeacher(tips).space != SiglipTeacher(siglip).space


def test_a_folder_of_another_kind_is_refused(tips, siglip, images) -> None:
    with pytest.raises(ConfigError, match="must be a model of type siglip or siglip2; got 'tipsv2'"):
        SiglipTeacher(tips).features(images)
    with pytest.raises(ConfigError, match="must be a model of type clip; got 'siglip"):
        MaskClipTeacher(siglip).features(images)


def test_a_config_opens_each_kind_with_its_options(tips, siglip) -> None:
    teacher, encoder = ClipTeacherConfig(kind="tips", checkpoint=str(tips), use_values=False, window_px=448).build()
    assert isinstance(teacher, TipsTeacher)
    assert (teacher.use_values, teacher.window_px, teacher.stride_px) == (False, 448, 298)
    assert encoder.prompts == ("a photo of a {}.",)
    teacher, encoder = ClipTeacherConfig(kind="siglip", checkpoint=str(siglip), prompts="clip85").build()
    assert isinstance(teacher, SiglipTeacher)
    assert len(encoder.prompts) == 85
    with pytest.raises(ConfigError, match=r"teacher 'tips' must be given its own options .* got attention"):
        ClipTeacherConfig(kind="tips", checkpoint=str(tips), attention="naclip").build()


def test_feature_files_live_in_the_space_of_their_words(tips, tmp_path) -> None:
    config = FeatureFilesConfig(features=str(tmp_path), projections=str(tmp_path), checkpoint=str(tips))
    teacher, encoder = config.build()
    check_same_space(teacher, encoder)
    assert teacher.dim == encoder.dim == 32
    assert len(encoder.prompts) == 85
