"""Gaussianised W (Menon et al. 2020, PULSE §3.3): latents z ~ N(0, I) whose w resemble the mapping network's.

The mapping network ends in a leaky ReLU of slope 0.2. Its inverse, a leaky ReLU of slope 5, makes the outputs nearly
Gaussian; their mean μ and a factor L of their covariance then give w = LeakyReLU_0.2(L z + μ).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ilo.priors.stylegan2.network import Generator
from ilo.priors.stylegan2.ops import SLOPE
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.safefile import read_header

SAMPLES = 100_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GaussianW:
    """Mean and covariance factors of the mapping network's pre-activations."""

    mean: Tensor  # [D]
    factor: Tensor  # [D, D] lower triangular, Cholesky factor of the covariance

    def __call__(self, z: Tensor, covariance: str = "diagonal") -> Tensor:
        """Map z [B, S, D] ~ N(0, I) to w [B, S, D].

        `covariance`: "diagonal" uses only the standard deviations, as PULSE does; "full" uses L.
        """
        # The norm of row i of L is the standard deviation of coordinate i.
        spread = z @ self.factor.t() if covariance == "full" else z * self.factor.norm(dim=1)
        return F.leaky_relu(spread + self.mean, SLOPE)

    def inverse(self, w: Tensor, covariance: str = "diagonal") -> Tensor:
        """The z [B, D] that maps to a given w [B, D]."""
        spread = F.leaky_relu(w, 1 / SLOPE) - self.mean
        if covariance == "full":
            return torch.linalg.solve_triangular(self.factor, spread.t(), upper=False).t()
        return spread / self.factor.norm(dim=1)

    def to(self, device: torch.device) -> GaussianW:
        return GaussianW(self.mean.to(device), self.factor.to(device))


@torch.no_grad()
def fit(generator: Generator, samples: int = SAMPLES) -> GaussianW:
    """Fit to `samples` outputs of the mapping network. Deterministic: the z use a fixed seed.

    Raises:
        ValueError: the mapping network's outputs are all the same, or not finite.
    """
    dim = generator.config.w_dim
    rng = torch.Generator().manual_seed(0)
    total, products = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    for start in range(0, samples, 10_000):
        z = torch.randn(min(10_000, samples - start), generator.config.z_dim, generator=rng)
        x = F.leaky_relu(generator.mapping(z.to(generator.device)), 1 / SLOPE).double().cpu()
        total += x.sum(0)
        products += x.t() @ x
    mean = total / samples
    covariance = products / samples - torch.outer(mean, mean)
    jitter = 1e-6 * covariance.diagonal().mean() * torch.eye(dim, dtype=torch.float64)  # W may have low rank
    factor, failed = torch.linalg.cholesky_ex(covariance + jitter)
    if failed or not factor.isfinite().all() or not factor.float().diagonal().min() > 0:
        raise ValueError("its mapping network gives the same w for every z, or none that is a finite number")
    return GaussianW(mean.float(), factor.float().contiguous())


def cached(generator: Generator, path: Path) -> GaussianW:
    """Load the fit at `path`; if it is missing or of another network, fit and, if possible, store it."""
    fingerprint = _fingerprint(generator)
    stored = _stored(path, generator.config.w_dim, fingerprint)
    if stored is not None:
        return stored
    latents = fit(generator)
    try:
        save_file({"mean": latents.mean, "factor": latents.factor, "fingerprint": fingerprint}, path)
    except (OSError, SafetensorError) as error:
        logger.info("The fit of the latents could not be stored (%s).", error)
    return latents


def _stored(path: Path, dim: int, fingerprint: Tensor) -> GaussianW | None:
    """The fit in a file, or None if it is not of this network."""
    wanted = {"mean": (dim,), "factor": (dim, dim), "fingerprint": tuple(fingerprint.shape)}
    try:
        tensors, _ = read_header(Extent.of_file(path))
        if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
            return None
        stored = {name: tensor.read() for name, tensor in tensors.items()}
    except (OSError, ReadError):
        return None
    sound = stored["mean"].isfinite().all() and stored["factor"].isfinite().all()
    if not sound or not torch.equal(stored["fingerprint"], fingerprint):
        return None
    return GaussianW(stored["mean"].float(), stored["factor"].float())


def _fingerprint(generator: Generator) -> Tensor:
    """Numbers that identify a network: the last mapping layer's weights, summed per input."""
    layer = getattr(generator.mapping, f"fc{generator.mapping.num_layers - 1}")
    return layer.weight.detach().double().sum(0).cpu()
