from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexivox.errors import ConfigError
from lexivox.teachers import checkpoint
from lexivox.teachers.base import TextEncoder, check_same_space
from lexivox.teachers.prompts import as_prompts, clip_templates, fill
from lexivox.teachers.text import (
    CenteredTextEncoder,
    SentenceEncoder,
    TableTextEncoder,
    text_encoder_from_spec,
    text_encoder_spec,
)

TABLE = TableTextEncoder(["car", "tree"], torch.tensor([[3.0, 4.0], [0.0, 2.0]]), "toy")


def test_clip_templates_equal_the_published_ones(golden) -> None:
    published = np.load(golden / "clip_text.npz", allow_pickle=False)["prompts/templates_sorted_utf8"]
    assert sorted(clip_templates()) == [str(template) for template in published]


def test_prompts_fill_and_refuse() -> None:
    assert fill(("a {}.", "{}!"), "x{}y") == ["a x{}y.", "x{}y!"]
    with pytest.raises(ConfigError, match=r"prompt must contain \{\}"):
        as_prompts("a photo")
    with pytest.raises(ConfigError, match="got none"):
        as_prompts([])


def test_table_encoder_gives_unit_rows_and_refuses_unknown_words() -> None:
    assert torch.allclose(TABLE.encode(["tree", "car"]), torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    with pytest.raises(ConfigError, match=r"table's 2.* got \['bus'\]"):
        TABLE.encode(["bus"])
    with pytest.raises(ConfigError, match="list of non-empty strings"):
        TABLE.encode("car")


def test_centering_subtracts_and_makes_unit() -> None:
    centered = CenteredTextEncoder(TABLE, torch.tensor([0.3, 0.9]))
    assert torch.allclose(centered.encode(["car"]), F.normalize(torch.tensor([[0.3, -0.1]]), dim=-1))
    assert centered.space.startswith("toy-centered@")
    assert centered.dim == 2
    assert isinstance(centered, TextEncoder)


def test_space_of_a_center_survives_half_precision() -> None:
    center = torch.randn(16, generator=torch.Generator().manual_seed(0))
    stored = CenteredTextEncoder(TABLE, center.half().float())
    assert CenteredTextEncoder(TABLE, center).space == stored.space


def test_check_same_space_names_both() -> None:
    class Teacher:
        space, dim = "a@1", 2

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images

    with pytest.raises(ConfigError, match=r"'a@1'; got 'toy'"):
        check_same_space(Teacher(), TABLE)
    Teacher.space = "toy"
    check_same_space(Teacher(), TABLE)


def test_description_round_trip_through_json() -> None:
    encoder = CenteredTextEncoder(TABLE, torch.tensor([0.3, 0.9]))
    spec, tensors = text_encoder_spec(encoder)
    again = text_encoder_from_spec(json.loads(json.dumps(spec)), tensors)
    assert again.space == encoder.space == spec["space"]
    assert torch.equal(again.encode(["car", "tree"]), encoder.encode(["car", "tree"]))


def test_description_refuses_strangers() -> None:
    class Foreign:
        space, dim = "a@1", 2

        def encode(self, texts, prompts=None):
            return torch.zeros(len(texts), 2)

    with pytest.raises(ConfigError, match="got Foreign"):
        text_encoder_spec(Foreign())
    with pytest.raises(ConfigError, match="got 'bogus'"):
        text_encoder_from_spec({"kind": "bogus"}, {})
    with pytest.raises(ConfigError, match="must have 'center'"):
        text_encoder_from_spec(
            {"kind": "centered", "base": {"kind": "sentence", "folder": None, "prompts": ["{}"]}}, {}
        )


def test_missing_packages_are_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "lexivox\[text\]"'):
        SentenceEncoder().encode(["car"])
    with pytest.raises(ConfigError, match=r"must hold config\.json"):
        SentenceEncoder(tmp_path).encode(["car"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"must hold \*\.safetensors"):
        _ = checkpoint.fingerprint(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="transformers must be installed"):
        SentenceEncoder(tmp_path).encode(["car"])


def test_fingerprint_follows_the_weights(tmp_path) -> None:
    def of(name: str, content: bytes) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
        return checkpoint.fingerprint(tmp_path / name)

    content = bytes(range(256)) * 1000
    assert of("a", content) == of("b", content) != of("c", content[:-1] + b"x")


def test_minilm_is_lazy_unit_and_remembers(minilm) -> None:
    rows = minilm.encode(["truck", "lorry", "tree", "truck"])
    assert rows.shape == (4, minilm.dim) == (4, 384)
    assert torch.allclose(rows.norm(dim=-1), torch.ones(4), atol=1e-6)
    assert torch.equal(rows[0], rows[3])
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    start = time.perf_counter()
    minilm.encode(["truck"])
    assert time.perf_counter() - start < 0.005


def test_minilm_matches_sentence_transformers_pooling(minilm) -> None:
    """Known values: cosines of the raw words from sentence-transformers 6.2 on the same weights."""
    truck, lorry, tree = minilm.encode(["truck", "lorry", "tree"], prompts=["{}"])
    assert float(truck @ lorry) == pytest.approx(0.5440, abs=1e-4)
    assert float(truck @ tree) == pytest.approx(0.3771, abs=1e-4)


def test_minilm_vector_does_not_depend_on_its_batch(minilm) -> None:
    alone = minilm._embed(["a photo of a cat."])
    together = minilm._embed(["a photo of a cat.", "a much longer sentence about many more things than one cat."])
    assert torch.allclose(alone[0], together[0], atol=1e-5)


def test_several_prompts_are_averaged(minilm) -> None:
    prompts = ["a photo of a {}.", "the {} in the scene."]
    single = [minilm.encode(["car"], prompts=[prompt])[0] for prompt in prompts]
    expected = F.normalize(torch.stack(single).mean(dim=0), dim=-1)
    assert torch.allclose(minilm.encode(["car"], prompts=prompts)[0], expected, atol=1e-5)
