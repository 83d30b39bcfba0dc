"""Comparison of the network with an independent implementation on the same weights."""

import pytest
import torch
from safetensors.torch import load_file

from ilo.priors.stylegan2 import ops
from ilo.priors.stylegan2.network import Features, Generator


@pytest.fixture(scope="module")
def golden(data):
    return load_file(data / "faces64-golden.safetensors")


@pytest.fixture(scope="module")
def generator(golden_model):
    return golden_model.generator


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_mapping_matches(generator, golden):
    ws = generator.mapping(golden["z"])
    close(ws[:, None].expand(-1, 10, -1), golden["ws"])


@pytest.mark.parametrize("noise", ["const", "none"])
def test_images_match(generator, golden, noise):
    maps = generator.noise_const() if noise == "const" else [None] * 9
    close(generator(golden["z"], maps), golden[f"image_{noise}"])


def test_one_latent_per_style_input_matches(generator, golden):
    close(generator.suffix(None, golden["ws_plus"], generator.noise_const(), 0), golden["image_ws_plus_const"])


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_split_matches_at_every_layer(generator, golden, layer):
    ws, noise = golden["ws_plus"], generator.noise_const()
    state = generator.prefix(ws, noise, layer)
    size = 4 * 2 ** (layer - 1)
    close(state.x, golden[f"ws_plus_features_after_b{size}"])
    close(state.rgb, golden[f"ws_plus_rgb_after_b{size}"])
    stored = Features(golden[f"ws_plus_features_after_b{size}"], golden[f"ws_plus_rgb_after_b{size}"])
    close(generator.suffix(stored, ws, noise, layer), golden["image_ws_plus_const"])


def test_suffix_reads_only_its_own_latents_and_noise(generator, golden):
    ws, noise = golden["ws_plus"], generator.noise_const()
    state = generator.prefix(ws, noise, 2)
    other = ws.clone()
    other[:, :3] = 7.0
    expected = generator.suffix(state, ws, noise, 2)
    torch.testing.assert_close(generator.suffix(state, other, [None] * 3 + noise[3:], 2), expected)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
def test_frozen_layer_has_the_values_and_gradients_of_the_plain_one(up, noisy):
    kernel = ops.binomial_filter([1, 3, 3, 1]).double() if up else None
    weight, bias, gain = torch.randn(6, 5, 3, 3).double(), torch.randn(6).double(), 0.2
    weights = ops.freeze_layer(weight, bias, gain, kernel, torch.float64)
    x = torch.randn(2, 5, 8, 8).double().requires_grad_()
    style = torch.randn(2, 5).double().requires_grad_()
    size = 16 if up else 8
    noise = torch.randn(2, 1, size, size).double().requires_grad_() if noisy else None
    inputs = [x, style, *([noise] if noisy else [])]
    plain = ops.modulated_layer(x, weight, style, gain, kernel, noise, bias)
    frozen = ops.frozen_layer(x, style, noise, weights)
    torch.testing.assert_close(frozen, plain)
    direction = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * direction).sum(), inputs)
    for got, want in zip(torch.autograd.grad((frozen * direction).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)  # the sums pass through float32


def test_frozen_and_trainable_networks_agree(generator, golden):
    trainable = Generator(generator.config)
    trainable.load_state_dict(generator.state_dict())
    close(trainable(golden["z"]), golden["image_const"])
    trainable(golden["z"]).sum().backward()
    assert all(p.grad is not None for p in trainable.parameters())


def test_upsampling_as_a_matrix():
    kernel, x = ops.binomial_filter([1, 3, 3, 1]), torch.randn(2, 3, 8, 8)
    matrix = ops.upsampling_matrix(kernel, 8)
    torch.testing.assert_close(matrix @ x @ matrix.t(), ops.upsample(x, kernel))
