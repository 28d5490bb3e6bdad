"""What may be asked: queries, the classes they stand for, and the assignment of features to classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.prompts import as_prompts


@dataclass(frozen=True, slots=True)
class TextQuery:
    """One phrase. ``prompts`` are its own sentence templates; empty = those of the text encoder."""

    text: str
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Queries, several of which may stand for one class.

    Attributes:
        queries: M phrases.
        class_of_query: index into ``class_names`` of every query.
        class_names: K names.
        embeddings: unit rows of the queries, ``None`` before :func:`embed`.
        space: embedding space of the rows, ``None`` before :func:`embed`.
    """

    queries: tuple[TextQuery, ...]
    class_of_query: tuple[int, ...]
    class_names: tuple[str, ...]
    embeddings: Float[Tensor, "M D"] | None = None
    space: str | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(query.text for query in self.queries)


def vocabulary(
    names: Sequence[str] | Mapping[str, str | Sequence[str]], prompts: str | Sequence[str] = ()
) -> Vocabulary:
    """A vocabulary from class names, or from ``{class name: [phrasings]}``.

    Args:
        names: one phrase per class, or several per class in a mapping.
        prompts: sentence templates for all queries; empty = those of the text encoder.

    Raises:
        ConfigError: no names, a name twice, an empty phrase, a class without phrases.
    """
    phrasings = _phrasings(names)
    templates = as_prompts(prompts) if prompts else ()
    pairs = [(index, phrase) for index, phrases in enumerate(phrasings.values()) for phrase in phrases]
    return Vocabulary(
        queries=tuple(TextQuery(phrase, templates) for _, phrase in pairs),
        class_of_query=tuple(index for index, _ in pairs),
        class_names=tuple(phrasings),
    )


def _phrasings(names: Sequence[str] | Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    if isinstance(names, str) or not names:
        raise ConfigError(f"vocabulary must be a list or mapping of names; got {names!r}. Write ['car', 'tree'].")
    if isinstance(names, Mapping):
        table = {name: (own,) if isinstance(own, str) else tuple(own) for name, own in names.items()}
    else:
        table = {name: (name,) for name in names}
        if len(table) != len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise ConfigError(f"class names must be unique; got '{twice}' twice. Remove one.")
    for name, phrases in table.items():
        if not phrases or not all(phrase.strip() for phrase in phrases):
            raise ConfigError(f"class '{name}' must have non-empty phrases; got {phrases!r}. Add at least one.")
    return table


def embed(vocabulary: Vocabulary, encoder: TextEncoder) -> Vocabulary:
    """The vocabulary with its unit vectors in the encoder's space.

    Raises:
        ConfigError: what the encoder raises.
    """
    rows: dict[int, Tensor] = {}
    for templates in dict.fromkeys(query.prompts for query in vocabulary.queries):
        members = [index for index, query in enumerate(vocabulary.queries) if query.prompts == templates]
        vectors = encoder.encode([vocabulary.queries[index].text for index in members], templates or None)
        rows.update(zip(members, vectors, strict=True))
    embeddings = torch.stack([rows[index] for index in range(len(vocabulary.queries))])
    return replace(vocabulary, embeddings=embeddings, space=encoder.space)


def query_scores(vocabulary: Vocabulary, features: Float[Tensor, "P D"]) -> Float[Tensor, "P M"]:
    """Cosine between every feature and every query; 0 for a feature of zero length.

    Raises:
        ConfigError: the vocabulary has no embeddings yet, or of another size.
    """
    return F.normalize(features, dim=-1) @ _embeddings(vocabulary, features).T


def best_query(vocabulary: Vocabulary, features: Float[Tensor, "P D"]) -> Int64[Tensor, "P"]:
    """Class of the single best query, no pooling over the queries of a class (spec pop3d 5.6).

    Raises:
        ConfigError: the vocabulary has no embeddings yet, or of another size.
    """
    class_of_query = torch.tensor(vocabulary.class_of_query, device=features.device)
    return class_of_query[query_scores(vocabulary, features).argmax(dim=-1)]


def mean_embedding(vocabulary: Vocabulary, features: Float[Tensor, "P D"]) -> Int64[Tensor, "P"]:
    """Class whose queries' mean direction is nearest: one vector per class, however many phrasings.

    Raises:
        ConfigError: the vocabulary has no embeddings yet, or of another size.
    """
    embeddings = _embeddings(vocabulary, features)
    member = torch.tensor(vocabulary.class_of_query, device=features.device)
    one_hot = F.one_hot(member, vocabulary.num_classes).to(embeddings)
    centers = F.normalize(one_hot.T @ embeddings, dim=-1)  # (K, D); a sum has the direction of the mean
    return (features @ centers.T).argmax(dim=-1)


def _embeddings(vocabulary: Vocabulary, features: Tensor) -> Tensor:
    if vocabulary.embeddings is None:
        raise ConfigError("vocabulary must be embedded before it scores; got none. Call embed(vocabulary, encoder).")
    if vocabulary.embeddings.shape[1] != features.shape[-1]:
        raise ConfigError(
            f"vocabulary must have the features' {features.shape[-1]} channels; "
            f"got {vocabulary.embeddings.shape[1]}. Embed it with the encoder of the teacher's space."
        )
    return vocabulary.embeddings.to(features)
