"""CLIP text towers through transformers, against the official tokenizer, tower and prompt ensembling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lexivox.teachers.prompts import clip_templates
from lexivox.teachers.text import ClipTextEncoder, text_encoder_from_spec, text_encoder_spec
from lexivox.teachers.vocabulary import embed, vocabulary
from lexivox.weights.clip_words import write_words

transformers = pytest.importorskip("transformers", reason='pip install "lexivox[text]"')


@pytest.fixture(scope="module")
def case(golden) -> dict[str, np.ndarray]:
    archive = np.load(golden / "clip_text.npz", allow_pickle=False)
    return {name: archive[name] for name in archive.files}


def text_state(case: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """OpenAI's key names of the text tower as transformers' names."""
    own = {key.removeprefix("clip/"): torch.from_numpy(value).float() for key, value in case.items() if "clip/" in key}
    state = {
        "text_model.embeddings.token_embedding.weight": own["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": own["positional_embedding"],
        "text_projection.weight": own["text_projection"].T.contiguous(),
    }
    for part in ("weight", "bias"):
        state[f"text_model.final_layer_norm.{part}"] = own[f"ln_final.{part}"]
        for block in range(2):
            old, new = f"transformer.resblocks.{block}", f"text_model.encoder.layers.{block}"
            in_proj = own[f"{old}.attn.in_proj_{part}"].chunk(3)
            state |= {f"{new}.self_attn.{x}_proj.{part}": y for x, y in zip("qkv", in_proj, strict=True)}
            state[f"{new}.self_attn.out_proj.{part}"] = own[f"{old}.attn.out_proj.{part}"]
            state[f"{new}.mlp.fc1.{part}"] = own[f"{old}.mlp.c_fc.{part}"]
            state[f"{new}.mlp.fc2.{part}"] = own[f"{old}.mlp.c_proj.{part}"]
            state |= {f"{new}.layer_norm{n}.{part}": own[f"{old}.ln_{n}.{part}"] for n in (1, 2)}
    return state


@pytest.fixture(scope="module")
def folder(case, realdata, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip_text")
    state = text_state(case)
    width, dim = state["text_projection.weight"].T.shape
    small = {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 4 * width,
    }
    vision = {**small, "image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config=vision,
        projection_dim=dim,
    )
    with torch.random.fork_rng():
        model = transformers.CLIPModel(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [key for key in missing if "text" in key]
    model.save_pretrained(path)
    write_words(realdata / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz", path)
    return path


def strings(case: dict[str, np.ndarray]) -> list[str]:
    return [bytes(text).decode() for text in case["tokenizer/strings_utf8"].tolist()]


def test_vectors_match_the_official_tower(case, folder) -> None:
    """Texts whose ids agree; transformers leaves out CLIP's repair of mangled encodings (ftfy)."""
    encoder = ClipTextEncoder(folder, prompts="{}")
    tokenizer, _ = encoder._model
    rows = []
    for row, text in enumerate(strings(case)):
        ids = tokenizer(text, truncation=True, max_length=77)["input_ids"]
        if text.strip() and ids == case["tokenizer/ids"][row][: len(ids)].tolist():
            rows.append(row)
    assert len(rows) >= 24
    ours = encoder.encode([strings(case)[row] for row in rows])
    official = torch.from_numpy(case["text/encode_text"][rows])
    assert torch.allclose(ours, torch.nn.functional.normalize(official, dim=-1), atol=1e-4)


def test_prompt_ensemble_matches_pop3d(case, folder) -> None:
    encoder = ClipTextEncoder(folder, prompts=clip_templates())
    names = [str(name) for name in case["prompts/names"]]
    words = embed(vocabulary(names), encoder)
    official = torch.from_numpy(case["prompts/zeroshot_weights_85_templates"]).T
    assert torch.allclose(words.embeddings, official, atol=1e-4)


def test_description_rebuilds_the_encoder(folder) -> None:
    encoder = ClipTextEncoder(folder)
    again = text_encoder_from_spec(*text_encoder_spec(encoder))
    assert again.space == encoder.space
    assert again.dim == encoder.dim
    assert torch.equal(again.encode(["car"]), encoder.encode(["car"]))


def test_the_templates_are_the_official_ones(case) -> None:
    assert sorted(clip_templates()) == case["prompts/templates_sorted_utf8"].tolist()
