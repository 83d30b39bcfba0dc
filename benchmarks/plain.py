"""A straightforward implementation of StyleGAN2 and an ILO step, as the baseline of benchmarks/step.py.

It works as other programs usually do: per-sample modulated weights in a grouped convolution, weights with gradients,
up-sampling by inserting zeros and filtering, every step runs the network from its constant input, and the l1 projection
sorts. It computes the same pictures.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ilo.objective import geodesic
from ilo.priors.base import State
from ilo.priors.load import Model
from ilo.priors.stylegan2.prior import point
from ilo.problem import Problem
from ilo.search import learning_rate
from ilo.settings import LossWeights, RoundSettings


def filter2d(x: Tensor, kernel: Tensor, up: int, padding: tuple[int, int]) -> Tensor:
    """Insert zeros, pad, and filter with gain up²."""
    b, c, h, w = x.shape
    if up > 1:
        x = x.reshape(b, c, h, 1, w, 1)
        x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(b, c, h * up, w * up)
    x = F.pad(x, [padding[0], padding[1], padding[0], padding[1]])
    weight = (kernel * 4).flip([0, 1]).expand(c, 1, 4, 4)
    return F.conv2d(x, weight, groups=c)


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, kernel: Tensor | None) -> Tensor:
    """Scale the weights per sample, then apply one grouped convolution."""
    b, inputs, h, w = x.shape
    outputs, taps = weight.shape[0], weight.shape[2]
    weight = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, b * inputs, h, w)
    if kernel is None:
        x = F.conv2d(x, weight.reshape(b * outputs, inputs, taps, taps), padding=taps // 2, groups=b)
    else:
        weight = weight.transpose(1, 2).reshape(b * inputs, outputs, taps, taps)
        x = F.conv_transpose2d(x, weight, stride=2, groups=b)
        x = x.reshape(b, outputs, *x.shape[2:])
        x = filter2d(x, kernel, 1, (1, 1))
    return x.reshape(b, outputs, *x.shape[2:])


class PlainGenerator:
    """The synthesis network, from a state dict with the official names; all weights have gradients."""

    def __init__(self, model: Model):
        self.weights = {k: v.clone().requires_grad_(True) for k, v in model.generator.state_dict().items()}
        self.sizes = sorted(model.generator.config.channels)

    def affine(self, name: str, w: Tensor) -> Tensor:
        weight = self.weights[f"{name}.affine.weight"]
        return F.linear(w, weight / math.sqrt(weight.shape[1]), self.weights[f"{name}.affine.bias"])

    def convolution(self, name: str, x: Tensor, w: Tensor, noise: Tensor, up: bool) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        weight = weight / math.sqrt(weight[0].numel())
        x = modulated(x, weight, self.affine(name, w), True, _binomial() if up else None)
        x = x + noise * self.weights[f"{name}.noise_strength"]
        x = x + self.weights[f"{name}.bias"][None, :, None, None]
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

    def torgb(self, name: str, x: Tensor, w: Tensor) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        style = self.affine(name, w) / math.sqrt(weight.shape[1])
        return modulated(x, weight, style, False, None) + self.weights[f"{name}.bias"][None, :, None, None]

    def __call__(self, ws: Tensor, noise: list[Tensor], layer: int = 0, replaced: Tensor | None = None) -> Tensor:
        """Render the picture; `replaced` replaces the activations entering `layer`."""
        x, rgb = self.weights["synthesis.b4.const"].expand(len(ws), -1, -1, -1), None
        for k, size in enumerate(self.sizes):
            block = f"synthesis.b{size}"
            if k == layer and replaced is not None:
                x = replaced
            if k:
                x = self.convolution(f"{block}.conv0", x, ws[:, 2 * k - 1], noise[2 * k - 1], True)
            x = self.convolution(f"{block}.conv1", x, ws[:, 2 * k], noise[2 * k], False)
            added = self.torgb(f"{block}.torgb", x, ws[:, 2 * k + 1])
            rgb = added if rgb is None else filter2d(rgb, _binomial(), 2, (2, 1)) + added
        assert rgb is not None
        return rgb


def _binomial() -> Tensor:
    f = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(f, f) / 64


def project_by_sorting(x: Tensor, radius: Tensor) -> Tensor:
    """Project each sample onto the l1 ball by sorting (Duchi et al. 2008, Figure 1)."""
    flat = x.flatten(1)
    u = flat.abs().sort(1, descending=True).values
    theta = (u.cumsum(1) - radius) / torch.arange(1, u.shape[1] + 1, device=x.device)
    last = (u > theta).sum(1, keepdim=True) - 1
    tau = theta.gather(1, last.clamp_min(0)).clamp_min(0)
    inside = flat.abs().sum(1, keepdim=True) <= radius
    return torch.where(inside, flat, flat.sign() * (flat.abs() - tau).clamp_min(0)).view_as(x)


class PlainRound:
    """Steps of a round with `PlainGenerator`, with the same variables, losses and constraints as `LayerSearch`."""

    def __init__(self, model: Model, problem: Problem, start: State, plan: RoundSettings):
        self.model, self.problem, self.start, self.plan = model, problem, start, plan
        self.generator = PlainGenerator(model)
        self.first = max(0, 2 * start.layer - 1)
        self.start_z, self.start_noise, features = point(start)
        self.z = self.start_z[:, self.first :].clone().requires_grad_(True)
        self.maps = range(self.first, min(5 + 2 * start.layer, len(self.start_noise)))
        self.noise = [self.start_noise[j].clone().requires_grad_(True) for j in self.maps]
        self.unit: Tensor | float = 1.0
        self.x = None
        if features is not None:  # searched in units of their mean absolute value
            self.unit = features.x.abs().mean((1, 2, 3), keepdim=True)
            self.x = (features.x / self.unit).requires_grad_(True)
        self.variables = [v for v in (self.z, *self.noise, self.x) if v is not None]
        self.starts = [v.detach().clone() for v in self.variables]
        self.radii = [plan.radius_latents, *[plan.radius_noise] * len(self.noise), plan.radius_features]
        self.adam = torch.optim.Adam(self.variables)
        self.made = 0  # steps
        self.best, self.weight = math.inf, LossWeights().geodesic

    def step(self) -> None:
        noise = list(self.start_noise)
        for j, value in zip(self.maps, self.noise, strict=True):
            noise[j] = value
        ws = self.model.latents(torch.cat([self.start_z[:, : self.first], self.z], 1))
        image = self.generator(ws, noise, self.start.layer, None if self.x is None else self.x * self.unit)
        residual = self.problem.operator(image) - self.problem.y
        spread = self.weight * geodesic(self.z).sum()
        loss = residual.square().sum() / self.problem.operator.normaliser + spread
        self.adam.zero_grad()
        loss.backward()
        if loss.item() < self.best:
            self.best = loss.item()
            self.kept = [v.detach().clone() for v in self.variables]
        self.adam.param_groups[0]["lr"] = self.plan.lr * learning_rate("ramp", self.made, self.plan.steps)
        self.made += 1
        self.adam.step()
        with torch.no_grad():
            for variable, start, radius in zip(self.variables, self.starts, self.radii, strict=False):
                if variable is not self.x:
                    dims = (2,) if variable is self.z else (1, 2, 3)
                    norm = torch.linalg.vector_norm
                    variable.mul_(norm(start, dim=dims, keepdim=True) / norm(variable, dim=dims, keepdim=True))
                if math.isfinite(radius):
                    variable.copy_(
                        start
                        + project_by_sorting(variable - start, radius * start.flatten(1).abs().sum(1, keepdim=True))
                    )
