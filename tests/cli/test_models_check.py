"""`python -m ilo models check FILE`: the kind of a file, its use, and every reason why it cannot be used."""

import pytest
import torch

from ilo.cli import weightsfile
from ilo.cli.main import main
from ilo.text.words import shown
from ilo.weights.lazy import LazyTensor
from ilo.weights.registry import ASSETS
from tests import published as files


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Fails the test if a tensor larger than a filter is read."""
    read = LazyTensor.read

    def refuse(self):
        assert self.size <= 2048, f"{self.shape} was read"
        return read(self)

    monkeypatch.setattr(LazyTensor, "read", refuse)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (files.official, "is a network pickle of NVIDIA's StyleGAN2 programs"),
        (files.rosinality, "is a checkpoint of rosinality's StyleGAN2"),
    ],
)
def test_what_can_be_used(write, words, tmp_path, capsys, nothing_is_read):
    suffix = ".pkl" if write is files.official else ".pt"
    path = write(tmp_path / f"net{suffix}", files.generator(64))
    assert main(["models", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert words in out
    assert "It can be used as a generator of 64 × 64 pixels: z 16, w 16, 2 mapping layers" in out


@pytest.mark.parametrize(("name", "role"), [("faces64", "a generator of 64 × 64"), ("robust64", "a classifier of 100")])
def test_the_studios_own_files(name, role, capsys, nothing_is_read):
    assert main(["models", "check", str(ASSETS / f"{name}.safetensors")]) == 0
    assert f"It can be used as {role}" in capsys.readouterr().out


def test_every_reason_is_said(tmp_path, capsys):
    options = {"mapping": {"activation": "relu"}, "synthesis": {"activation": "linear"}}
    path = files.official(tmp_path / "net.pkl", files.generator(8), **options)
    assert main(["models", "check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "It would be a generator of 8 × 8 pixels" in lines[1]
    reasons = [line for line in lines if line.startswith("It cannot be used: ")]
    assert len(reasons) == 2 + 3 * 2  # two layers of the mapping; activation and gain of three convolutions


def test_what_is_no_network(tmp_path, capsys):
    path = tmp_path / "net.pt"
    torch.save({"weights": torch.zeros(3)}, path)
    assert main(["models", "check", str(path)]) == 1
    assert "net.pt cannot be used: it has no network under module.model" in capsys.readouterr().out
    assert main(["models", "check", str(tmp_path / "none.pt")]) == 2
    assert "There is no file" in capsys.readouterr().err
    other = tmp_path / "photo.png"
    other.write_bytes(b"png")
    assert main(["models", "check", str(other)]) == 1
    assert "its name does not end in" in capsys.readouterr().out


def test_a_file_that_shrinks_is_an_error_and_no_crash(tmp_path):
    path = files.rosinality(tmp_path / "net.pt", files.generator(16))
    found = weightsfile.describe(path)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="became shorter"):
        found.weights()


def test_values_from_files_are_shortened():
    assert shown("a\x1b[31m\nb") == r"'a\x1b[31m\nb'"
    assert len(shown("x" * 10_000_000)) <= 82
    assert len(shown([["x" * 1000] * 1000] * 1000)) <= 82
    assert shown(3.5) == "3.5"
