"""CLIP's published merges of letters into words, as the files of a ``transformers`` tokenizer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from lexivox.errors import WeightsError
from lexivox.files import write_atomically

NUM_MERGES = 49152 - 256 - 2
"""Of the merges in the file, CLIP uses so many: its vocabulary without the 256 bytes and the two marks."""

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def write_words(vocabulary: str | Path, folder: Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``.

    Args:
        vocabulary: ``bpe_simple_vocab_16e6.txt.gz``.
        folder: made where needed.

    Raises:
        WeightsError: the file is missing, damaged or too short.
    """
    try:
        lines = gzip.decompress(Path(vocabulary).read_bytes()).decode().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"CLIP's vocabulary must be its published gzip; got {reason}. Check: {vocabulary}") from None
    merges = lines[1 : NUM_MERGES + 1]
    if len(merges) < NUM_MERGES or any(len(merge.split()) != 2 for merge in merges):
        raise WeightsError(f"CLIP's vocabulary must hold {NUM_MERGES} merges; got others. Check: {vocabulary}")
    letters = _letters()
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(merge.split()) for merge in merges)]
    numbers = {token: number for number, token in enumerate([*tokens, START, END])}
    texts = {
        "vocab.json": json.dumps(numbers),
        "merges.txt": "\n".join(["#version: 0.2", *merges]),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}),
    }
    for name, text in texts.items():
        write_atomically(folder / name, lambda file, text=text: file.write(text.encode()), "CLIP folder")


def _letters() -> list[str]:
    """A printable letter for each byte, in the order of the vocabulary: printable bytes first, as themselves."""
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [code for first, last in ranges for code in range(ord(first), ord(last) + 1)]
    return [chr(code) for code in printable + [256 + index for index in range(256 - len(printable))]]
