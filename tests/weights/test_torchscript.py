"""TorchScript archives: all arrays come out, no program runs, everything else is refused."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from lexivox.errors import WeightsError
from lexivox.weights.checkpoint import read_checkpoint


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Parameter(torch.randn(3, 4).half())
        self.register_buffer("steps", torch.arange(5))
        self.blocks = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))

    def forward(self, x):
        return self.blocks(x @ self.proj.float())


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Inner()
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.shared = nn.Parameter(torch.randn(4, 3)[:, 1:])

    def forward(self, x):
        return self.visual(x) * self.logit_scale + self.shared.sum()


@pytest.fixture(scope="module")
def network() -> Outer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Outer().eval()


@pytest.fixture(scope="module")
def archive(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "ViT.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.save(torch.jit.trace(network, torch.zeros(2, 3)), path)
    return path


def test_every_array_comes_out_under_its_name(network, archive) -> None:
    found, expected = read_checkpoint(archive), network.state_dict()
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert torch.equal(found[name], array)


def changed(archive: Path, path: Path, pickled: bytes | None = None, drop: str = "") -> Path:
    """A copy with another pickle, or without a file."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if not drop or not name.endswith(drop):
                is_pickle = pickled is not None and name.endswith("/data.pkl")
                new.writestr(name, pickled if is_pickle else old.read(name))
    return path


class Command:
    def __reduce__(self):
        return (print, ("this must never be seen",))


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (pickle.dumps(Command(), 2), "must load without running code; got: the file asks for"),
        (b"\x80\x02c__torch__\nM\n)\x81}X\x05\x00\x00\x00state]sb.", "holds? (named arrays|no module)"),
        (b"\x80\x02c__torch__\nM\n)\x81]b.", "a module must have attributes by name"),
        (b"\x80\x02ctorch\nFloatStorage\n}b.", "tries to change what is not its own"),
        (b"\x80\x02K\x05.", "the archive holds no module"),
        (b"\x80\x02c__torch__\nM\n}b.", "must be whole"),
        (b"", "must be whole"),
    ],
)
def test_everything_else_is_refused(archive, tmp_path, capsys, pickled, message) -> None:
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(changed(archive, tmp_path / "bad.pt", pickled))
    assert "never" not in capsys.readouterr().out


def test_an_archive_without_one_of_its_arrays_is_refused(archive, tmp_path) -> None:
    with pytest.raises(WeightsError, match="must be whole"):
        read_checkpoint(changed(archive, tmp_path / "bad.pt", drop="/data/1"))
