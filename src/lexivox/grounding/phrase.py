"""What somebody asks for: several ways to say one thing, and what is not meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.base import TextEncoder

Rule = Literal["best", "mean"]
"""How several phrasings become one score: that of the best fitting one, or that of their mean vector."""

MAX_PHRASINGS, MAX_CHARACTERS = 64, 1000
_NOT = re.compile(r"\bnot\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Phrase:
    """One question.

    Attributes:
        texts: phrasings of what is looked for.
        negatives: what it must not be taken for.
        rule: how the phrasings are joined.
        prompts: sentence templates with ``{}``; empty = those of the text encoder.
    """

    texts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    rule: Rule = "best"
    prompts: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = ", ".join(self.texts)
        return f"{said}, not: {', '.join(self.negatives)}" if self.negatives else said


@dataclass(frozen=True, slots=True)
class PhraseVectors:
    """A phrase in the space of the features: unit rows."""

    wanted: Float[Tensor, "M D"]
    unwanted: Float[Tensor, "K D"]


def parse_phrase(
    text: str, negatives: Sequence[str] | str = (), rule: str = "best", prompts: Sequence[str] | str = ()
) -> Phrase:
    """Read ``"car, automobile, not: truck, van"``: commas separate phrasings, ``not:`` begins what is not meant.

    Args:
        negatives: more of what is not meant.

    Raises:
        ConfigError: no word to look for, only negatives, the same word on both sides, too much text, or an unknown
            rule.
    """
    if rule not in get_args(Rule):  # a caller without a type checker
        raise ConfigError(f"rule of a query must be one of {', '.join(get_args(Rule))}; got {rule!r}.")
    wanted, *unwanted = _NOT.split(text)
    extra = [negatives] if isinstance(negatives, str) else list(negatives)
    texts = _split(wanted)
    against = tuple(dict.fromkeys(part for chunk in [*unwanted, *extra] for part in _split(chunk)))
    if not texts and against:
        raise ConfigError(
            f"a query must say what to look for; got only negatives: {', '.join(against)[:80]}. "
            "Write for example 'car, not: truck'."
        )
    if not texts:
        raise ConfigError(f"a query must hold a word; got {text[:40]!r}. Ask for example 'car'.")
    _check(texts, against)
    return Phrase(texts, against, cast(Rule, rule), (prompts,) if isinstance(prompts, str) else tuple(prompts))


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _check(texts: tuple[str, ...], against: tuple[str, ...]) -> None:
    both = sorted({text.lower() for text in texts} & {text.lower() for text in against})
    if both:
        raise ConfigError(f"a word must be wanted or not wanted; got '{both[0]}' on both sides. Remove one.")
    longest = max((*texts, *against), key=len)
    if len(longest) > MAX_CHARACTERS:
        raise ConfigError(
            f"a phrase must hold at most {MAX_CHARACTERS} characters, as a text encoder reads no more; "
            f"got {len(longest)}: '{longest[:40]}…'. Say it in fewer words."
        )
    if len(texts) + len(against) > MAX_PHRASINGS:
        raise ConfigError(
            f"a query must hold at most {MAX_PHRASINGS} phrasings; got {len(texts) + len(against)}. "
            "Ask for different things in queries of their own."
        )


def encode_phrases(phrases: Sequence[Phrase], encoder: TextEncoder) -> list[PhraseVectors]:
    """All phrases in as few calls of the encoder as there are different prompts.

    Raises:
        ConfigError: what the encoder raises.
    """
    rows: dict[tuple[tuple[str, ...], str], Tensor] = {}
    for prompts in dict.fromkeys(phrase.prompts for phrase in phrases):
        said = [p for p in phrases if p.prompts == prompts]
        texts = list(dict.fromkeys(text for p in said for text in (*p.texts, *p.negatives)))
        vectors = encoder.encode(texts, prompts) if prompts else encoder.encode(texts)
        rows |= {(prompts, text): row for text, row in zip(texts, vectors, strict=True)}
    return [_vectors_of(phrase, rows) for phrase in phrases]


def _vectors_of(phrase: Phrase, rows: dict[tuple[tuple[str, ...], str], Tensor]) -> PhraseVectors:
    wanted = F.normalize(torch.stack([rows[phrase.prompts, text] for text in phrase.texts]).float(), dim=-1)
    if phrase.rule == "mean":
        wanted = F.normalize(wanted.mean(dim=0, keepdim=True), dim=-1)
    unwanted = [rows[phrase.prompts, text] for text in phrase.negatives]
    if not unwanted:
        return PhraseVectors(wanted, wanted.new_zeros((0, wanted.shape[1])))
    return PhraseVectors(wanted, F.normalize(torch.stack(unwanted).float(), dim=-1))
