"""The published robust ResNet-50: its checkpoints, its pictures, its names."""

import argparse
import os
from dataclasses import replace

import dill
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from ilo.classifiers import classifier
from ilo.classifiers.classifier import DEVIATION, MEAN, ClassifierError
from ilo.classifiers.resnet import ResNet50
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.morph import morph
from ilo.ui import page, text


class Schedule:
    """An object of a training program that is stored in the checkpoint."""


class Attacked(torch.nn.Module):
    """The module that `robustness` saves: the network, its normaliser, and the attacker with a copy of the network."""

    def __init__(self, net, mean, deviation):
        super().__init__()
        self.normalizer = torch.nn.Module()
        self.normalizer.register_buffer("new_mean", torch.tensor(mean)[:, None, None])
        self.normalizer.register_buffer("new_std", torch.tensor(deviation)[:, None, None])
        self.model = net
        self.attacker = torch.nn.Module()
        self.attacker.normalize, self.attacker.model = self.normalizer, net


def checkpoint(path, classes=1000, entry="model", extra=None, mean=MEAN, deviation=DEVIATION, wrapped=True, **options):
    """Write a checkpoint as `robustness` does after a step of SGD, with dill."""
    torch.manual_seed(0)
    net = resnet50(weights=None, num_classes=classes)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05)
            module.running_var.uniform_(0.8, 1.2)
    sgd = torch.optim.SGD(list(net.fc.parameters()), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(sgd, [30, 60])
    sum(p.sum() for p in net.fc.parameters()).backward()
    sgd.step()
    schedule.step()
    network = torch.nn.Module()
    network.module = Attacked(net, mean, deviation)
    content = {
        entry: (network if wrapped else net).state_dict(),
        "epoch": 90,
        "optimizer": sgd.state_dict(),
        "schedule": schedule.state_dict(),
        "prec1": torch.tensor(0.5),
        **(extra or {}),
    }
    torch.save(content, path, pickle_module=dill, **options)
    return net.eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet50_l2_eps3.ckpt"
    return checkpoint(path), path


def test_it_sees_what_torchvision_sees(published):
    net, path = published
    guide = classifier.load(str(path))
    images = torch.rand(2, 3, 224, 224)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    torch.testing.assert_close(guide(2 * images - 1), net((images - mean) / deviation), rtol=1e-3, atol=1e-3)
    assert [f.shape[1] for f in guide.features(2 * images - 1)] == [256, 512, 1024, 2048]


def test_it_guides_small_pictures(published):
    guide = classifier.load(str(published[1]))
    images = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    guide(images)[0, 30].backward()
    assert (images.grad != 0).float().mean() > 0.9


def test_a_thousand_names(published):
    guide = classifier.load(str(published[1]))
    assert len(set(guide.names)) == 1000
    assert guide.names[guide.index("bullfrog")] == "bullfrog"
    assert guide.index("goldfish") == 1
    assert guide.index("crane bird") == 134


def test_in_the_cache_it_is_one_of_the_pages_classifiers_and_guides_a_morph(published, model, monkeypatch, tmp_path):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    assert list(page._guides()) == ["robust64", "standard64"]
    (tmp_path / "resnet50_l2_eps3.ckpt").symlink_to(published[1])
    guides = page._guides()
    assert list(guides) == list(text.GUIDES) == ["robust64", "standard64", "robust-resnet50"]
    assert (tmp_path / "resnet50_l2_eps3.ckpt.sha256").is_file()  # from now on, files with other hashes are refused
    guide = guides["robust-resnet50"]
    assert guide.name == "robust-resnet50"
    settings = morph_preset(layers=model.layers)
    short = replace(settings, rounds=tuple(replace(plan, steps=1) for plan in settings.rounds[:2]))
    first, *_, last = morph(model, Guidance(guide, {"toilet tissue": 1.0}), short)
    assert last.losses["classifier"][0] <= first.losses["classifier"][0]


@pytest.mark.parametrize("options", [{"entry": "state_dict"}, {"_use_new_zipfile_serialization": False}])
def test_older_files_load(tmp_path, options):
    path = tmp_path / "old.ckpt"
    checkpoint(path, classes=7, **options)
    assert classifier.load(str(path)).names[3] == "class 3"


class Touch:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wrapped": False}, "it has no network under module.model"),
        ({"extra": {"schedule": Touch()}}, "which no network needs; nothing was executed"),
        ({"extra": {"schedule": Schedule()}}, "which no network needs"),
    ],
)
def test_what_is_no_such_checkpoint_says_so(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "strange.ckpt"
    checkpoint(path, classes=3, **options)
    with pytest.raises(ClassifierError, match=words) as caught:
        classifier.load(str(path))
    assert str(caught.value).startswith("strange.ckpt: ")
    assert not (tmp_path / "executed").exists()


def test_what_dill_writes_is_passed_over(tmp_path):
    path = tmp_path / "dill.ckpt"
    extra = {
        "args": argparse.Namespace(lr=0.1),
        "set": {1, 2},
        "frozen": frozenset(["a"]),
        "lambda": eval("lambda epoch: 0.5**epoch", {"__name__": "__main__"}),  # pickled by dill as part of __main__
        "type": dict,
        "scalar": np.float64(0.25),
        "array": np.arange(3.0),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    for zipped in (True, False):
        checkpoint(path, classes=3, extra=extra, _use_new_zipfile_serialization=zipped)
        assert len(classifier.load(str(path)).names) == 3


def test_a_files_own_normaliser_is_used(tmp_path):
    path = tmp_path / "own.ckpt"
    net = checkpoint(path, classes=3, mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.25, 0.3))
    guide = classifier.load(str(path))
    images = torch.rand(2, 3, 224, 224)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    torch.testing.assert_close(guide(2 * images - 1), net((images - mean) / deviation), rtol=1e-4, atol=1e-3)
    checkpoint(path, classes=3, deviation=(0.0, 1.0, 1.0))
    with pytest.raises(ClassifierError, match="its input normalisation divides by 0"):
        classifier.load(str(path))


def test_truncated_files(tmp_path, published):
    whole = published[1].read_bytes()
    path = tmp_path / "cut.ckpt"
    for share in (0, 0.001, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ClassifierError, match=r"^cut\.ckpt: "):
            classifier.load(str(path))


def test_other_shapes(tmp_path):
    path = tmp_path / "narrow.ckpt"
    net = resnet50(weights=None, num_classes=3, width_per_group=128)
    torch.save({"model": {f"module.model.{k}": v for k, v in net.state_dict().items()}}, path)
    with pytest.raises(ClassifierError, match="has shape"):
        classifier.load(str(path))
    assert ResNet50.size == 224
