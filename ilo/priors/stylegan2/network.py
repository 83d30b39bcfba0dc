"""The StyleGAN2 generator (Karras et al. 2020), which can be split before any block.

Parameter names follow the official PyTorch release, so that its checkpoints load without renaming.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ilo.priors.stylegan2 import lean, ops
from ilo.text.words import shown

MOST_CHANNELS = 4096
MOST_MAPPING_LAYERS = 16


@dataclass(frozen=True)
class Config:
    """Architecture parameters of a generator.

    Raises:
        ValueError: the values are not possible for StyleGAN2.
    """

    z_dim: int
    w_dim: int
    img_resolution: int  # a power of two, 8 or more
    channels: dict[int, int]  # channels of each block: {4: …, 8: …, …, img_resolution: …}
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    conv_clamp: float | None = None  # limit on the magnitude of activations; None: no limit
    img_channels: int = 3

    def __post_init__(self) -> None:
        counts = {"z_dim": self.z_dim, "w_dim": self.w_dim, "mapping_layers": self.mapping_layers}
        counts |= {f"channels at {size}": count for size, count in self.channels.items()}
        for name, count in counts.items():
            most = MOST_MAPPING_LAYERS if name == "mapping_layers" else MOST_CHANNELS
            if type(count) is not int or not 1 <= count <= most:
                raise ValueError(f"{name} is {shown(count)}; allowed is a whole number from 1 to {most}")
        sizes = [4 * 2**k for k in range(len(self.channels))]
        if sorted(self.channels) != sizes or self.img_resolution not in sizes[-1:] or not 2 <= len(sizes) <= 9:
            blocks = shown(sorted(self.channels))
            raise ValueError(
                f"its blocks are {blocks} for {shown(self.img_resolution)} pixels; expected are 4, 8, … up to the size "
                "of the pictures, which is 8 to 1024"
            )
        multiplier, clamp = self.mapping_lr_multiplier, self.conv_clamp
        if type(multiplier) not in (int, float) or not 1e-6 <= multiplier <= 1e3:
            raise ValueError(f"mapping_lr_multiplier is {shown(multiplier)}; allowed is a number from 0.000001 to 1000")
        if clamp is not None and (type(clamp) not in (int, float) or not 0 < clamp <= 1e6):
            raise ValueError(f"conv_clamp is {shown(clamp)}; allowed is null or a number above 0, up to a million")
        if self.img_channels != 3:
            raise ValueError(f"its pictures have {shown(self.img_channels)} channels; allowed are 3")

    @property
    def num_layers(self) -> int:
        """Number of blocks: layer k is the block of 4·2^k pixels."""
        return len(self.channels)

    @property
    def num_ws(self) -> int:
        """Number of style inputs: two for the first block, two more for each block after it."""
        return 2 * self.num_layers

    @property
    def noise_sizes(self) -> list[int]:
        """Side lengths of the noise maps in order: 4, 8, 8, 16, 16, …"""
        return [4] + [4 * 2**k for k in range(1, self.num_layers) for _ in range(2)]


class Features(NamedTuple):
    """The state entering layer k ≥ 1, which is the output of layer k − 1."""

    x: Tensor  # activations [B, C, r, r]
    rgb: Tensor  # RGB picture so far [B, 3, r, r] (skip architecture)


Noise = Sequence[Tensor | None]  # one [B, 1, r, r] per noise map, None for no noise


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate (Karras et al. 2018, §4.1)."""

    def __init__(self, inputs: int, outputs: int, lr_multiplier: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)

    def scaled(self, gain: float = 1.0) -> tuple[Tensor, Tensor]:
        """Weights and bias with which `F.linear` gives `gain` times the output."""
        return (gain * self.weight_gain * self.weight).detach(), (gain * self.bias_gain * self.bias).detach()


class MappingNetwork(nn.Module):
    """Mapping network: z [B, z_dim] → w [B, w_dim]."""

    w_avg: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.num_layers = config.mapping_layers
        for i in range(self.num_layers):
            inputs = config.z_dim if i == 0 else config.w_dim
            setattr(self, f"fc{i}", FullyConnected(inputs, config.w_dim, config.mapping_lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for i in range(self.num_layers):
            x = F.leaky_relu(getattr(self, f"fc{i}")(x), ops.SLOPE) * ops.GAIN
        return x


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, up: bool, clamp: float | None):
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", ops.binomial_filter([1, 3, 3, 1]))
        self.gain = 1 / math.sqrt(inputs * 9)
        self.up, self.clamp = up, clamp
        self.frozen: ops.FrozenWeights | None = None
        self.lean: lean.LeanWeights | None = None

    def freeze(self, dtype: torch.dtype, few_launches: bool) -> None:
        """Precompute everything that depends only on the weights, for use without weight gradients."""
        kernel = self.resample_filter if self.up else None
        self.frozen = ops.freeze_layer(self.weight, self.bias, self.gain, kernel, dtype)
        self.lean = lean.lean_layer(self.frozen, *self.affine.scaled(), self.noise_strength) if few_launches else None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        y = self._layer(x, w, noise)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)

    def _layer(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        if self.lean is not None:
            x = x.to(self.lean.frozen.forward.dtype, memory_format=torch.channels_last)
            return lean.layer(x, w, noise, self.lean)
        style = self.affine(w)
        if noise is not None:
            noise = noise * self.noise_strength
        if self.frozen is not None:
            x = x.to(self.frozen.forward.dtype, memory_format=torch.channels_last)
            return ops.frozen_layer(x, style, noise, self.frozen)
        kernel = self.resample_filter if self.up else None
        return ops.modulated_layer(x, self.weight, style, self.gain, kernel, noise, self.bias)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution without demodulation, from activations to their contribution to the picture."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = 1 / math.sqrt(inputs)
        self.clamp = clamp
        self.lean: tuple[Tensor, Tensor] | None = None  # from w to the scaled weights: [3·C, w_dim] and [3·C]

    def freeze(self, few_launches: bool) -> None:
        """Precompute what leads from w to the scaled weights in one operation, if these should be few."""
        self.lean = None
        if few_launches:
            affine, bias = self.affine.scaled(self.gain)
            weight = self.weight[:, :, 0, 0].detach()  # [3, C]
            self.lean = (weight[:, :, None] * affine).flatten(0, 1), (weight * bias).flatten()

    def _scaled(self, w: Tensor) -> Tensor:
        """The weights for each sample, [B, 3, C]."""
        if self.lean is not None:
            return F.linear(w, *self.lean).unflatten(1, (len(self.weight), -1))
        return self.weight[:, :, 0, 0] * (self.affine(w) * self.gain)[:, None]

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        # With only three output channels, scaling the weights is cheaper than scaling the activations.
        rgb = ops.to_pixels(x, self._scaled(w).to(x.dtype), self.bias.to(x.dtype))
        return rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """Layer k: one convolution at 4 px, or two (the first up-samples) at other resolutions, and a ToRGB."""

    resample_filter: Tensor

    def __init__(self, config: Config, layer: int):
        super().__init__()
        size = 4 * 2**layer
        channels, clamp = config.channels[size], config.conv_clamp
        self.layer = layer
        if layer == 0:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = SynthesisLayer(config.channels[size // 2], channels, config.w_dim, size, True, clamp)
        self.conv1 = SynthesisLayer(channels, channels, config.w_dim, size, False, clamp)
        self.torgb = ToRGB(channels, config.img_channels, config.w_dim, clamp)
        self.register_buffer("resample_filter", ops.binomial_filter([1, 3, 3, 1]))
        self._upsampling: Tensor | None = None

    def freeze(self) -> None:
        if self.layer:
            self._upsampling = ops.upsampling_matrix(self.resample_filter, 2 * 2**self.layer)

    def forward(self, state: Features | None, ws: Sequence[Tensor], noise: Noise) -> Features:
        """`ws`, [B, w_dim] each, and `noise` are the generator's full lists; the block uses its own entries."""
        k = self.layer
        if state is None:
            x = self.const.expand(len(ws[0]), -1, -1, -1)
            x = self.conv1(x, ws[0], noise[0])
            return Features(x, self.torgb(x, ws[1]).to(ws[1].dtype))
        x = self.conv0(state.x, ws[2 * k - 1], noise[2 * k - 1])
        x = self.conv1(x, ws[2 * k], noise[2 * k])
        if self._upsampling is None:
            rgb = ops.upsample(state.rgb, self.resample_filter)
        else:
            rgb = self._upsampling @ state.rgb @ self._upsampling.t()
        # The picture is summed in the latents' number format, whatever format the convolutions use.
        return Features(x, rgb + self.torgb(x, ws[2 * k + 1]).to(rgb.dtype))


class SynthesisNetwork(nn.Module):
    """The generator's blocks b4, b8, …"""

    def __init__(self, config: Config):
        super().__init__()
        self.sizes = [4 * 2**k for k in range(config.num_layers)]
        self.checkpointing = False
        for k, size in enumerate(self.sizes):
            setattr(self, f"b{size}", SynthesisBlock(config, k))

    def forward(self, state: Features | None, ws: Tensor, noise: Noise, first: int, last: int) -> Features | None:
        """Run layers first … last − 1 on the state that enters `first` (None for layer 0). `ws`: [B, num_ws, w_dim]."""
        unused = max(0, 2 * first - 1)
        # Taken apart at once: each one taken by itself would cost operations in the backward pass.
        styles = [*[ws[:, 0]] * unused, *ws[:, unused : 2 * last].unbind(1)]
        for size in self.sizes[first:last]:
            block = getattr(self, f"b{size}")
            if self.checkpointing and torch.is_grad_enabled():
                state = checkpoint(block, state, styles, noise, use_reentrant=False, preserve_rng_state=False)
            else:
                state = block(state, styles, noise)
        return state


class Generator(nn.Module):
    """The generator G: latents → picture, or G2 ∘ G1 when split before a layer (`prefix`, `suffix`)."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

    def freeze(self, dtype: torch.dtype = torch.float32, few_launches: bool | None = None) -> Generator:
        """Disable weight gradients and convolve in `dtype`. Call again after moving devices. Returns self.

        `few_launches`: whether to compute in fewer operations, which changes the last bits; None: as suits the device.
        """
        few_launches = self.device.type != "cpu" if few_launches is None else few_launches
        self.eval().requires_grad_(False)
        for module in self.modules():
            if isinstance(module, SynthesisLayer):
                module.freeze(dtype, few_launches)
            elif isinstance(module, ToRGB):
                module.freeze(few_launches)
            elif isinstance(module, SynthesisBlock):
                module.freeze()
        return self

    def checkpointed(self) -> Generator:
        """A network sharing these weights, with gradient checkpointing between its blocks (Chen et al. 2016).

        Each block is recomputed in the backward pass: the same numbers, less memory, more time.
        """
        made, synthesis = copy.copy(self), copy.copy(self.synthesis)
        synthesis.checkpointing = True
        made._modules = {**self._modules, "synthesis": synthesis}
        return made

    @property
    def device(self) -> torch.device:
        return self.mapping.w_avg.device

    def prefix(self, ws: Tensor, noise: Noise, layer: int) -> Features | None:
        """G1: the state entering `layer`; None for layer 0, whose input is a learned constant."""
        return self.synthesis(None, ws, noise, 0, layer)

    def suffix(self, state: Features | None, ws: Tensor, noise: Noise, layer: int) -> Tensor:
        """G2: the pictures [B, 3, R, R], approximately in [−1, 1], from the state entering `layer`.

        Only the entries of `ws` [B, num_ws, w_dim] and `noise` that layers ≥ `layer` use are read.
        """
        return self.synthesis(state, ws, noise, layer, self.config.num_layers).rgb

    def forward(self, z: Tensor, noise: Noise | None = None) -> Tensor:
        """Pictures [B, 3, R, R] from z [B, z_dim], through the mapping network; by default with constant noise."""
        ws = self.mapping(z)[:, None].expand(-1, self.config.num_ws, -1)
        return self.suffix(None, ws, self.noise_const() if noise is None else noise, 0)

    def noise_const(self) -> list[Tensor]:
        """The constant noise maps stored with the network, each [1, 1, r, r]."""
        layers = [m for m in self.synthesis.modules() if isinstance(m, SynthesisLayer)]
        return [layer.noise_const[None, None] for layer in layers]
