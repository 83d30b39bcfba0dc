"""The l1 projection compared with a float64 sorting oracle, and the sphere projection."""

import math

import numpy as np
import pytest
import torch

from ilo.projection import l1_norm, project_l1, project_l1_newton, project_l1_sorting, project_sphere


def oracle(x, radius):
    """Duchi et al. 2008, Figure 1, in float64."""
    x = np.asarray(x, dtype=np.float64)
    if math.isinf(radius) or np.abs(x).sum() <= radius:
        return x
    if radius == 0:
        return np.zeros_like(x)
    u = np.sort(np.abs(x))[::-1]
    theta = (np.cumsum(u) - radius) / np.arange(1, len(u) + 1)
    tau = theta[np.nonzero(u > theta)[0][-1]]
    return np.sign(x) * np.maximum(np.abs(x) - tau, 0)


def samples(n):
    yield "normal", torch.randn(n)
    yield "heavy tail", torch.randn(n) / torch.rand(n).clamp_min(1e-4)
    yield "harmonic", 1 / torch.arange(1, n + 1).float()
    yield "geometric", 0.5 ** torch.arange(n).float().clamp_max(120)
    yield "equal", torch.full((n,), 0.3)
    yield "one large", torch.cat([torch.tensor([50.0]), torch.full((n - 1,), 1e-3)])
    yield "zeros", torch.zeros(n)


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 32768, 1_000_000])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.01, 0.3, 0.999, 1.5, math.inf])
def test_matches_the_sorting_oracle(n, share):
    for name, x in samples(n):
        radius = share * float(x.abs().sum()) if math.isfinite(share) else share
        radius = 0.0 if math.isnan(radius) else radius
        got = project_l1(x[None], radius)[0]
        limit = 1e-5 * float(x.abs().max())
        assert np.abs(got.numpy() - oracle(x, radius)).max() <= limit, name
        assert float(got.double().abs().sum()) <= radius * (1 + 1e-5), name


def test_each_sample_has_its_own_ball():
    x = torch.randn(4, 3, 5, 5) * torch.tensor([0.001, 1.0, 5.0, 100.0]).view(4, 1, 1, 1)
    radii = torch.tensor([1.0, 2.0, math.inf, 0.0])
    together = project_l1(x, radii)
    for b in range(4):
        torch.testing.assert_close(together[b : b + 1], project_l1(x[b : b + 1], float(radii[b])))
    assert torch.equal(together[0], x[0])
    assert torch.equal(together[2], x[2])
    assert not together[3].any()


@pytest.mark.parametrize("n", [1, 7, 1000, 500_000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999, 1.0, 1.5, math.inf])
def test_sorting_as_on_a_gpu_equals_newton(n, share):
    for name, x in samples(n):
        radius = share * float(x.abs().sum()) if math.isfinite(share) else share
        radius = 0.0 if math.isnan(radius) else radius
        got, expected = project_l1_sorting(x[None], radius), project_l1_newton(x[None], radius)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * float(x.abs().max()), msg=name)
        assert float(got.abs().sum(dtype=torch.float64)) <= radius * (1 + 1e-6), name


def test_sorting_with_a_ball_for_each_sample():
    x = torch.randn(5, 3, 5, 5) * torch.tensor([0.001, 1.0, 5.0, 100.0, 0.0]).view(5, 1, 1, 1)
    radii = torch.tensor([1.0, 2.0, math.inf, 0.0, 0.0])
    together = project_l1_sorting(x, radii)
    torch.testing.assert_close(together, project_l1_newton(x, radii), rtol=1e-6, atol=1e-6)
    assert torch.equal(together[0], x[0])
    assert torch.equal(together[2], x[2])
    assert not together[3:].any()


def test_sorting_with_ties():
    x = torch.tensor([[3.0, -3.0, 3.0, 1.0, -1.0, 1.0]])
    torch.testing.assert_close(project_l1_sorting(x, 6.0), torch.tensor([[2.0, -2.0, 2.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(project_l1_sorting(x, 9.0), torch.tensor([[2.5, -2.5, 2.5, 0.5, -0.5, 0.5]]))


def test_l1_norm_is_per_sample():
    torch.testing.assert_close(l1_norm(torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])), torch.tensor([3.0, 0.5]))


def test_sphere_restores_the_norm():
    x, start = torch.randn(2, 10, 16), torch.randn(2, 10, 16)
    norm = start.norm(dim=2, keepdim=True)
    moved = project_sphere(x, norm, (2,))
    torch.testing.assert_close(moved.norm(dim=2, keepdim=True), norm)
    torch.testing.assert_close(torch.cosine_similarity(moved, x, dim=2), torch.ones(2, 10))
    assert not project_sphere(torch.zeros(1, 2, 3), torch.ones(1, 2, 1), (2,)).any()
