"""The residual discriminator of StyleGAN2 (Karras et al. 2020, §4), for pictures of any power-of-two side.

Parameter names: `rgb`; for each resolution r from that of the pictures down to 8 px `a{r}` (3×3), `b{r}` (3×3, halves
the side) and `s{r}` (1×1 shortcut, halves the side); then `conv`, `fc`, `out`.

`FeatureDiscriminator` is an optional second one: small networks on a frozen classifier's features (Sauer et al. 2021,
"Projected GANs Converge Faster"; Kumari et al. 2022, "Ensembling Off-the-shelf Models for GAN Training").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilo.priors.stylegan2 import ops

GROUP = 4  # samples per group of the minibatch standard deviation


class Conv(nn.Module):
    """Convolution with equalised learning rate, bias and leaky ReLU; a shortcut has no bias and no activation."""

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int, size: int = 3, down: bool = False, shortcut: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = None if shortcut else nn.Parameter(torch.zeros(outputs))
        self.gain, self.size, self.down = 1 / math.sqrt(inputs * size**2), size, down
        self.register_buffer("kernel", ops.binomial_filter([1, 3, 3, 1]), persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[B, C, H, W] → [B, C′, H, W], or half the side with `down`; `gain` scales the result."""
        if self.bias is not None:
            gain *= ops.GAIN  # the leaky ReLU is positively homogeneous, so weight and bias absorb the gain
        weight = self.weight * (self.gain * gain)
        if not self.down:
            x = F.conv2d(x, weight, padding=self.size // 2)
        elif self.size == 1:
            x = F.conv2d(self._blur(x, padding=1, stride=2), weight)  # only every other pixel is needed
        else:
            x = F.conv2d(self._blur(x, padding=2, stride=1), weight, stride=2)
        if self.bias is None:
            return x
        return F.leaky_relu(x + (self.bias * gain)[:, None, None], ops.SLOPE)

    def _blur(self, x: Tensor, padding: int, stride: int) -> Tensor:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, padding=padding, stride=stride, groups=x.shape[1])


class Dense(nn.Module):
    """Linear layer with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class Discriminator(nn.Module):
    """D: pictures → logits, which are high for pictures that it considers real.

    Args:
        channels: channels at each resolution, {4: …, 8: …, …, R: …}, as in the generator's configuration.
    """

    def __init__(self, channels: dict[int, int]):
        super().__init__()
        self.sizes = sorted(channels, reverse=True)[:-1]
        self.rgb = Conv(3, channels[self.sizes[0]], 1)
        for r in self.sizes:
            inputs, outputs = channels[r], channels[r // 2]
            setattr(self, f"a{r}", Conv(inputs, inputs))
            setattr(self, f"b{r}", Conv(inputs, outputs, down=True))
            setattr(self, f"s{r}", Conv(inputs, outputs, 1, down=True, shortcut=True))
        self.conv = Conv(channels[4] + 1, channels[4])
        self.fc = Dense(channels[4] * 16, channels[4])
        self.out = Dense(channels[4], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1] of pictures [B, 3, R, R] in [−1, 1]."""
        x = self.entry(images)
        for r in self.sizes[1:]:
            x = self._block(x, r)
        return _end(self, x)

    def entry(self, images: Tensor) -> Tensor:
        """Features [B, C, R/2, R/2] after `rgb` and the first block, for pictures [B, 3, R, R]."""
        return self._block(self.rgb(images.contiguous(memory_format=torch.channels_last)), self.sizes[0])

    def _block(self, x: Tensor, r: int) -> Tensor:
        half = math.sqrt(0.5)  # keeps the variance of the sum
        return getattr(self, f"b{r}")(getattr(self, f"a{r}")(x), half) + getattr(self, f"s{r}")(x, half)


class Head(nn.Module):
    """Features [B, C, r, r] → logits [B, 1]: a 1×1 convolution, down-sampling to 4 px, and fully connected layers."""

    def __init__(self, inputs: int, side: int, width: int = 96):
        super().__init__()
        self.mix = Conv(inputs, width, 1)
        self.halves = nn.ModuleList(Conv(width, width, down=True) for _ in range(int(math.log2(side // 4))))
        self.conv = Conv(width + 1, width)
        self.fc = Dense(width * 16, width)
        self.out = Dense(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        for half in self.halves:
            x = half(x)
        return _end(self, x)


class FeatureDiscriminator(nn.Module):
    """A head for each depth of a frozen classifier's features.

    Args:
        shapes: (channels, side) of the features at each depth; sides are powers of two, at least 4.
    """

    def __init__(self, shapes: list[tuple[int, int]]):
        super().__init__()
        self.heads = nn.ModuleList(Head(channels, side) for channels, side in shapes)

    def forward(self, *features: Tensor) -> Tensor:
        """Logits [B, heads] of features [B, C, r, r] at each depth."""
        return torch.cat([head(x) for head, x in zip(self.heads, features, strict=True)], 1)


def _end(network: Discriminator | Head, x: Tensor) -> Tensor:
    """The last layers of a discriminator: features [B, C, 4, 4] → logits [B, 1]."""
    x = network.conv(torch.cat([x, _deviation(x)], 1))
    x = F.leaky_relu(network.fc(x.flatten(1)), ops.SLOPE) * ops.GAIN
    return network.out(x)


def _deviation(x: Tensor) -> Tensor:
    """Minibatch standard deviation [B, 1, H, W], which reveals a lack of variety (Karras et al. 2018).

    Samples i, i + B/4, i + B/2 … form a group; a batch whose size is not a multiple of 4 is one group.
    """
    batch, _, h, w = x.shape
    group = GROUP if batch % GROUP == 0 else batch
    groups = x.float().reshape(group, -1, *x.shape[1:])
    deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.to(x.dtype).reshape(-1, 1, 1, 1).repeat(group, 1, h, w)
