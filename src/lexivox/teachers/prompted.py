"""What all transformer text encoders share: sentence templates, their mean, and the memory of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.checkpoint import needs_transformers, read_config, silent_loading
from lexivox.teachers.prompts import as_prompts, fill


class PromptedEncoder:
    """Encodes every text once; subclasses embed sentences.

    A text's vector is the mean of its unit vectors under every template, made unit again (spec pop3d 5.5).
    """

    def __init__(self, prompts: str | Sequence[str]) -> None:
        self.prompts = as_prompts(prompts)
        self._known: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def encode(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[Tensor, "M D"]:
        """Unit rows, one per text.

        Raises:
            ConfigError: no text, an empty text, a template without ``{}``, or the model is not installed.
        """
        templates = self.prompts if prompts is None else as_prompts(prompts)
        check_texts(texts)
        missing = [text for text in dict.fromkeys(texts) if (text, templates) not in self._known]
        if missing:
            self._learn(missing, templates)
        return torch.stack([self._known[text, templates] for text in texts])

    def _learn(self, texts: list[str], templates: tuple[str, ...]) -> None:
        sentences = [sentence for text in texts for sentence in fill(templates, text)]
        with torch.no_grad():
            batches = [self._embed(sentences[start : start + 256]) for start in range(0, len(sentences), 256)]
        units = F.normalize(torch.cat(batches).float(), dim=-1).view(len(texts), len(templates), -1)
        for text, vector in zip(texts, F.normalize(units.mean(dim=1), dim=-1), strict=True):
            self._known[text, templates] = vector

    def _embed(self, sentences: list[str]) -> Float[Tensor, "M D"]:
        raise NotImplementedError


def check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not texts or not all(text.strip() for text in texts):
        raise ConfigError(f"texts must be a list of non-empty strings; got {texts!r}. Write ['car', 'tree'].")


def load_text_model(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and frozen float32 model of a local folder; only safetensors, never the network."""
    try:
        import transformers
    except ImportError as error:
        raise needs_transformers() from error
    is_tower = read_config(folder).get("model_type") == "clip_text_model"
    kind = transformers.CLIPTextModelWithProjection if is_tower else transformers.AutoModel
    with silent_loading():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    return tokenizer, model.eval().requires_grad_(False)
