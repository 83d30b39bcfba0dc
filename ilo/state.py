"""Where a search stands, and the snapshots that the solver yields."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ilo.objective import TERMS
from ilo.priors.load import Model
from ilo.priors.stylegan2.latents import GaussianW
from ilo.priors.stylegan2.network import Features, Generator
from ilo.settings import SolverSettings

BALLS = ("features", "latents", "noise")
TRACE_COLUMNS = (*TERMS, *BALLS)


@dataclass(frozen=True)
class State:
    """The variables of all rounds at one point of a run. Rendering it gives the picture, from this alone."""

    z: Tensor  # [B, num_ws, z_dim]
    noise: tuple[Tensor, ...]  # [B, 1, r, r] each
    layer: int = 0
    features: Features | None = None  # entering `layer`; None at layer 0

    @classmethod
    def random(cls, model: Model, seed: int, batch: int = 1) -> State:
        """N(0, I) latents and noise maps; sample b is drawn from seed + b, so that a batch equals its single runs."""
        config = model.generator.config
        z, *noise = _draw(model, seed, batch, (config.num_ws, config.w_dim))
        return cls(z, tuple(noise))

    @classmethod
    @torch.no_grad()
    def face(cls, model: Model, seed: int, covariance: str, truncation: float = 0.7, batch: int = 1) -> State:
        """Faces as the generator itself draws them: one w for all layers, drawn towards the average.

        Args:
            model: whose faces.
            seed: sample b is drawn from seed + b.
            covariance: of the Gaussianised W, in which the latents are expressed.
            truncation: 0 … 1, the share of the way from the average w that is gone (Karras et al. 2019, §B).
        """
        config, mapping = model.generator.config, model.generator.mapping
        z, *noise = _draw(model, seed, batch, (config.z_dim,))
        w = mapping.w_avg + truncation * (mapping(z) - mapping.w_avg)
        return cls(model.latents.inverse(w, covariance)[:, None].repeat(1, config.num_ws, 1), tuple(noise))

    def expand(self, batch: int) -> State:
        """A state of one sample, repeated."""
        features = self.features and Features(*(t.repeat(batch, 1, 1, 1) for t in self.features))
        noise = tuple(n.repeat(batch, 1, 1, 1) for n in self.noise)
        return State(self.z.repeat(batch, 1, 1), noise, self.layer, features)

    def to(self, device: torch.device | str) -> State:
        features = self.features and Features(*(t.to(device) for t in self.features))
        return State(self.z.to(device), tuple(n.to(device) for n in self.noise), self.layer, features)

    def render(self, generator: Generator, latents: GaussianW, covariance: str) -> Tensor:
        """The picture [B, 3, R, R], about [−1, 1]."""
        return generator.suffix(self.features, latents(self.z, covariance), self.noise, self.layer)

    @torch.no_grad()
    def enter(self, generator: Generator, latents: GaussianW, layer: int, settings: SolverSettings) -> State:
        """The same point with the features entering a deeper `layer`; the picture stays the same."""
        ws = latents(self.z, settings.covariance)
        features = generator.synthesis(self.features, ws, self.noise, self.layer, layer)
        if settings.skip == "drop":
            features = Features(features.x, torch.zeros_like(features.rgb))
        return replace(self, layer=layer, features=Features(features.x.to(self.z.dtype), features.rgb))

    def cpu(self) -> State:
        """A copy on the CPU that later steps do not change."""
        features = self.features and Features(*(t.detach().cpu().clone() for t in self.features))
        return State(
            self.z.detach().cpu().clone(), tuple(n.detach().cpu().clone() for n in self.noise), self.layer, features
        )


def _draw(model: Model, seed: int, batch: int, shape: tuple[int, ...]) -> list[Tensor]:
    """N(0, I): z [B, *shape] and the noise maps; sample b from seed + b."""
    samples = []
    for b in range(batch):
        rng = torch.Generator().manual_seed(seed + b)
        sizes = [shape, *((1, size, size) for size in model.generator.config.noise_sizes)]
        samples.append([torch.randn(1, *size, generator=rng) for size in sizes])
    return [torch.cat(parts).to(model.latents.mean) for parts in zip(*samples, strict=True)]


@dataclass(frozen=True)
class Result:
    """The best point of a run so far, on the CPU."""

    state: State
    image: Tensor  # [B, 3, R, R], about [−1, 1]
    round: int
    step: int


@dataclass(frozen=True)
class Step:
    """A snapshot of the solver."""

    round: int  # the layer whose input is searched
    step: int  # of this search, 0 … steps
    steps: int
    done: int  # optimisation steps since the run began
    total: int  # and how many the whole run has
    losses: dict[str, np.ndarray]  # term → [B], of the best point so far
    usage: dict[str, np.ndarray]  # ball → [B], share of its radius in use now; NaN where there is no ball
    previews: np.ndarray  # uint8 [B, R, R, 3], the best so far
    trace: np.ndarray  # float32 [n, B, 9], a row of TRACE_COLUMNS for each step since the last snapshot
    first: int  # `done` of the trace's first row
    result: Result | None = None
    projected: int = 0  # steps of the range projection that follows this search
    inverting: bool = False  # a photograph is being inverted, before a guided run

    @property
    def preview(self) -> np.ndarray:
        """uint8 [R, R, 3] of the batch's first picture."""
        return self.previews[0]


def to_uint8(image: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [−1, 1] (clamped) → uint8 [B, H, W, 3]."""
    pixels = image.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
