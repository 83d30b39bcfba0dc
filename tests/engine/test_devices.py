"""Choosing the device: by name, by itself, and what is said when a GPU cannot be used."""

import pytest
import torch

from ilo.engine import devices
from ilo.settings import SettingsError

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)"


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)


def broken(monkeypatch, message=OLD_DRIVER):
    monkeypatch.setattr(devices, "failure", lambda name: None if name == "cpu" else message)


def test_the_cpu_works():
    chosen = devices.choose("cpu")
    assert chosen.device == torch.device("cpu")
    assert chosen.note == ""
    assert "CPU core" in chosen.name


def test_auto_takes_a_gpu_that_works(monkeypatch):
    monkeypatch.setattr(devices, "failure", lambda name: None)
    assert devices.choose().device == torch.device("cuda:0")
    assert devices.choose("auto") == devices.choose(None)


def test_auto_says_why_a_gpu_is_not_used(monkeypatch, tmp_path):
    broken(monkeypatch)
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    chosen = devices.choose("auto")
    assert chosen.device == torch.device("cpu")
    assert chosen.note == f"A GPU is here, but it cannot be used ({OLD_DRIVER}); using the CPU."


def test_auto_is_silent_without_a_gpu(monkeypatch, tmp_path):
    broken(monkeypatch, "Found no NVIDIA driver on your system")
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "none")
    assert devices.choose("auto") == devices.Choice(torch.device("cpu"))


def test_the_environment_names_the_device(monkeypatch):
    broken(monkeypatch)
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.choose().device == torch.device("cpu")
    monkeypatch.setenv(devices.VARIABLE, "cuda")
    with pytest.raises(SettingsError, match="too old"):
        devices.choose()
    assert devices.choose("cpu").device == torch.device("cpu")  # an option wins


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA", "cuda:9999", "\x1b[31m"])
def test_unknown_names(name):
    with pytest.raises(SettingsError, match="allowed are auto, cpu, cuda, cuda:N and mps") as error:
        devices.choose(name)
    assert str(error.value).isprintable()


def test_a_gpu_that_is_not_there():
    with pytest.raises(SettingsError, match=r"The device cuda:99 cannot be used \(.+\); this machine has cpu") as error:
        devices.choose("cuda:99")
    assert "\n" not in str(error.value)


def test_wrong_values_are_a_failure(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda x, kernel: x)
    assert devices.failure("cpu") == "it computes wrong values"
