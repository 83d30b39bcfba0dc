"""StyleGAN2 as a prior: the variables that each round searches, and the transition between layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ilo.photos.masks import FFHQ_ALIGNMENT
from ilo.priors.base import Searched, State
from ilo.priors.stylegan2 import memory
from ilo.priors.stylegan2.compiled import Compiled
from ilo.priors.stylegan2.latents import GaussianW
from ilo.priors.stylegan2.network import Features, Generator
from ilo.priors.stylegan2.tracing import first_input
from ilo.settings import SolverSettings
from ilo.weights import registry

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Point(NamedTuple):
    """The variables in a state."""

    z: Tensor  # latents [B, num_ws, z_dim], one for each style input
    noise: tuple[Tensor, ...]  # noise maps, [B, 1, r, r] each
    features: Features | None  # features entering the state's layer; None at layer 0


def point(state: State) -> Point:
    """Unpack the latents, noise maps and features of a state.

    Raises:
        KeyError: the state is not one of StyleGAN2.
    """
    values = state.values
    noise = tuple(values[f"noise_{i}"] for i in range(sum(name.startswith("noise_") for name in values)))
    features = Features(values["features_x"], values["features_rgb"]) if state.layer else None
    return Point(values["z"], noise, features)


def state_of(z: Tensor, noise: Sequence[Tensor], layer: int = 0, features: Features | None = None) -> State:
    """Pack a state, the inverse of `point`."""
    values = {"z": z, **{f"noise_{i}": value for i, value in enumerate(noise)}}
    if features is not None:
        values |= {"features_x": features.x, "features_rgb": features.rgb}
    return State(values, layer)


@dataclass
class Model:
    """A loaded generator, with everything that solving and reporting need."""

    id: str
    generator: Generator
    latents: GaussianW
    path: Path
    sha256: str  # SHA-256 of the weights file, for the recipe
    about: dict[str, Any] = field(default_factory=dict)
    compiled: Compiled | None = None  # compiled code for runs of one batch size; see `ilo.engine.compiling`

    @property
    def resolution(self) -> int:
        return self.generator.config.img_resolution

    @property
    def layers(self) -> int:
        return self.generator.config.num_layers

    @property
    def device(self) -> torch.device:
        return self.generator.device

    @property
    def engine(self) -> str:
        return "eager" if self.compiled is None else "compiled"

    @property
    def alignment(self) -> dict[str, list[float]]:
        """Positions of eyes, nose and mouth corners as fractions of the crop (image-left first); may be empty."""
        return self.about.get("alignment", {})

    @property
    def landmarks(self) -> Mapping[str, Sequence[float]]:
        """`alignment`, or the positions of FFHQ's alignment, which the published networks use."""
        return self.alignment or FFHQ_ALIGNMENT

    @property
    def preset(self) -> str:
        """Suggested preset for this model on its device."""
        entry = registry.BY_ID.get(self.id)
        return "Quick" if entry is None else entry.presets[self.device.type != "cpu"]

    def feature_count(self, layer: int) -> int:
        size = 4 * 2 ** (layer - 1)
        return self.generator.config.channels[size] * size**2

    def draw(self, seed: int, batch: int = 1) -> State:
        """Draw latents and noise maps from N(0, I)."""
        config = self.generator.config
        z, *noise = self._draw(seed, batch, (config.num_ws, config.w_dim))
        return state_of(z, noise)

    @torch.no_grad()
    def sample(self, seed: int, settings: SolverSettings, truncation: float = 1.0, batch: int = 1) -> State:
        """Draw faces from the generator, with one w for all layers, expressed as latents of the Gaussianised W.

        `truncation` is ψ in w = w_avg + ψ·(w − w_avg) (Karras et al. 2019, §B).
        """
        config, mapping = self.generator.config, self.generator.mapping
        z, *noise = self._draw(seed, batch, (config.z_dim,))
        w = mapping.w_avg + truncation * (mapping(z) - mapping.w_avg)
        return state_of(self.latents.inverse(w, settings.covariance)[:, None].repeat(1, config.num_ws, 1), noise)

    def _draw(self, seed: int, batch: int, shape: tuple[int, ...]) -> list[Tensor]:
        """Draw z [B, *shape] and the noise maps from N(0, I); sample b uses seed + b."""
        samples = []
        for b in range(batch):
            rng = torch.Generator().manual_seed(seed + b)
            sizes = [shape, *((1, size, size) for size in self.generator.config.noise_sizes)]
            samples.append([torch.randn(1, *size, generator=rng) for size in sizes])
        return [torch.cat(parts).to(self.latents.mean) for parts in zip(*samples, strict=True)]

    def searched(self, state: State, settings: SolverSettings) -> list[Searched]:
        """The features, and the latents and noise maps that the state's layer and later ones use (Alg. 1, line 4).

        The RGB skip image is carried along unchanged; after the last layer it is the picture, and is searched.
        """
        z, noise, features = point(state)
        found = [Searched("latents", z[:, first_input(state.layer) :], (2,))]
        found += [Searched("noise", noise[j], (1, 2, 3)) for j in self._maps(state, settings)]
        if features is not None:
            pixels = state.layer == self.layers
            found.append(
                Searched("features", features.rgb, (), "pixels")
                if pixels
                else Searched("features", features.x, (), "features")
            )
        return found

    def _maps(self, state: State, settings: SolverSettings) -> range:
        count = len(self.generator.config.noise_sizes)
        return range(first_input(state.layer), min(settings.noise_maps + 2 * state.layer, count))

    def replaced(self, state: State, values: Sequence[Tensor], settings: SolverSettings) -> State:
        maps = self._maps(state, settings)
        changed = {f"noise_{j}": value for j, value in zip(maps, values[1:], strict=False)}
        changed["z"] = torch.cat([state.values["z"][:, : first_input(state.layer)], values[0]], 1)
        if state.layer:
            changed["features_rgb" if state.layer == self.layers else "features_x"] = values[-1]
        return state.changed(**changed)

    def render(self, state: State, settings: SolverSettings) -> Tensor:
        z, noise, features = point(state)
        ws = self.latents(z, settings.covariance)
        if self.compiled is not None:
            picture = self.compiled.picture(self.generator.config, features, ws, noise, state.layer)
            if picture is not None:
                return picture
        return self.generator.suffix(features, ws, noise, state.layer)

    def enter(self, state: State, layer: int, settings: SolverSettings) -> State:
        """Compute the features entering `layer`, with the RGB skip image unless the settings drop it."""
        z, noise, features = point(state)
        ws = self.latents(z, settings.covariance)
        found = self.generator.synthesis(features, ws, noise, state.layer, layer)
        assert found is not None
        rgb = torch.zeros_like(found.rgb) if settings.skip == "drop" else found.rgb
        return state_of(z, noise, layer, Features(found.x.to(z.dtype), rgb))

    def distance(self, state: State, other: State) -> Tensor:
        """Mean squared distance of the features, as a share of `other`'s, plus that of the RGB skip images."""
        x, wanted = state.values["features_x"].flatten(1), other.values["features_x"].flatten(1)
        rgb = state.values["features_rgb"] - other.values["features_rgb"]
        return (x - wanted).square().mean(1) / wanted.square().mean(1) + rgb.flatten(1).square().mean(1)

    def memory_needed(self, settings: SolverSettings, batch: int = 1, frugal: bool = False) -> int:
        return memory.needed(self.generator.config, settings, batch, frugal)

    def frugal(self) -> Model:
        """The same model with gradient checkpointing between blocks."""
        return replace(self, generator=self.generator.checkpointed(), compiled=None)

    def in_format(self, dtype: str) -> Model:
        """The same model with convolutions in `dtype`; latents, styles and the picture stay float32."""
        if DTYPES[dtype] == torch.float32:
            return self
        return replace(self, generator=copy.deepcopy(self.generator).freeze(DTYPES[dtype]), compiled=None)
