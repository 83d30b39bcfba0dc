"""Rendering with compiled passes, made by a compiler from the graphs of `tracing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ilo.priors.stylegan2 import tracing
from ilo.priors.stylegan2.network import Config, Features, Noise

Pass = Callable[[list[Tensor]], Sequence[Tensor]]


class Passes(NamedTuple):
    """The compiled graphs of one layer; see `tracing.Graphs`."""

    forward: Pass
    backward: Pass


@dataclass(frozen=True)
class Compiled:
    """Compiled code for the rounds of a run."""

    batch: int  # number of samples that the code is for
    passes: Mapping[int, Passes]  # by layer

    def picture(self, config: Config, features: Features | None, ws: Tensor, noise: Noise, layer: int) -> Tensor | None:
        """The pictures, as `Generator.suffix` gives them; None where there is no code for the layer and the batch."""
        passes = self.passes.get(layer)
        if passes is None or ws.device.type != "cpu":
            return None
        values = tracing.inputs(features, ws, noise, layer)
        # Compiled code does not check its inputs: others would make it read past their end.
        expected = tracing.shapes(config, layer, self.batch)
        if [v.shape for v in values] != expected or any(v.dtype != torch.float32 for v in values):
            return None
        return _Rendering.apply(passes, *values)


class _Rendering(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: Passes, *values: Tensor) -> Tensor:
        picture, *kept = passes.forward(list(values))
        ctx.passes = passes
        ctx.save_for_backward(*kept)
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.passes.backward([*ctx.saved_tensors, gradient.contiguous()])
        return None, *(g if wanted else None for g, wanted in zip(found, ctx.needs_input_grad[1:], strict=True))
