"""The layers, the geodesic term and the step in few operations, as GPUs compute them, run on the CPU here."""

import copy

import pytest
import torch

from benchmarks import launches
from ilo import objective, preset
from ilo.perceptual.classifier_features import robust_features

MOST = 400  # operations of a step; on the CPU, with Newton's method for the balls, a step has about 2,600


@pytest.fixture(scope="module")
def pair(double_model):
    """The generator in float64 as on the CPU, and as on a GPU, with noise that counts."""
    usual = copy.deepcopy(double_model.generator)
    for name, value in usual.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            value.data += 0.1
    usual.freeze(torch.float64)
    return usual, copy.deepcopy(usual).freeze(torch.float64, few_launches=True)


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("noisy", [True, False])
def test_lean_layers_give_the_same_picture_and_gradients(pair, layer, noisy):
    config = pair[0].config
    torch.manual_seed(3)
    ws = torch.randn(2, config.num_ws, config.w_dim, dtype=torch.float64)
    noise = [torch.randn(2, 1, size, size, dtype=torch.float64) for size in config.noise_sizes]
    state = pair[0].prefix(ws, noise, layer) if layer else None
    weight = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    found = []
    for generator in pair:
        moved = [ws.clone().requires_grad_(), *(n.clone().requires_grad_() for n in noise)]
        inputs = None if state is None else type(state)(state.x.detach().clone().requires_grad_(), state.rgb.detach())
        given = moved[1:] if noisy else [None] * len(noise)
        image = generator.suffix(inputs, moved[0], given, layer)
        (image * weight).sum().backward()
        found.append([image.detach(), *(m.grad for m in moved), None if inputs is None else inputs.x.grad])
    for usual, lean in zip(*found, strict=True):
        assert (usual is None) == (lean is None)
        if usual is not None:
            torch.testing.assert_close(lean, usual, rtol=1e-9, atol=1e-9 * float(usual.abs().max()))


@pytest.mark.parametrize("count", [2, 7, 10])
def test_the_geodesic_term_in_few_operations(count):
    z = torch.randn(3, count, 256, dtype=torch.float64) * torch.linspace(0.5, 2, count)[:, None].double()
    found = []
    for function in (objective.geodesic, objective._Geodesic.apply):
        moved = z.clone().requires_grad_()
        value = function(moved)
        (value * torch.tensor([1.0, 2.0, 3.0]).double()).sum().backward()
        found.append((value.detach(), moved.grad))
    torch.testing.assert_close(found[1], found[0])


def test_equal_latents_have_no_spread_and_a_finite_gradient():
    z = torch.randn(1, 1, 8).repeat(1, 3, 1).requires_grad_()
    value = objective._Geodesic.apply(z)
    value.sum().backward()
    assert value.item() < 1e-10
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("task", ["random-inpaint"])
def test_a_step_of_every_round_takes_few_launches(model, task):
    for search in launches.rounds(model, preset("Quick"), task, None):
        counted = launches.count(search)
        assert 100 < counted.counts.total() <= MOST, counted.counts


def test_the_perceptual_distance_is_what_takes_more(model):
    search = next(iter(launches.rounds(model, preset("Quick"), "inpaint", robust_features())))
    counts = launches.count(search).counts
    assert counts["forward"] + counts["backward"] > MOST
    assert counts["balls"] + counts["keeping"] + counts["Adam"] < 100
