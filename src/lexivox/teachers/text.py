"""Text encoders: a sentence model, the text tower of a CLIP-family model, a fixed table; and centring.

Nothing heavy happens before the first ``encode``. Every text is encoded once and remembered. An encoder
describes itself as JSON plus small tensors (:func:`text_encoder_spec`), so a run folder can rebuild it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ConfigError
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.checkpoint import fingerprint, joint_dim, minilm_folder, model_folder, read_config
from lexivox.teachers.prompted import PromptedEncoder, check_texts, load_text_model
from lexivox.teachers.prompts import DEFAULT_PROMPTS


class SentenceEncoder(PromptedEncoder):
    """A sentence-transformers style model: mean of the last hidden states over the tokens, unit length.

    Args:
        folder: a local folder or hub id; ``None`` = the installed all-MiniLM-L6-v2 (384 channels).
        prompts: templates around every text.
    """

    def __init__(self, folder: str | Path | None = None, prompts: str | Sequence[str] = DEFAULT_PROMPTS) -> None:
        super().__init__(prompts)
        self.folder = folder

    @cached_property
    def path(self) -> Path:
        return minilm_folder() if self.folder is None else model_folder(self.folder)

    @property
    def dim(self) -> int:
        return int(read_config(self.path)["hidden_size"])

    @property
    def space(self) -> str:
        return f"sentence-{self.dim}@{fingerprint(self.path)}"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        return load_text_model(self.path)

    def _embed(self, sentences: list[str]) -> Float[Tensor, "M D"]:
        tokenizer, model = self._model
        tokens = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state  # (M, tokens, D)
        mask = tokens["attention_mask"][..., None].to(hidden)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


class ClipTextEncoder(PromptedEncoder):
    """The text tower of any CLIP-family checkpoint that ``transformers`` reads (CLIP, SigLIP, TIPS, ...)."""

    def __init__(self, folder: str | Path, prompts: str | Sequence[str] = DEFAULT_PROMPTS) -> None:
        super().__init__(prompts)
        self.folder = folder

    @cached_property
    def path(self) -> Path:
        return model_folder(self.folder)

    @property
    def dim(self) -> int:
        return joint_dim(self.path)

    @property
    def space(self) -> str:
        return clip_space(self.path, self.dim)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        return load_text_model(self.path)

    def _embed(self, sentences: list[str]) -> Float[Tensor, "M D"]:
        tokenizer, model = self._model
        # SigLIP was trained on padded lower-case texts and reads the last position; CLIP reads its end token.
        is_siglip = "siglip" in read_config(self.path).get("model_type", "")
        padding = "max_length" if is_siglip else True
        sentences = [sentence.lower() for sentence in sentences] if is_siglip else sentences
        length = getattr(model.config, "text_config", model.config).max_position_embeddings
        tokens = tokenizer(sentences, padding=padding, truncation=True, max_length=length, return_tensors="pt")
        if not hasattr(model, "get_text_features"):  # a text tower alone, whose image tower is a ResNet
            return model(**tokens).text_embeds
        output = model.get_text_features(**tokens)
        return output if isinstance(output, Tensor) else output.pooler_output


class TableTextEncoder:
    """Fixed vectors of known texts: what a run can answer without any text model installed."""

    def __init__(self, texts: Sequence[str], vectors: Float[Tensor, "M D"], space: str) -> None:
        self.texts, self.space = tuple(texts), space
        self.vectors = F.normalize(vectors.float(), dim=-1)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[Tensor, "M D"]:
        """Rows of the table; ``prompts`` must be ``None``, the sentences are already made.

        Raises:
            ConfigError: a text that the table lacks, or prompts.
        """
        check_texts(texts)
        unknown = [text for text in texts if text not in self.texts]
        if unknown or prompts is not None:
            raise ConfigError(
                f"text must be one of the table's {len(self.texts)}, without prompts; got {unknown[:3]}. "
                'Install a text model: pip install "lexivox[text]".'
            )
        return self.vectors[[self.texts.index(text) for text in texts]]


class CenteredTextEncoder:
    """Subtracts a fixed centre and makes unit again.

    Sentence and CLIP vectors of short words crowd around one direction (CLIP class names: mean cosine 0.84),
    so that mixtures of them hardly differ; without the common part they do.

    Args:
        base: the encoder to centre.
        center: (D,), usually the mean vector of the teacher's class names.
    """

    def __init__(self, base: TextEncoder, center: Float[Tensor, "D"]) -> None:
        self.base, self.center = base, center.float()

    @property
    def dim(self) -> int:
        return int(self.center.shape[0])

    @property
    def space(self) -> str:
        return centered_space(self.base.space, self.center)

    def encode(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[Tensor, "M D"]:
        """Unit rows around the centre.

        Raises:
            ConfigError: what the base encoder raises.
        """
        return F.normalize(self.base.encode(texts, prompts) - self.center, dim=-1)


def clip_space(folder: Path, dim: int) -> str:
    """Name of the joint image-text space of a CLIP-family checkpoint."""
    return f"clip-{dim}@{fingerprint(folder)}"


def centered_space(space: str, center: Float[Tensor, "D"]) -> str:
    """Name of a space after subtracting ``center``; stable under rounding to half precision."""
    digest = hashlib.sha256(center.detach().cpu().half().numpy().tobytes()).hexdigest()[:8]
    return f"{space}-centered@{digest}"


def text_encoder_spec(encoder: TextEncoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a run folder must keep to rebuild ``encoder``: JSON-ready values and small tensors.

    Raises:
        ConfigError: an encoder of a kind this library does not know.
    """
    match encoder:
        case CenteredTextEncoder():
            base, tensors = text_encoder_spec(encoder.base)
            spec = {"kind": "centered", "base": base}
            tensors = {**{f"base.{key}": value for key, value in tensors.items()}, "center": encoder.center}
        case TableTextEncoder():
            spec, tensors = {"kind": "table", "texts": list(encoder.texts)}, {"vectors": encoder.vectors}
        case SentenceEncoder() | ClipTextEncoder():
            kind = "sentence" if isinstance(encoder, SentenceEncoder) else "clip"
            folder = None if encoder.folder is None else str(encoder.folder)
            spec, tensors = {"kind": kind, "folder": folder, "prompts": list(encoder.prompts)}, {}
        case _:
            raise ConfigError(
                f"text encoder must come from lexivox.teachers.text; got {type(encoder).__name__}. "
                "Pass the encoder again when loading."
            )
    return {**spec, "space": encoder.space}, tensors


def text_encoder_from_spec(spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TextEncoder:
    """The inverse of :func:`text_encoder_spec`; nothing is loaded before the first query.

    Raises:
        ConfigError: unknown kind, missing tensor.
    """
    try:
        match spec["kind"]:
            case "centered":
                inner = {key.removeprefix("base."): value for key, value in tensors.items() if key != "center"}
                return CenteredTextEncoder(text_encoder_from_spec(spec["base"], inner), tensors["center"])
            case "table":
                return TableTextEncoder(spec["texts"], tensors["vectors"], spec["space"])
            case "sentence":
                return SentenceEncoder(spec["folder"], spec["prompts"])
            case "clip":
                return ClipTextEncoder(spec["folder"], spec["prompts"])
    except KeyError as error:
        raise ConfigError(f"text encoder description must have {error}; got none. Save the run again.") from error
    raise ConfigError(
        f"text encoder kind must be centered, table, sentence or clip; got '{spec['kind']}'. Update lexivox."
    )
