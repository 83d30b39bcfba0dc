"""Compiling while the page already serves: in a process of its own, with the lowest priority."""

from __future__ import annotations

import atexit
import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from ilo.engine import compiling, memory
from ilo.engine.compiling import NotReadyError
from ilo.priors.stylegan2.prior import Model
from ilo.settings import SolverSettings

ROOM = 2e9  # bytes of free memory for a compiler beside the page
ROOT = Path(__file__).parents[2]

_one_compiler = threading.Lock()  # for several models: the page needs the cores, too
log = logging.getLogger(__name__)


class Background:
    """A model's compiled variants, each from when it is ready. Any thread may ask for them.

    Args:
        model: the generator.
        batches: batch sizes, the most urgent first.
    """

    def __init__(self, model: Model, batches: Sequence[int] = compiling.BATCHES):
        self._model, self._batches, self._threads = model, batches, torch.get_num_threads()
        self._ready: dict[int, Model] = {}
        self._process: subprocess.Popen[str] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="compiling", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def model(self, settings: SolverSettings, batch: int) -> Model:
        """The model for a run: compiled if that is ready and suits the run, else as it is.

        Raises:
            SettingsError: the run does not fit into memory.
        """
        ready = self._ready.get(batch)
        return ready if ready is not None and compiling.suits(self._model, settings, batch) else self._model

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is ready or has failed; False if that takes longer than `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop compiling."""
        self._closing.set()
        if self._process is not None:
            self._process.terminate()

    def _prepare(self) -> None:
        try:
            for batch in self._batches:
                if not compiling.kept(self._model, batch):
                    with _one_compiler:
                        self._compile(batch)
                if self._closing.is_set():
                    return
                self._ready[batch] = compiling.load(self._model, batch)
                log.info("%s is compiled for %d at once", self._model.id, batch)
        except (NotReadyError, OSError) as error:
            log.info("%s goes on running eagerly: %s", self._model.id, error)

    def _compile(self, batch: int) -> None:
        compiling.check(self._model)
        if memory.available(self._model.device) < ROOM:
            raise NotReadyError(f"compiling needs {memory.gigabytes(round(ROOM))} of free memory")
        command = [sys.executable, "-m", "ilo", "compile", "--background", "--model", str(self._model.path.resolve())]
        command += ["--batch", str(batch), "--threads", str(self._threads)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if self._closing.is_set():
            self._process.terminate()
        _, complaints = self._process.communicate()
        if self._process.returncode != 0 and not self._closing.is_set():
            raise NotReadyError(complaints.strip().splitlines()[-1][:300] if complaints.strip() else "compiling failed")
