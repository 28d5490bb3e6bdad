from __future__ import annotations

import pytest
import torch

from lexivox.errors import ConfigError
from lexivox.teachers.text import TableTextEncoder
from lexivox.teachers.vocabulary import best_query, embed, mean_embedding, query_scores, vocabulary

ENCODER = TableTextEncoder(["car", "van", "tree"], torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]), "toy")


def test_names_make_one_query_each() -> None:
    words = vocabulary(["car", "tree"])
    assert words.texts == ("car", "tree")
    assert words.class_of_query == (0, 1)
    assert words.num_classes == 2


def test_best_query_maps_to_its_class_and_mean_embedding_may_differ() -> None:
    words = embed(vocabulary({"vehicle": ["car", "van"], "plant": "tree"}), ENCODER)
    assert words.space == "toy"
    assert words.class_of_query == (0, 0, 1)
    # mean direction of vehicle is (0.71, 0.71, 0)
    features = torch.tensor([[0.0, 5.0, 1.0], [0.9, 0.0, 0.8], [0.0, 0.0, 2.0]])
    assert best_query(words, features).tolist() == [0, 0, 1]
    assert mean_embedding(words, features).tolist() == [0, 1, 1]
    assert torch.allclose(query_scores(words, features)[2], torch.tensor([0.0, 0.0, 1.0]))


def test_feature_of_zero_length_scores_zero() -> None:
    words = embed(vocabulary(["car"]), ENCODER)
    assert query_scores(words, torch.zeros(1, 3)).tolist() == [[0.0]]


def test_own_prompts_reach_the_encoder(minilm) -> None:
    words = embed(vocabulary(["car"], prompts="the {} in the scene."), minilm)
    assert torch.equal(words.embeddings, minilm.encode(["car"], prompts=["the {} in the scene."]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "list or mapping of names"),
        ("car", "list or mapping of names"),
        (["car", "car"], "got 'car' twice"),
        ({"car": []}, "class 'car' must have non-empty phrases"),
        (["car", " "], "must have non-empty phrases"),
    ],
)
def test_refuses(names, message) -> None:
    with pytest.raises(ConfigError, match=message):
        vocabulary(names)


def test_scores_need_embeddings_of_the_right_size() -> None:
    with pytest.raises(ConfigError, match="must be embedded"):
        best_query(vocabulary(["car"]), torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="features' 4 channels; got 3"):
        best_query(embed(vocabulary(["car"]), ENCODER), torch.zeros(1, 4))
