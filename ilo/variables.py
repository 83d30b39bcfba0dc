"""What a search moves: tensors with their l1 balls and spheres, Adam over them, and the best point so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from ilo.priors.base import Searched
from ilo.projection import l1_norm, project_l1, project_sphere
from ilo.settings import RoundSettings, SolverSettings

TINY = 1e-12  # instead of a scale of 0


class Variable:
    """One or more tensors of a shape that are searched over, and the set that each must stay in.

    The tensors lie one after the other in the batch, so that one operation serves them all: [count·B, …].

    They are searched in their own unit: features in that of their mean absolute value, so that the learning rate suits
    any generator, everything else as it is. Where a mask hides everything, the unit of features is smaller: the same
    step changes them less, and the same change takes more of the radius.
    """

    def __init__(
        self,
        searched: Searched,
        radius: float,
        settings: SolverSettings,
        mask: Tensor | None = None,
        begin: Tensor | None = None,
        count: int = 1,
    ):
        """
        Args:
            searched: the tensors and their values at the round's start, the centres of their l1 balls.
            radius: ρ of the l1 balls, infinity for no ball.
            settings: of the run, for their scale, their scales of the radii and the radius where all is hidden.
            mask: [1, 1, R, R], 1 where the picture is measured; None if there is no such mask.
            begin: where to begin, inside the balls; None: at their centres.
            count: number of tensors in `searched.value`.
        """
        value, relative = searched.value, settings.scale == "relative"
        self.ball, self.radius, self.sphere, self.count = searched.ball, radius, searched.sphere, count
        self.free = radius > 0
        self.unit = None
        if relative and searched.kind == "features":
            self.unit = value.flatten(1).abs().mean(1).clamp_min(TINY).view(-1, *[1] * (value.dim() - 1))
        size = l1_norm(self._in_units(value)) if relative and searched.kind != "pixels" else float(value[0].numel())
        if mask is not None and searched.ball == "features" and settings.radius_hidden < 1:
            measured = F.interpolate(mask, value.shape[-2:], mode="area")
            reach = settings.radius_hidden + (1 - settings.radius_hidden) * measured
            self.unit = reach if self.unit is None else self.unit * reach
        self.start = self._in_units(value)
        self.leaf = self._in_units(value if begin is None else begin).clone().requires_grad_(self.free)  # Adam moves it
        scale = value.new_tensor(settings.radius_scales).repeat(count) if settings.radius_scales else 1.0
        self.reach = radius * size * scale
        self._scale = self.reach.clamp_min(TINY) if isinstance(self.reach, Tensor) else self.reach
        if self.sphere:
            self.norm = torch.linalg.vector_norm(self.start, dim=self.sphere, keepdim=True)

    def _in_units(self, value: Tensor) -> Tensor:
        return value if self.unit is None else value / self.unit

    def value(self, leaf: Tensor | None = None) -> Tensor:
        """[count·B, …] as the prior takes it, at the current leaf or another; differentiable."""
        leaf = self.leaf if leaf is None else leaf
        return leaf if self.unit is None else leaf * self.unit

    def tensors(self, leaf: Tensor | None = None) -> Sequence[Tensor]:
        """The tensors one by one, [B, …] each; differentiable."""
        value = self.value(leaf)
        return [value] if self.count == 1 else value.chunk(self.count)

    def each(self, value: Tensor) -> Tensor:
        """A view of a tensor [count·B, …], or of one value per ball [count·B], as [count, B, …]."""
        return value.unflatten(0, (self.count, -1))

    def usage(self, change: Tensor) -> Tensor:
        """Share of the radius in use by the fullest of the balls, [B]; NaN without balls, 0 if frozen.

        `change`: l1 norms of leaf − start, [count·B].
        """
        if not math.isfinite(self.radius):
            used = torch.full_like(change, math.nan)
        elif not self.free:
            used = torch.zeros_like(change)
        else:
            used = change / self._scale
        return used if self.count == 1 else self.each(used).amax(0)


def variables_of(
    searched: Sequence[Searched],
    plan: RoundSettings,
    settings: SolverSettings,
    mask: Tensor | None = None,
    begins: Sequence[Searched] | None = None,
) -> list[Variable]:
    """The variables of a search, in the order of `searched`; neighbours of one shape and kind become one.

    Args:
        searched: the tensors, and the centres of their balls.
        plan: the round with their radii.
        settings: of the run.
        mask: see `Variable`.
        begins: where each tensor begins; None: at its centre.
    """
    found: list[Variable] = []
    pairs = list(zip(searched, begins or searched, strict=True))
    for (ball, _, sphere, kind), group in groupby(pairs, lambda p: (p[0].ball, p[0].value.shape, *p[0][2:])):
        centres, places = zip(*((centre.value, begin.value) for centre, begin in group), strict=True)
        together = Searched(ball, _cat(centres), sphere, kind)
        found.append(Variable(together, plan.radius(ball), settings, mask, _cat(places), len(centres)))
    return found


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def tensors_of(variables: Sequence[Variable]) -> list[Tensor]:
    """The current values of all variables, [B, …] each, in the order in which the prior lists them."""
    return [tensor for variable in variables for tensor in variable.tensors()]


@torch.no_grad()
def constrain(variables: Sequence[Variable]) -> None:
    """Project each variable back to its start's norm, then onto the l1 ball around its start."""
    leaves = [v.leaf for v in variables]
    values = [
        project_sphere(leaf, v.norm, v.sphere) if v.sphere else leaf for v, leaf in zip(variables, leaves, strict=True)
    ]
    inside = [i for i, v in enumerate(variables) if math.isfinite(v.radius)]
    if inside:
        starts = [variables[i].start for i in inside]
        changes = torch._foreach_sub([values[i] for i in inside], starts)
        projected = [project_l1(change, variables[i].reach) for i, change in zip(inside, changes, strict=True)]
        for i, value in zip(inside, torch._foreach_add(starts, projected), strict=True):
            values[i] = value
    torch._foreach_copy_(leaves, values)


@torch.no_grad()
def usages(variables: Sequence[Variable]) -> list[Tensor]:
    """`Variable.usage` of all variables, [B] each."""
    changes = torch._foreach_sub([v.leaf for v in variables], [v.start for v in variables])
    torch._foreach_abs_(changes)
    return [v.usage(change.flatten(1).sum(1)) for v, change in zip(variables, changes, strict=True)]


class Best:
    """Tracks the lowest-loss point of each sample, on the device."""

    def __init__(self, variables: Sequence[Variable], batch: int, *beside: Tensor):
        self.loss = variables[0].start.new_full([batch], math.inf)
        self._variables = variables
        self._leaves = [v.leaf.detach().clone() for v in variables]
        self.beside = list(beside)  # further tensors [B, …] of the best point

    def keep(self, loss: Tensor, *beside: Tensor) -> None:
        """For each sample whose loss [B] improved, store the variables and the tensors of `beside`."""
        better = loss < self.loss
        for variable, kept in zip(self._variables, self._leaves, strict=True):
            _keep(better, variable.each(variable.leaf.detach()), variable.each(kept), before=1)
        for now, kept in zip([*beside, loss], [*self.beside, self.loss], strict=True):
            _keep(better, now, kept)

    @property
    def values(self) -> list[Tensor]:
        """The values of all variables at the best point, as `tensors_of` lists them."""
        return [t for v, leaf in zip(self._variables, self._leaves, strict=True) for t in v.tensors(leaf)]


def _keep(better: Tensor, now: Tensor, kept: Tensor, before: int = 0) -> None:
    """Copy `now` to `kept` for the samples of `better` [B]; `before` dimensions precede that of the samples."""
    torch.where(better.view(-1, *[1] * (now.dim() - 1 - before)), now, kept, out=kept)
