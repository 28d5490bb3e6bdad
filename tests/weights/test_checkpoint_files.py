from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lexivox.errors import WeightsError
from lexivox.weights.checkpoint import read_checkpoint

ARRAYS = {"a.weight": torch.arange(3.0), "a.bias": torch.zeros(1)}


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "meta": {"epoch": 3}}, lambda s: {"model": s}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_or_wrapped_with_or_without_prefix(wrap, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in ARRAYS.items()}
    found = read_checkpoint(saved(wrap(state), tmp_path / "a.pth"))
    assert found.keys() == ARRAYS.keys()
    assert torch.equal(found["a.weight"], ARRAYS["a.weight"])


def test_safetensors(tmp_path: Path) -> None:
    save_file(ARRAYS, tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors").keys() == ARRAYS.keys()


def test_a_prefix_on_some_names_is_part_of_them(tmp_path: Path) -> None:
    path = saved({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.pth")
    assert read_checkpoint(path).keys() == {"module.a", "b"}


def test_scores_that_trainers_keep_as_numpy_numbers_do_no_harm(tmp_path: Path) -> None:
    content = {"state_dict": ARRAYS, "best_val_miou_vox": np.float64(16.658), "iteration": np.int64(42)}
    assert read_checkpoint(saved(content, tmp_path / "a.pth")).keys() == ARRAYS.keys()


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_code_is_never_run(tmp_path: Path) -> None:
    path = saved({"state_dict": ARRAYS, "hook": Hostile()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a checkpoint must load without running code; got: .* Save its state dict"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"not a checkpoint", "a checkpoint must"),
        ("a.pth", b"", "a checkpoint must be whole; got: "),
        ("a.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00junk", "a checkpoint must be whole; got: "),
        ("a.pth", pickle.dumps({"a": 1}), "a checkpoint must"),
    ],
)
def test_damaged_files_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(tmp_path / name)


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    for content in ({"state_dict": {}}, {"epoch": 3}, [1, 2]):
        with pytest.raises(
            WeightsError, match="a checkpoint must hold named arrays, bare or under state_dict or model"
        ):
            read_checkpoint(saved(content, tmp_path / "a.pth"))
    with pytest.raises(WeightsError, match=r"weights must be a checkpoint file; got none. Check: .*nowhere.pth"):
        read_checkpoint(tmp_path / "nowhere.pth")
