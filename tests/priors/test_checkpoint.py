"""Weights files: valid ones load, and broken ones give a helpful message."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ilo.priors.load import load
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.weights.registry import ASSETS

SMALL = {"z_dim": 8, "w_dim": 8, "img_resolution": 8, "channels": {"4": 4, "8": 4}}
SMALL |= {"mapping_layers": 2, "mapping_lr_multiplier": 0.01}


def small_tensors():
    from ilo.priors.stylegan2.network import Config, Generator

    config = Config(8, 8, 8, {4: 4, 8: 4}, mapping_layers=2)
    return {k: v.contiguous() for k, v in Generator(config).state_dict().items()}


def write(path, tensors=None, config=SMALL):
    save_file(small_tensors() if tensors is None else tensors, path, metadata={"config": json.dumps(config)})
    return str(path)


def test_a_file_of_another_size_loads(tmp_path):
    model = load(write(tmp_path / "tiny.safetensors"))
    assert model.id == "tiny"
    assert model.resolution == 8
    assert model.generator(torch.randn(2, 8)).shape == (2, 3, 8, 8)


def test_embedded_model_says_what_it_is(model):
    assert model.id == "faces64"
    assert model.alignment["eye_left"] == [0.294, 0.286]
    assert "research" in model.about["licence"]
    assert len(model.sha256) == 64


def wrong_shape(path):
    tensors = small_tensors()
    tensors["synthesis.b4.const"] = torch.zeros(5, 4, 4)
    return write(path, tensors)


def not_finite(path):
    tensors = small_tensors()
    tensors["synthesis.b4.const"] = torch.full((4, 4, 4), torch.nan)
    return write(path, tensors)


def one_missing(path):
    tensors = small_tensors()
    del tensors["mapping.w_avg"]
    return write(path, tensors)


def truncated(path):
    path.write_bytes((ASSETS / "faces64.safetensors").read_bytes()[:100_000])
    return str(path)


def other_network(path):
    save_file({"layer.weight": torch.zeros(3)}, path)
    return str(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: str(path), "no such weights file"),
        (truncated, "it ends too early; copy or fetch it again"),
        (other_network, "no StyleGAN2 configuration"),
        (wrong_shape, "const has shape [5, 4, 4]"),
        (not_finite, "not finite"),
        (one_missing, "mapping.w_avg is missing"),
        (lambda path: write(path, config=SMALL | {"channels": {"4": 4, "16": 4}}), "its blocks are"),
        (
            lambda path: write(path, config=SMALL | {"z_dim": 10**9}),
            "z_dim is 1000000000; allowed is a whole number from 1 to 4096",
        ),
        (lambda path: write(path, config={"z_dim": 8}), "no StyleGAN2 configuration"),
        (lambda path: "faces65", "Known are faces64"),
    ],
)
def test_broken_files_get_a_sentence(tmp_path, make, words):
    path = tmp_path / "broken.safetensors"
    with pytest.raises(CheckpointError, match=words.replace("[", r"\[")) as error:
        load(make(path))
    assert "broken" in str(error.value) or "faces65" in str(error.value)


PEAK = """
import resource, sys
from ilo.priors.load import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load(sys.argv[1])
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_small_file_that_claims_a_huge_network_takes_no_memory(tmp_path):
    channels = {str(4 * 2**k): 4096 for k in range(3)}
    path = write(tmp_path / "huge.safetensors", config=SMALL | {"channels": channels, "img_resolution": 16})
    made = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert "synthesis.b16.resample_filter is missing" in made.stdout
    assert int(made.stdout.split()[-1]) < 200e6  # a single convolution of that network has 600 MB


def test_official_names(root):
    names = load_file(root / "assets" / "faces64.safetensors")
    assert {"mapping.fc0.weight", "synthesis.b8.conv0.affine.weight", "synthesis.b64.torgb.bias"} <= set(names)
