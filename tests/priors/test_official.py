"""Comparison with pictures that the official programs generated with random weights.

tests/data/official-*.safetensors hold only numbers: a network's state under its program's own names, latents z, and the
picture that the program generated (Python 3.7 and 3.8, torch 1.7 and 1.9, on a CPU), with constant noise maps.
"""

import json

import pytest
import torch
from safetensors import safe_open

from ilo.cli import weightsfile
from ilo.priors.stylegan2 import checkpoint, published
from ilo.priors.stylegan2.checkpoint import Checkpoint, CheckpointError
from ilo.priors.stylegan2.network import Config
from ilo.weights.lazy import ReadError
from tests import published as files

PICTURES = ("z", "w", "image", "image_nonoise", "image_psi06", "latent_avg")


def golden(path):
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        about = file.metadata()
    state = {name: tensor for name, tensor in tensors.items() if name not in PICTURES}
    return state, {name: tensors[name] for name in PICTURES if name in tensors}, about


def official_network(state, about):
    sizes = [4 * 2**k for k in range(int(about["img_resolution"]).bit_length() - 2)]
    channels = {size: state[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes}
    layers = int(about["mapping_layers"])
    width, clamp = int(about["w_dim"]), json.loads(about["conv_clamp"])
    config = Config(width, width, sizes[-1], channels, layers, float(about["mapping_lr_multiplier"]), clamp)
    return checkpoint.build(Checkpoint(config, state, {}), "golden")


def assert_same(found, wanted):
    """Equal within 1e-4, relative to the largest value where activations of 256 give values beyond [−1, 1]."""
    assert (found - wanted).abs().max() <= 1e-4 * max(1.0, wanted.abs().max() / 100)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["ada-clamp256", "sg3-stylegan2-clamp256"])
def test_a_network_pickle_draws_what_its_program_drew(tmp_path, data, name, protocol):
    state, pictures, about = golden(data / f"official-{name}.safetensors")
    path = files.official(tmp_path / "net.pkl", official_network(state, about), protocol)
    made = checkpoint.build(published.read(path), path.name)
    assert made.config.conv_clamp == 256  # stated by its layers, but not by its arguments
    assert_same(made(pictures["z"]), pictures["image"])
    unclamped = checkpoint.build(Checkpoint(Config(**{**vars(made.config), "conv_clamp": None}), state, {}), "golden")
    assert (unclamped(pictures["z"]) - pictures["image"]).abs().max() > 10  # the clamp has an effect


@pytest.mark.parametrize("zipped", [True, False])
def test_a_rosinality_checkpoint_draws_what_its_program_drew(tmp_path, data, zipped):
    state, pictures, _ = golden(data / "official-rosinality.safetensors")
    network = files.as_module(state)
    path = tmp_path / "net.pt"
    content = {"g_ema": network.state_dict(), "latent_avg": pictures["latent_avg"]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    made = checkpoint.build(published.read(path), path.name)
    assert_same(made(pictures["z"]), pictures["image"])
    w = made.mapping(pictures["z"])
    torch.testing.assert_close(w, pictures["w"], rtol=1e-4, atol=1e-5)
    truncated = made.mapping.w_avg + 0.6 * (w - made.mapping.w_avg)
    ws = truncated[:, None].expand(-1, made.config.num_ws, -1)
    assert_same(made.suffix(None, ws, made.noise_const(), 0), pictures["image_psi06"])


def test_a_training_checkpoint_has_no_average_and_gets_the_mapping_networks(tmp_path):
    made = files.generator(16).freeze()
    read = published.read(files.rosinality(tmp_path / "train.pt", made, average=False))
    z = torch.randn(50_000, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(read.tensors["mapping.w_avg"], made.mapping(z).mean(0), rtol=0, atol=0.05)


def test_options_of_the_mapping_network_are_adopted(tmp_path):
    made = files.generator(16, multiplier=0.5).freeze()
    read = published.read(files.official(tmp_path / "net.pkl", made))
    assert read.config == made.config
    read = published.read(files.official(tmp_path / "net.pkl", made, mapping={"w_avg_beta": None}))
    assert read.tensors["mapping.w_avg"].abs().sum() > 0


OPTIONS = {
    "mapping activation": ({"mapping": {"activation": "relu"}}, r"mapping\.fc0 has activation 'relu'"),
    "synthesis activation": ({"synthesis": {"activation": "linear"}}, r"b4\.conv1 has activation 'linear'"),
    "architecture": ({"synthesis": {"architecture": "resnet"}}, r"b4 has architecture 'resnet'"),
    "noise": ({"synthesis": {"use_noise": False}}, r"b4\.conv1 has use_noise False"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_change_the_picture_are_refused(tmp_path, name):
    options, words = OPTIONS[name]
    path = files.official(tmp_path / "net.pkl", files.generator(16), **options)
    with pytest.raises(CheckpointError, match=words):
        published.read(path)


def test_layers_that_differ_are_refused(tmp_path):
    def change(network):
        network.synthesis.b8.conv0.conv_clamp = 7.0
        network.mapping.fc1.bias_gain = 0.5

    path = files.official(tmp_path / "net.pkl", files.generator(16, clamp=256), change=change)
    problems = "; ".join(weightsfile.describe(path).problems)
    assert "its layers differ in conv_clamp" in problems
    assert "its layers differ in bias_gain" in problems


def test_other_filters_are_refused(tmp_path):
    made = files.generator(16)
    kernel = torch.outer(torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 2, 3, 4])) / 100
    with pytest.raises(CheckpointError, match=r"'convs\.0\.conv\.blur\.kernel': it is a filter other"):
        published.read(files.rosinality(tmp_path / "blur.pt", made, kernel=4 * kernel))
    made.synthesis.b8.conv0.resample_filter.copy_(kernel)
    with pytest.raises(CheckpointError, match=r"b8\.conv0 resamples with a filter other than \[1, 3, 3, 1\]"):
        published.read(files.official(tmp_path / "net.pkl", made))


def test_a_multiplier_that_the_file_does_not_say_is_noticed(tmp_path):
    made = files.generator(16, multiplier=0.1)
    with pytest.raises(CheckpointError, match=r"a learning rate multiplier other than 0\.01"):
        published.read(files.rosinality(tmp_path / "net.pt", made))


def test_other_programs_networks_are_named(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00.")
    with pytest.raises(ReadError, match=r"NVIDIA's TensorFlow programs; convert it with legacy\.py"):
        weightsfile.describe(path)

    def change(network):
        network.synthesis.add_module("L0_36_512", torch.nn.Module())
        network.synthesis.L0_36_512.__class__ = type(network.synthesis.b4)

    with pytest.raises(ReadError, match="its network is a StyleGAN3; only StyleGAN2"):
        weightsfile.describe(files.official(tmp_path / "new.pkl", files.generator(16), change=change))
