"""Where runs are made: a device with a copy of every model of the page."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, get_args

import torch

from ilo.engine import compiling, devices, memory
from ilo.engine.background import Background
from ilo.engine.formats import formats
from ilo.methods import preset
from ilo.morph import morph
from ilo.operators import undamaged
from ilo.perceptual.base import Perceptual
from ilo.perceptual.classifier_features import ROBUST
from ilo.perceptual.find import find_perceptual
from ilo.priors.load import Model
from ilo.problem import Problem
from ilo.records.recipe import Recipe, make_recipe
from ilo.settings import Dtype, SettingsError, SolverSettings
from ilo.solver import every, solve
from ilo.state import Step
from ilo.text.words import reason
from ilo.ui import text
from ilo.ui.runs.order import Order

PREVIEW_SECONDS = 0.14  # a preview costs 0.1 s if the browser shares the cores
RESULT_SECONDS = 1.0
CPU = torch.device("cpu")
# Words in the errors of a GPU's libraries; torch has no type of its own for most of them.
OF_A_DEVICE = ("CUDA", "cuDNN", "CUDNN", "CUBLAS", "MPS")
OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")

log = logging.getLogger(__name__)

News = Recipe | Step


@dataclass(frozen=True)
class Facts:
    """What the page tells about a machine. It holds none of the machine's memory."""

    device: torch.device | None  # None: not one of this computer
    name: str  # the device, for people
    presets: Mapping[str, str]  # model → the preset to suggest for it here
    perceptual: str | None  # name of the perceptual distance
    formats: tuple[str, ...]  # number formats to offer

    def free(self) -> int | None:
        """Free memory of the device in bytes; None if it cannot be told."""
        try:
            return None if self.device is None else memory.available(self.device)
        except RuntimeError:
            return None


class Machine(Protocol):
    """Solves one order at a time, in the thread that called `warm_up`."""

    @property
    def facts(self) -> Facts: ...

    def warm_up(self) -> None:
        """Take a few steps, so that the first visitor does not wait for torch's set-up."""

    def solve(self, order: Order, stopping: Callable[[], bool]) -> Iterator[News]:
        """Solve an order: the recipe first, then the steps.

        Args:
            order: what to solve.
            stopping: asked after every step; once it says yes, the run ends with a step that has a result, or, on a
                machine that cannot hear it at once, with a result that is a second old.

        Raises:
            SettingsError: the order cannot be solved, with a sentence for the visitor.
        """


Maker = Callable[[], Machine]


@dataclass(frozen=True)
class Replica:
    """A model and a perceptual distance on one device."""

    model: Model
    perceptual: Perceptual | None = None
    background: Background | None = None  # gives the model's compiled variant once it is ready; None: there is none

    def warm_up(self, rounds: int | None = None) -> Iterator[Step]:
        """Take one step in each round of the default preset, or in its first `rounds` rounds."""
        model = self.model
        plans = [replace(plan, steps=1) for plan in preset(prior=model).rounds[:rounds]]
        problem = Problem.damage(torch.zeros(1, 3, model.resolution, model.resolution), undamaged(model.resolution))
        yield from solve(model, problem, SolverSettings(tuple(plans)), perceptual=self.perceptual)

    def solve(self, order: Order, stopping: Callable[[], bool]) -> Iterator[News]:
        """See `Machine.solve`."""
        perceptual = self.perceptual if isinstance(order.problem, Problem) else None
        model = self.model
        if self.background is not None:
            model = self.background.model(order.settings, compiling.batch_of(len(order.problem), order.settings))
        yield make_recipe(
            model,
            order.problem,
            order.settings,
            damaged_here=order.damaged_here,
            measurement_seed=order.measurement_seed,
            input_image=order.input_image,
            perceptual=perceptual,
        )
        clock, results = every(PREVIEW_SECONDS), every(RESULT_SECONDS)

        # After Stop, the next step is shown with its result, so the wait is one step and nothing is lost.
        def due() -> bool:
            return stopping() or clock()

        def due_result() -> bool:
            return stopping() or results()

        if isinstance(order.problem, Problem):
            steps = solve(model, order.problem, order.settings, due, perceptual, due_result)
        else:
            steps = morph(model, order.problem, order.settings, order.input_image, due, due_result)
        for step in steps:
            yield step
            if step.result is not None and stopping():
                break


def replicas(models: Sequence[Model], device: torch.device) -> dict[str, Replica]:
    """Every model on `device`, by its id; a model that is there already is not copied."""
    perceptual = usable_perceptual(device)
    return {model.id: Replica(_on(model, device), perceptual) for model in models}


def facts_of(found: Mapping[str, Replica], device: torch.device | None, name: str) -> Facts:
    """The facts of a machine with these replicas."""
    perceptual = next(iter(found.values())).perceptual
    presets = {id_: replica.model.preset for id_, replica in found.items()}
    # A GPU that is lent cannot be asked before it is there; of those that are, each one computes in all formats.
    offered = get_args(Dtype) if device is None else formats(device)
    return Facts(device, name, presets, None if perceptual is None else perceptual.name, offered)


class OneDevice:
    """The machine that is a device of this computer.

    Args:
        models: the page's models, on the CPU.
        device: the CPU or a GPU.

    Raises:
        SettingsError: the models do not fit into the device's memory, or the device fails.
    """

    def __init__(self, models: Sequence[Model], device: torch.device = CPU):
        try:
            self._replicas = replicas(models, device)
        except Exception as error:
            if damage(error) is None:
                raise
            raise SettingsError(text.device_full(str(device), reason(error))) from error
        self._device = device
        self.facts = facts_of(self._replicas, device, devices.words(device))

    def warm_up(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # of this thread
        for name, replica in self._replicas.items():
            for _ in replica.warm_up():
                pass
            if self._device.type == "cpu" and compiling.named() != "eager":
                self._replicas[name] = replace(replica, background=Background(replica.model))

    def solve(self, order: Order, stopping: Callable[[], bool]) -> Iterator[News]:
        yield from self._replicas[order.model].solve(order, stopping)


def damage(error: BaseException) -> str | None:
    """What an error says about the machine it came from: "memory", "device", or None if the machine is not to blame."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "memory"
    words = str(error) if isinstance(error, RuntimeError) else ""
    if any(part in words for part in OF_MEMORY):
        return "memory"
    return "device" if any(part in words for part in OF_A_DEVICE) else None


def release() -> None:
    """Return the memory of what is no longer used to the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:  # of a device that has failed
            log.warning("its memory cannot be released: %s", reason(error))
    memory.give_back()


def usable_perceptual(device: torch.device) -> Perceptual | None:
    """The perceptual distance: LPIPS if it is here, else the embedded features; None if both files are broken."""
    for name in (None, ROBUST):
        try:
            return find_perceptual(device, name)
        except ValueError as error:
            log.warning("A perceptual distance cannot be used. %s", error)
    return None


def _on(model: Model, device: torch.device) -> Model:
    if model.device == device:
        return model
    generator = copy.deepcopy(model.generator).to(device).freeze()
    return replace(model, generator=generator, latents=model.latents.to(device))
