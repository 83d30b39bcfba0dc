"""The loss that pulls generated features towards the data's mean and covariance."""

import pytest
import torch

from training.evaluate_generator import frechet_distance
from training.moments import Moments, Transport, transport


def gaussian(count, size, seed):
    """Vectors with a random mean and covariance without very small variances."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, generator=rng)
    return x @ torch.randn(size, size, generator=rng) + torch.randn(count, size, generator=rng) + x.new_tensor(seed)


def test_running_moments_are_those_of_what_was_seen_lately():
    moments, x = Moments(3, images=1e9), gaussian(400, 3, 0)
    for part in x.split(100):
        moments.observe(part)
    torch.testing.assert_close(moments.mean, x.mean(0))
    torch.testing.assert_close(moments.covariance().float(), x.t().cov(correction=0), rtol=1e-3, atol=1e-3)
    forgetful = Moments(3, images=20)
    for part in torch.cat([x + 50, x]).split(10):
        forgetful.observe(part)
    assert (forgetful.mean - x.mean(0)).abs().max() < 1.5


def test_the_transport_carries_one_covariance_to_the_other():
    a, b = (gaussian(200, 6, seed).double().t().cov() for seed in (1, 2))
    matrix = transport(a, b)
    torch.testing.assert_close(matrix @ a @ matrix, b)
    torch.testing.assert_close(matrix, matrix.t())


def test_its_gradient_is_that_of_the_frechet_distance():
    fake, real = gaussian(2000, 5, 3).double().requires_grad_(True), gaussian(2000, 5, 4).double()
    pull = Transport(5, images=1e9, every=1, begin=1).double()
    (gradient,) = torch.autograd.grad(pull(fake, real), fake)
    step, x = 1e-3, fake.detach()
    along = gradient.sign() * torch.rand_like(gradient)  # a direction of ascent
    rise = (frechet_distance(x + step * along, real) - frechet_distance(x - step * along, real)) / (2 * step)
    assert float((gradient * along).sum()) == pytest.approx(rise, rel=0.01)


def test_it_waits_until_it_has_seen_enough():
    fake, real = gaussian(8, 5, 3).requires_grad_(True), gaussian(8, 5, 4)
    pull = Transport(5, images=100, every=1, begin=30)
    losses = [pull(fake, real).item() for _ in range(5)]
    assert losses[0] == 0
    assert losses[-1] > 0
