"""How the steps of a search are run: each as it stands, or all by repeating one that was captured as a CUDA graph.

A step of a small network is some hundred short operations, and starting them takes a GPU's host longer than the GPU
needs to compute them. A CUDA graph starts all of them at once.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

EAGER, CUDA_GRAPH = "eager", "cuda-graph"
WARM_UP = 3  # steps before the capture: libraries allocate their workspaces in the first ones
AHEAD = 2  # steps that may wait in the GPU's queue, so that a preview shows a search as it is now

Run = Callable[[], None]
logger = logging.getLogger(__name__)
_one_capture = threading.Lock()


class Engine(Protocol):
    """Runs the steps of a run's searches."""

    @property
    def name(self) -> str:
        """What ran the steps so far, for the recipe."""

    def repeated(self, step: Run, rngs: Sequence[torch.Generator] = ()) -> Run:
        """A function to call for every step of one search.

        Args:
            step: runs one step. All that differs from one step to the next is in tensors that keep their place in
                memory, or in `rngs`.
            rngs: the generators that the step draws from.
        """


class StepByStep:
    """Runs each step as it stands, with a prior that may be compiled: the name says so."""

    def __init__(self, name: str = EAGER):
        self.name = name

    def repeated(self, step: Run, rngs: Sequence[torch.Generator] = ()) -> Run:
        return step


class Capture(Protocol):
    """Makes a graph from a function; `CudaCapture`, but for tests."""

    def aside(self, step: Run) -> None:
        """Run a step where a capture would, to warm up."""

    def record(self, step: Run, rngs: Sequence[torch.Generator]) -> Run:
        """Capture a step without running it; the function returned runs it."""


class CudaGraphs:
    """Runs a search's first steps as they stand, then captures one and repeats it.

    No step is lost to the warm-up, and the numbers are those of `StepByStep` on the same GPU. If a capture fails, this
    run goes on as it stands.
    """

    def __init__(self, capture: Capture):
        self.capture = capture
        self.captured = False
        self.failed = False

    @property
    def name(self) -> str:
        return CUDA_GRAPH if self.captured else EAGER

    def repeated(self, step: Run, rngs: Sequence[torch.Generator] = ()) -> Run:
        return _Search(self, step, rngs)


class _Search:
    """The steps of one search, first as they stand, then as a graph."""

    def __init__(self, engine: CudaGraphs, step: Run, rngs: Sequence[torch.Generator]):
        self._engine, self._step, self._rngs = engine, step, rngs
        self._warm_up = WARM_UP
        self._replay: Run | None = None

    def __call__(self) -> None:
        if self._replay is not None:
            self._replay()
        elif self._engine.failed:
            self._step()
        elif self._warm_up:
            self._warm_up -= 1
            self._engine.capture.aside(self._step)
        else:
            self._replay = self._recorded()
            (self._replay or self._step)()

    def _recorded(self) -> Run | None:
        """The captured step; None if it cannot be captured."""
        try:
            with _one_capture:
                replay = self._engine.capture.record(self._step, self._rngs)
        except RuntimeError as error:  # every error of CUDA is one
            logger.info("The steps run without a CUDA graph: %s", str(error).strip().split("\n")[0])
            self._engine.failed = True
            return None
        self._engine.captured = True
        return replay


class CudaCapture:
    """Captures on a stream of its own; all graphs of a run share memory, as only one of them is in use at a time."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def aside(self, step: Run) -> None:
        with torch.cuda.device(self._device):
            usual = torch.cuda.current_stream()
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                step()
            usual.wait_stream(self._stream)

    def record(self, step: Run, rngs: Sequence[torch.Generator]) -> Run:
        graph = torch.cuda.CUDAGraph()
        register = getattr(graph, "register_generator_state", None)
        before = [rng.clone_state() for rng in rngs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # later versions register by themselves, and say so
            for rng in rngs:
                if register is not None:
                    register(rng)
        try:
            with (
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
            ):
                step()
        except BaseException:
            for rng, state in zip(rngs, before, strict=True):
                rng.graphsafe_set_state(state)  # the state that took part in the capture may be unusable
            raise
        return _Paced(graph, self._device)


class _Paced:
    """Repeats a graph, at most `AHEAD` times in advance of the GPU."""

    def __init__(self, graph: torch.cuda.CUDAGraph, device: torch.device):
        self._graph, self._device = graph, device
        self._ended = [torch.cuda.Event() for _ in range(AHEAD)]

    def __call__(self) -> None:
        self._ended.append(oldest := self._ended.pop(0))
        oldest.synchronize()
        with torch.cuda.device(self._device):
            self._graph.replay()
            oldest.record()


def planned(device: torch.device, rendered: str = EAGER, wanted: str | None = None) -> str:
    """Name of the engine for a run: CUDA graphs on a CUDA GPU unless `wanted` is "eager", else that of the prior."""
    return CUDA_GRAPH if device.type == "cuda" and wanted != EAGER else rendered


def engine_for(device: torch.device, rendered: str = EAGER, wanted: str | None = None) -> Engine:
    """The engine of that name."""
    name = planned(device, rendered, wanted)
    return CudaGraphs(CudaCapture(device)) if name == CUDA_GRAPH else StepByStep(name)
