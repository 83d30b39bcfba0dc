"""The registry, and the commands that download, list, verify and remove its models."""

import hashlib
from dataclasses import replace

import pytest

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ClassifierError
from ilo.cli.main import main
from ilo.priors import load as models
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.weights import cache, download, registry
from ilo.weights.registry import Entry, Hub, Url

CONTENT = b"0123456789" * 310_000


def test_the_registry_is_sound():
    assert len(registry.BY_ID) == len(registry.ENTRIES)
    for entry in registry.ENTRIES:
        assert entry.terms
        assert "\n" not in entry.terms
        assert (entry.kind in ("generator", "classifier")) == (entry.resolution is not None)
        if entry.kind == "generator":
            assert entry.alignment in ("ffhq", "file")
        if not isinstance(entry.source, registry.Embedded):
            assert entry.source.address.startswith("https://")
    hubs = [e.source for e in registry.ENTRIES if isinstance(e.source, Hub)]
    assert all(len(s.revision) == 40 or s.file == registry.YUNET_FILE for s in hubs)
    assert registry.BY_ID["yunet"].size == 232_589


def test_the_embedded_files_are_the_registered_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    for entry in registry.ENTRIES:
        if isinstance(entry.source, registry.Embedded):
            assert download.verify(entry) == entry.sha256
    assert not any(tmp_path.iterdir())


def test_the_detector_of_the_tests_is_the_registered_one(root):
    path = root.parent / "shared" / "models" / registry.YUNET_FILE
    assert cache.sha256(path) == registry.BY_ID["yunet"].sha256


def test_the_command_line(served, monkeypatch, capsys):
    folder, address = served
    (folder / "thing.bin").write_bytes(CONTENT)
    entry = Entry("thing", "generator", "A thing", "thing.bin", Url(f"{address}/thing.bin"), "free for all", 64)
    monkeypatch.setattr(registry, "ENTRIES", (entry,))
    monkeypatch.setattr(registry, "BY_ID", {"thing": entry})
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "A thing. Not downloaded" in shown
    assert "free for all" in shown
    assert main(["models", "fetch", "thing"]) == 0
    assert f"thing is ready: {entry.path}" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert "Downloaded, 3.1 MB" in capsys.readouterr().out
    assert main(["models", "verify"]) == 0
    assert hashlib.sha256(CONTENT).hexdigest() in capsys.readouterr().out
    entry.path.write_bytes(b"damaged")
    assert main(["models", "verify", "thing"]) == 1
    assert "not the expected file" in capsys.readouterr().err
    assert main(["models", "remove", "thing"]) == 0
    assert "thing.bin removed" in capsys.readouterr().out
    entry = replace(entry, source=Url(f"{address}/other.bin"))
    monkeypatch.setattr(registry, "BY_ID", {"thing": entry})
    assert main(["models", "fetch", "thing"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "ilo: thing could not be downloaded: 127.0.0.1 answered 404" in lines[-1]
    assert main(["models", "fetch", "nothing"]) == 2
    assert "There is no model 'nothing'; the known models are thing" in capsys.readouterr().err
    assert main(["models", "verify", "thing"]) == 2


def test_a_known_model_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"models fetch ffhq-1024$"):
        models.load("ffhq-1024")
    with pytest.raises(ClassifierError, match=r"models fetch robust-resnet50$"):
        classifier.load("robust-resnet50")
