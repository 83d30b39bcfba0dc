"""The compiled engine: machine code for a generator's forward and backward pass, kept between starts.

PyTorch's AOTInductor turns the two graphs of a layer into a package with a shared library. A run uses the packages of
its batch size if they are there; nothing is ever compiled while it runs. `python -m ilo compile` makes them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, get_args

import torch
from torch import Tensor
from torch.fx import GraphModule

from ilo.engine import private
from ilo.engine.engine import has_room
from ilo.priors.base import Prior
from ilo.priors.stylegan2 import network, ops, tracing
from ilo.priors.stylegan2.compiled import Compiled, Pass, Passes
from ilo.priors.stylegan2.prior import Model
from ilo.settings import Engine, SettingsError, SolverSettings, check_choice, check_whole
from ilo.weights import cache

VARIABLE = "ILO_ENGINE"  # environment variable that names the engine if nothing else does
BATCHES = (1, 4)  # batch sizes that the page has compiled
MOST_SAMPLES = 16  # of one batch that can be compiled
ROUNDS = 6  # layers 0 … 5, where the rounds of the presets begin; others run eagerly
MOST_BYTES = 64 << 20  # of a generator's weights: each package holds a copy, and larger networks gain less
OPTIONS = {"freezing": True}  # rearranges the weights of convolutions once
DAYS_KEPT = 30  # code of other versions of torch or of this program
PASSES = ("forward.pt2", "backward.pt2")

AnyPrior = TypeVar("AnyPrior", bound=Prior)

log = logging.getLogger(__name__)


class NotReadyError(Exception):
    """The compiled engine cannot be used, or its code cannot be made; the message says why in a few words."""


def folder() -> Path:
    """Where compiled code is kept."""
    return cache.folder() / "compiled"


def named(name: str | None = None) -> str:
    """The name of an engine; None: the value of the environment variable ILO_ENGINE, or "auto".

    Raises:
        SettingsError: there is no engine of this name.
    """
    name = name or os.environ.get(VARIABLE) or "auto"
    check_choice("The engine", name, get_args(Engine))
    return name


def chosen(prior: AnyPrior, settings: SolverSettings, batch: int, name: str | None = None) -> AnyPrior | Model:
    """The prior with the engine for a run.

    Args:
        prior: the generator.
        settings: of the run.
        batch: its number of samples.
        name: "eager"; "compiled"; or "auto", which is the compiled engine if its code is there. None: see `named`.

    Raises:
        SettingsError: there is no engine of this name, "compiled" is wanted and not there, or memory is too small.
    """
    name = named(name)
    if name == "eager":
        return prior
    try:
        if not isinstance(prior, Model) or not suits(prior, settings, batch):
            raise NotReadyError("it is for the CPU, in float32, and needs enough memory")
        return load(prior, batch)
    except NotReadyError as error:
        if name == "compiled":
            raise SettingsError(
                f"The compiled engine is not ready for {prior.id} and {batch} at once ({error}). "
                "Run `python -m ilo compile`, or choose the engine auto or eager."
            ) from None
        log.info("%s runs eagerly: %s", prior.id, error)
        return prior


def suits(prior: Prior, settings: SolverSettings, batch: int) -> bool:
    """Whether a run can use compiled code: on the CPU, in float32, and without the prior's frugal variant.

    Raises:
        SettingsError: the run does not fit into memory at all.
    """
    return prior.device.type == "cpu" and settings.dtype == "float32" and has_room(prior, settings, batch)


def batch_of(count: int, settings: SolverSettings) -> int:
    """Number of samples that a run solves at once for `count` measurements."""
    return max(count * settings.samples, len(settings.radius_scales))


def kept(model: Model, batch: int) -> bool:
    """Whether all code for a batch size has been compiled."""
    return all(_place(model, layer, batch).is_dir() for layer in layers(model))


def load(model: Model, batch: int) -> Model:
    """The model with its compiled code for a batch size.

    Raises:
        NotReadyError: the code is not there, or it cannot be used.
    """
    if not kept(model, batch):
        raise NotReadyError("its code has not been compiled")
    passes = {}
    for layer in layers(model):
        place = _place(model, layer, batch)
        try:
            forward, backward = (_loaded(place / name) for name in PASSES)
        except private.NotPrivateError as error:
            raise NotReadyError(f"its code is not loaded: {error}") from None
        except (OSError, RuntimeError, TypeError, AttributeError) as error:
            raise NotReadyError(f"its code cannot be loaded: {_first_line(error)}") from None
        passes[layer] = Passes(forward, backward)
    return replace(model, compiled=Compiled(batch, passes))


def build(model: Model, batch: int) -> Iterator[tuple[int, float]]:
    """Compile what is missing for a batch size, and keep it; yields layers and the seconds that each took.

    Raises:
        NotReadyError: this machine cannot compile, or compiling failed.
        SettingsError: the batch size is not allowed.
    """
    check_whole("The batch", batch, 1, MOST_SAMPLES)
    check(model)
    try:
        private.make(folder())
        _forget_old()
        with _workplace() as work:
            for layer in layers(model):
                place = _place(model, layer, batch)
                start = time.perf_counter()
                if not place.is_dir():
                    _compile(model, layer, batch, work / str(layer))
                    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _keep(work / str(layer), place)
                yield layer, time.perf_counter() - start
    except (private.NotPrivateError, OSError) as error:
        raise NotReadyError(f"compiled code cannot be kept: {error}") from None


def check(model: Model) -> None:
    """Raises `NotReadyError` if the model cannot be compiled on this machine."""
    size = sum(p.numel() * p.element_size() for p in model.generator.synthesis.parameters())
    if model.device.type != "cpu":
        raise NotReadyError("the compiled engine is for the CPU")
    if size > MOST_BYTES:
        raise NotReadyError(f"{model.id} has {size >> 20} MB of weights; at most {MOST_BYTES >> 20} are compiled")
    compiler = os.environ.get("CXX") or "g++"
    if platform.system() != "Linux" or shutil.which(compiler) is None:
        raise NotReadyError("there is no C++ compiler (g++ on Linux)")


def layers(model: Model) -> range:
    """The layers with compiled code."""
    return range(min(ROUNDS, model.layers))


def _compile(model: Model, layer: int, batch: int, place: Path) -> None:
    """Compile both passes of a layer into a new folder."""
    config = model.generator.config
    place.mkdir()
    graphs = tracing.trace(model.generator, layer, batch)
    values = tracing.examples(config, layer, batch)
    forward, backward = (place / name for name in PASSES)
    with torch.no_grad():
        _package(graphs.forward, values, forward)
        _, *kept = _loaded(forward)(values)  # the backward pass is compiled for their layout in memory
        gradient = torch.zeros(batch, 3, config.img_resolution, config.img_resolution)
        _package(graphs.backward, [*kept, gradient], backward)


def _keep(made: Path, place: Path) -> None:
    """Move a folder to its place, unless another process was faster."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _package(graph: GraphModule, values: Sequence[Tensor], path: Path) -> None:
    from torch._inductor import aoti_compile_and_package

    try:
        exported = torch.export.export(graph, tuple(values), strict=False)
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=dict(OPTIONS))  # it adds some
    except Exception as error:  # the compiler's errors have no common class
        raise NotReadyError(f"compiling failed ({_first_line(error)})") from error
    path.chmod(0o600)


def _loaded(path: Path) -> Pass:
    """Load a package. Raises `NotPrivateError` if somebody else could have written it."""
    private.check(path)
    # What torch._inductor.aoti_load_package calls after a second of imports.
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1).boxed_run


def _place(model: Model, layer: int, batch: int) -> Path:
    return folder() / _machine() / f"{_fingerprint(model)}-{layer}-{batch}"


def _machine() -> str:
    """Digest of all that changes the code, apart from the model: versions, processor, number of threads."""
    sources = [Path(module.__file__ or "").read_bytes() for module in (ops, network, tracing)]
    facts = [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        _processor(),
        torch.get_num_threads(),
        OPTIONS,
        hashlib.sha256(b"".join(sources)).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@functools.cache
def _processor() -> list[str]:
    """Name and abilities of the processor."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return [platform.processor()]


def _fingerprint(model: Model) -> str:
    """Digest of the weights and the configuration."""
    digest = hashlib.sha256(repr(model.generator.config).encode())
    for name, value in model.generator.synthesis.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


@contextmanager
def _workplace() -> Iterator[Path]:
    """A temporary folder for the compiler, which shares none of its files with other programs."""
    from torch._inductor import config

    name, threads = "TORCHINDUCTOR_CACHE_DIR", config.compile_threads
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(dir=folder(), prefix="work-") as work:
        os.environ[name] = str(Path(work) / "inductor")
        config.compile_threads = 1
        try:
            yield Path(work)
        finally:
            config.compile_threads = threads
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def _forget_old() -> None:
    """Delete the code of other versions, and what interrupted compilers left, after `DAYS_KEPT` days."""
    current = _machine()
    for other in folder().iterdir():
        if other.name != current and time.time() - other.stat().st_mtime > DAYS_KEPT * 86400:
            shutil.rmtree(other, ignore_errors=True)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
