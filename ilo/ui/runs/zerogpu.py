"""Runs on ZeroGPU, where Hugging Face lends a Space a GPU for some seconds of each run.

The package `spaces` must be imported before torch (app.py does it). From then on the models seem to be on a GPU in this
process, but only a forked process has one, while it executes the one function that `spaces.GPU` decorates. The fork
shares no lock and no event with this process: everything that goes in and comes out is bytes, and the function is
stopped by closing its generator.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
import torch

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.priors.load import Model
from ilo.settings import SettingsError
from ilo.state import Step
from ilo.ui import text
from ilo.ui.runs.machine import News, Replica, facts_of, replicas
from ilo.ui.runs.order import Order

VARIABLE = "SPACES_ZERO_GPU"  # environment variable that such a Space sets
PLACES = 4  # runs that may ask for a GPU at the same time; ZeroGPU has a queue of its own
MOST_SECONDS = 120  # that a visitor may ask for
START_SECONDS = 15.0  # more than the steps take: the models are moved to the GPU, the first steps are slow
END_SECONDS = 5.0  # a run ends so long before its time is over, which also counts how long the move has taken
STEP_SECONDS = 0.03  # assumed time of a step, until a run has been measured
MARGIN = 1.5

log = logging.getLogger(__name__)


def active() -> bool:
    """Whether this process runs on ZeroGPU."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "t", "true")


class ZeroGpu:
    """The machine that is a GPU lent for each run. Several threads may use it at the same time.

    Make it in the main thread, before the page is launched: `spaces` collects the models at the launch.

    Args:
        models: the page's models, on the CPU.
        decorate: `spaces.GPU`, or what stands for it; None: `spaces.GPU`.
        device: where the forked process makes its runs.
    """

    def __init__(
        self,
        models: Sequence[Model],
        decorate: Callable[..., Any] | None = None,
        device: torch.device | str = "cuda",
    ):
        self._replicas: dict[str, Replica] = replicas(models, torch.device(device))
        if decorate is None:
            decorate = importlib.import_module("spaces").GPU  # app.py has imported it
        self._lent = decorate(duration=duration)(self._in_the_fork)
        self._step_seconds = dict.fromkeys(self._replicas, STEP_SECONDS)
        # The presets for a CPU, because a visitor's GPU time is short.
        presets = {model.id: model.preset for model in models}
        self.facts = replace(facts_of(self._replicas, None, "ZeroGPU"), presets=presets)

    def warm_up(self) -> None:
        """Nothing: a GPU is lent for a visitor's run only."""

    def solve(self, order: Order, stopping: Callable[[], bool]) -> Iterator[News]:
        """See `Machine.solve`; call it in the context of the visitor's request."""
        seconds = self.seconds(order)
        begin, steps = 0.0, 0
        stream = self._lent(packed(order), seconds)
        try:
            for packet in stream:
                news = pickle.loads(packet)
                if isinstance(news, SettingsError):
                    raise news
                yield news
                if stopping():
                    return
                if isinstance(news, Step):
                    begin, steps = begin or time.monotonic(), news.done
            if steps < order.total_steps:
                raise SettingsError(text.gpu_time_over(seconds))
            self._step_seconds[order.model] = (time.monotonic() - begin) / steps
        except gr.Error as error:
            log.warning("ZeroGPU: %s: %s", error.title, error)
            raise SettingsError(text.zerogpu(error.title, str(error.message))) from error
        finally:
            stream.close()

    def seconds(self, order: Order) -> int:
        """The GPU time to ask for."""
        steps = MARGIN * self._step_seconds[order.model] * order.total_steps
        return min(MOST_SECONDS, math.ceil(START_SECONDS + steps))

    def _in_the_fork(self, packet: bytes, seconds: int) -> Iterator[bytes]:
        end = time.monotonic() + seconds - END_SECONDS
        try:
            order: Order = _Unpickler(io.BytesIO(packet)).load()
            for news in self._replicas[order.model].solve(order, lambda: time.monotonic() > end):
                yield pickle.dumps(news)
        except SettingsError as error:
            yield pickle.dumps(error)


def duration(_packet: bytes, seconds: int) -> int:
    """Tells `spaces` how much GPU time a call needs."""
    return seconds


def packed(order: Order) -> bytes:
    """An order as bytes, with the names of classifiers instead of their weights."""
    file = io.BytesIO()
    _Pickler(file).dump(order)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        return obj.name if isinstance(obj, Classifier) else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Classifier:
        return _classifier(pid)


@functools.cache
def _classifier(name: str) -> Classifier:
    return classifier.load(name)
