"""The queue of runs of a page on the CPU, without a perceptual distance."""

from __future__ import annotations

from functools import partial

from ilo.priors.load import Model
from ilo.ui.runs import machine
from ilo.ui.runs.line import Runs
from ilo.ui.runs.machine import CPU, OneDevice
from ilo.ui.visitors.limits import Limits


class Plain(OneDevice):
    """The CPU, comparing pixels only."""

    def __init__(self, *models: Model):
        self._replicas = {model.id: machine.Replica(model) for model in models}
        self._device = CPU
        self.facts = machine.facts_of(self._replicas, CPU, "the CPU")


def plain_runs(model: Model, limits: Limits | None = None) -> Runs:
    return Runs([partial(Plain, model)], limits)
