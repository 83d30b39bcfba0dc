"""Gaussianised W: agreement with the mapping network, and caching."""

import pytest
import torch
import torch.nn.functional as F

from ilo.priors.stylegan2 import latents


def moments(w):
    x = F.leaky_relu(w, 5.0)
    return x.mean(0), x.t().cov()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_samples_have_the_moments_of_the_mapping_network(model, covariance):
    z = torch.randn(20_000, 256)
    mean, cov = moments(model.generator.mapping(z))
    got_mean, got_cov = moments(model.latents(z[:, None], covariance)[:, 0])
    spread = cov.diagonal().sqrt().mean()
    assert (got_mean - mean).abs().max() < 0.06 * spread
    assert (got_cov.diagonal() / cov.diagonal() - 1).abs().max() < 0.1
    off = (got_cov - cov).norm() / cov.norm()
    assert off < 0.1 if covariance == "full" else off > 0.3


def test_fit_is_deterministic(generator):
    a, b = latents.fit(generator, 2000), latents.fit(generator, 2000)
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(a.factor, b.factor)


def test_cache_is_written_read_and_not_mixed_up(generator, tmp_path, monkeypatch):
    path = tmp_path / "latents.safetensors"
    first = latents.cached(generator, path)
    monkeypatch.setattr(latents, "fit", lambda g: pytest.fail("fitted again"))
    assert torch.equal(latents.cached(generator, path).factor, first.factor)
    monkeypatch.setattr(latents, "_fingerprint", lambda g: torch.zeros(3))
    with pytest.raises(pytest.fail.Exception):
        latents.cached(generator, path)


def test_unwritable_place_or_broken_cache_does_no_harm(generator, tmp_path):
    broken = tmp_path / "latents.safetensors"
    broken.write_bytes(b"nothing")
    assert latents.cached(generator, broken).mean.shape == (256,)
    assert latents.cached(generator, tmp_path / "absent" / "x.safetensors").mean.shape == (256,)
