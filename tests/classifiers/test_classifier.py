"""Classifiers: their files, their names, their gradients."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ClassifierError, ResidualNetwork, Shape
from ilo.settings import SettingsError
from ilo.weights import registry


def test_what_is_saved_is_loaded(guide):
    torch.manual_seed(7)
    network = ResidualNetwork(Shape(4, (8, 12), (1, 1), 32)).eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(guide(images), network(images), rtol=0, atol=2e-3)  # float16 in between
    assert guide.names == ("bullfrog", "goldfish", "brain coral", "tailed frog")
    assert guide.about["licence"] == "none"
    assert not any(p.requires_grad for p in guide.parameters())


@pytest.mark.parametrize("size", [16, 32, 64, 100])
def test_pictures_of_any_size_have_gradients_everywhere(guide, size):
    images = (torch.rand(2, 3, size, size) * 4 - 2).requires_grad_(True)  # half of it beyond [−1, 1]
    guide(images).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.99


def test_what_lies_beyond_the_limits_is_seen_as_it_is_shown(guide):
    images = torch.rand(1, 3, 32, 32) * 4 - 2
    torch.testing.assert_close(guide(images), guide(images.clamp(-1, 1)))


def test_features_come_from_every_stage(guide):
    assert [tuple(f.shape) for f in guide.features(torch.zeros(2, 3, 64, 64))] == [(2, 8, 16, 16), (2, 12, 8, 8)]


@pytest.mark.parametrize("name", ["bullfrog", "  BullFrog ", "rana catesbeiana", "n1"])
def test_classes_have_many_names(guide, name):
    assert guide.index(name) == 0


def test_an_unknown_class_gets_the_nearest_names(guide):
    with pytest.raises(SettingsError, match="no class 'bullfrogs'; the nearest are bullfrog, "):
        guide.index("bullfrogs")


def test_top_is_sorted(guide):
    for found in guide.top(torch.rand(2, 3, 64, 64), 3):
        assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
        assert len(found) == 3


def changed(path, tmp_path, tensors=None, **about):
    """Copy a classifier's file with changed tensors or metadata."""
    with safe_open(path, "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        text = json.loads(file.metadata()["about"])
    copy = tmp_path / "changed.safetensors"
    save_file({**kept, **(tensors or {})}, copy, {"about": json.dumps({**text, **about})})
    return str(copy)


def test_files_that_cannot_be_used(classifier_file, tmp_path):
    with pytest.raises(ClassifierError, match="no such weights file"):
        classifier.load(str(tmp_path / "none.safetensors"))
    with pytest.raises(ClassifierError, match="no classifier 'frogs'"):
        classifier.load("frogs")
    data = classifier_file.read_bytes()
    for length in (0, 5, 100, len(data) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(data[:length])
        with pytest.raises(ClassifierError, match=r"cut\.safetensors: it (is empty|ends too early)"):
            classifier.load(str(cut))
    with pytest.raises(ClassifierError, match="names 3 classes and has 4 outputs"):
        classifier.load(changed(classifier_file, tmp_path, classes=[["n1", "a"], ["n2", "b"], ["n3", "c"]]))
    with pytest.raises(ClassifierError, match="does not describe a classifier"):
        classifier.load(changed(classifier_file, tmp_path, shape={"classes": 4}))
    endless = {"classes": 4, "widths": [8, 8], "blocks": [1, 4096], "size": 32}
    with pytest.raises(ClassifierError, match="does not describe a classifier"):
        classifier.load(changed(classifier_file, tmp_path, shape=endless))
    with pytest.raises(ClassifierError, match="'more' does not belong to the network"):
        classifier.load(changed(classifier_file, tmp_path, {"more": torch.zeros(1)}))
    with pytest.raises(ClassifierError, match=r"head\.bias holds values that are not finite"):
        classifier.load(changed(classifier_file, tmp_path, {"head.bias": torch.full([4], torch.nan)}))
    with pytest.raises(ClassifierError, match=r"head.weight has shape \[4, 13\]"):
        classifier.load(changed(classifier_file, tmp_path, {"head.weight": torch.zeros(4, 13)}))


def test_folding_changes_nothing():
    torch.manual_seed(5)
    network = ResidualNetwork(Shape(4, (8, 12), (1, 2), 32))
    network(torch.randn(16, 3, 32, 32))  # running means and variances that are not 0 and 1
    network.eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(copy.deepcopy(network).fold()(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", classifier.EMBEDDED)
def test_embedded_ones_are_described(name):
    about = classifier.load(name).about
    assert about["accuracy"]["pictures"] == 5000
    assert "non-commercial" in about["licence"]
    assert registry.BY_ID[name].path.stat().st_size <= 6e6
