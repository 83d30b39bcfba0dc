"""Steps that are captured once and repeated give what steps run one by one give. A stand-in captures on the CPU."""

import logging
import threading
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ilo import Problem, load, objective, preset, projection, solve
from ilo.engine import graph
from ilo.engine.graph import CUDA_GRAPH, EAGER, WARM_UP, CudaGraphs, StepByStep, engine_for
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.operators import OPERATORS, nominal
from ilo.perceptual.classifier_features import robust_features


class Tape(TorchDispatchMode):
    """Records operations with the very tensors they read and write, and repeats them without any Python of the step.

    As in a CUDA graph, numbers that the step computed in Python are frozen, and results keep their place in memory.
    """

    def __init__(self):
        super().__init__()
        self.entries, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for argument, value in zip(
            func._schema.arguments, [*args, *[None] * len(func._schema.arguments)], strict=False
        ):
            value = kwargs.get(argument.name, value)
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    self.before.setdefault(tensor.untyped_storage().data_ptr(), (tensor, tensor.clone()))
        found = func(*args, **kwargs)
        writes = any(a.alias_info is not None for a in func._schema.arguments)
        self.entries.append((func, args, kwargs, None if writes else found))
        return found

    def undo(self):
        for tensor, value in reversed(self.before.values()):
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, places in self.entries:
            found = func(*args, **kwargs)
            if places is None:
                continue
            several = isinstance(places, (list, tuple))
            for place, value in zip(places if several else [places], found if several else [found], strict=True):
                if isinstance(place, torch.Tensor):
                    place.copy_(value)


class TapeCapture:
    """Captures on the CPU. The step runs while it is recorded, and all that it changed is put back."""

    def __init__(self):
        self.aside_steps = self.records = self.replays = 0

    def aside(self, step):
        self.aside_steps += 1
        step()

    def record(self, step, rngs):
        self.records += 1
        states = [rng.get_state() for rng in rngs]
        tape = Tape()
        with tape:
            step()
        with torch.no_grad():
            tape.undo()
        for rng, state in zip(rngs, states, strict=True):
            rng.set_state(state)

        def replay():
            self.replays += 1
            tape.replay()

        return replay


class Broken(TapeCapture):
    def record(self, step, rngs):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.fixture(scope="module")
def lean():
    """The model as on a GPU."""
    model = load()
    model.generator.freeze(few_launches=True)
    return model


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """No branch of the step looks at a value, for a graph could not."""
    monkeypatch.setattr(projection, "project_l1_newton", projection.project_l1_sorting)
    monkeypatch.setattr(objective, "geodesic", objective._Geodesic.apply)


STEPS = WARM_UP + 5


def short(settings, **changes):
    return replace(settings, rounds=tuple(replace(plan, steps=STEPS, **changes) for plan in settings.rounds[:2]))


def run(model, problem, settings, engine, monkeypatch, perceptual=None, **options):
    monkeypatch.setattr("ilo.solver.engine_for", lambda device, rendered, wanted: engine)
    return list(solve(model, problem, settings, due=lambda: True, perceptual=perceptual, **options))


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.round, a.step, a.done, a.first, a.projected) == (b.round, b.step, b.done, b.first, b.projected)
        assert a.trace.tobytes() == b.trace.tobytes(), (a.round, a.step)
        assert (a.previews == b.previews).all()
    last, expected = one[-1].result, other[-1].result
    assert torch.equal(last.image, expected.image)
    for name, value in expected.state.values.items():
        assert torch.equal(last.state.values[name], value), name


def problem_of(model, task, batch=1):
    with torch.no_grad():
        truth = model.render(model.draw(1, batch), preset()).clamp(-1, 1)
    return Problem.damage(truth, nominal(task, 64, OPERATORS[task].suggested(64)))


@pytest.mark.parametrize("case", ["plain", "batch", "samples", "noise", "range", "views"])
def test_repeating_gives_what_running_gives(lean, guide, monkeypatch, case):
    settings, perceptual = short(preset()), None
    problem = problem_of(lean, "random-inpaint", 2 if case == "batch" else 1)
    if case == "samples":
        settings = replace(settings, samples=4)
    if case == "noise":
        problem, perceptual = problem_of(lean, "denoise"), robust_features()
    if case == "range":
        settings = short(preset(), outer_iterations=2, range_steps=STEPS)
    if case == "views":
        problem, settings = Guidance(guide, {"goldfish": 1.0}, views=2), short(morph_preset(layers=lean.layers))
    capture = TapeCapture()
    engine = CudaGraphs(capture)
    repeated = run(lean, problem, settings, engine, monkeypatch, perceptual)
    assert_same(repeated, run(lean, problem, settings, StepByStep(), monkeypatch, perceptual))
    searches = 4 if case == "range" else 2  # of layers; round 0 projects to no range
    projections = 1 if case == "range" else 0
    assert capture.records == searches + projections
    assert capture.aside_steps == WARM_UP * capture.records
    assert capture.replays == searches * (STEPS - 1 - WARM_UP) + projections * (STEPS - WARM_UP)
    assert repeated[-1].result.engine == CUDA_GRAPH


def test_a_stopped_run_is_replayed(lean, monkeypatch):
    problem, settings = problem_of(lean, "random-inpaint"), short(preset())
    stopped = run(lean, problem, settings, CudaGraphs(TapeCapture()), monkeypatch, stop_at=STEPS + 6)
    assert stopped[-1].done == STEPS + 6
    assert_same(stopped, run(lean, problem, settings, StepByStep(), monkeypatch, stop_at=STEPS + 6))


def test_without_a_capture_the_run_goes_on(lean, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ilo.engine.graph")
    problem, settings = problem_of(lean, "random-inpaint"), short(preset())
    steps = run(lean, problem, settings, CudaGraphs(Broken()), monkeypatch)
    assert_same(steps, run(lean, problem, settings, StepByStep(), monkeypatch))
    assert steps[-1].result.engine == EAGER
    assert [r.getMessage() for r in caplog.records] == [
        "The steps run without a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_errors_of_the_program_are_not_hidden():
    class Wrong(TapeCapture):
        def record(self, step, rngs):
            raise TypeError("a mistake")

    step = CudaGraphs(Wrong()).repeated(lambda: None)
    for _ in range(WARM_UP):
        step()
    with pytest.raises(TypeError, match="a mistake"):
        step()


def test_one_capture_at_a_time():
    inside, most, entered = [], [], threading.Event()

    class Slow(TapeCapture):
        def record(self, step, rngs):
            inside.append(1)
            most.append(len(inside))
            entered.wait(0.2)
            inside.pop()
            return step

    def work():
        step = CudaGraphs(Slow()).repeated(lambda: None)
        for _ in range(WARM_UP + 2):
            step()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_the_engine_for_a_device(monkeypatch):
    monkeypatch.setattr(graph, "CudaCapture", lambda device: TapeCapture())
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert isinstance(engine_for(cpu), StepByStep)
    assert isinstance(engine_for(cpu, EAGER, CUDA_GRAPH), StepByStep)
    assert isinstance(engine_for(gpu), CudaGraphs)
    assert isinstance(engine_for(gpu, EAGER, CUDA_GRAPH), CudaGraphs)
    assert isinstance(engine_for(gpu, EAGER, EAGER), StepByStep)
