"""Several machines take runs from one queue, and what happens when one of them fails."""

import html
import threading
import time
import weakref
from contextvars import ContextVar
from functools import partial

import pytest
import torch

import app
from ilo.engine import devices
from ilo.engine.devices import Choice
from ilo.operators import Identity
from ilo.problem import Problem
from ilo.settings import RoundSettings, SettingsError, SolverSettings
from ilo.ui import examples, text
from ilo.ui.runs import machine, places
from ilo.ui.runs.line import Runs
from ilo.ui.runs.machine import CPU, Facts, OneDevice, damage
from ilo.ui.runs.order import Order
from ilo.ui.studio.handlers import Studio
from ilo.ui.visitors.limits import Limits
from tests.forged import wait_until
from tests.machines import Plain

SHORT = SolverSettings((RoundSettings(20),))
LONG = SolverSettings((RoundSettings(4_000),))
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
CUDA_ERROR = RuntimeError("CUDA error: an illegal memory access was encountered")


def order(model, settings=LONG):
    picture = torch.zeros(1, 3, model.resolution, model.resolution)
    return Order(Problem.damage(picture, Identity(resolution=model.resolution)), settings, picture, True, model.id)


class Breaking(Plain):
    """The CPU, whose first run fails with an error after its first step; `made` counts how often it was made."""

    def __init__(self, model, error, made):
        super().__init__(model)
        made.append(self)
        self._error = error if len(made) == 1 else None
        self._made = made

    def solve(self, order, stopping):
        for news in super().solve(order, stopping):
            yield news
            if self._error is not None and not hasattr(news, "task"):
                self._made[:] = [None] * len(self._made)  # so that only the queue holds the machine
                raise type(self._error)(*self._error.args)


@pytest.fixture
def lines():
    """Makes queues, and closes them at the end."""
    opened = []

    def open_line(*makers, **limits):
        opened.append(Runs(makers, Limits(**limits)))
        return opened[-1]

    yield open_line
    for runs in opened:
        runs.close()


def ended(run):
    return wait_until(lambda: not run.live, 30)


def test_two_visitors_are_served_at_the_same_time_and_a_third_one_waits(model, lines):
    runs = lines(partial(Plain, model), partial(Plain, model), waiting=1)
    first, second = (runs.start(name, order(model)) for name in "ab")
    assert wait_until(lambda: first.step is not None and second.step is not None, 30)
    assert first.status == second.status == "running"
    assert runs.start("a", order(model)) is None  # one run per session
    third = runs.start("c", order(model, SHORT))
    assert [runs.ahead(run) for run in (first, second, third)] == [0, 0, 1]
    with pytest.raises(SettingsError, match="1 runs are already waiting"):
        runs.start("d", order(model))
    with pytest.raises(SettingsError, match="this page allows 5,000"):
        runs.start("e", order(model, SolverSettings((RoundSettings(5_001),))))
    runs.stop("b")
    assert ended(second)
    assert (second.status, second.recorder.stopped_at) == ("stopped", second.step.done)
    assert ended(third)
    assert third.status == "done"
    assert first.live


def test_runs_start_in_the_order_of_the_queue(model, lines):
    runs = lines(partial(Plain, model), partial(Plain, model))
    asked = [runs.start(f"visitor {i}", order(model, SHORT)) for i in range(7)]
    assert all(ended(run) for run in asked)
    began = [run.started for run in asked]
    assert began == sorted(began)
    assert {run.status for run in asked} == {"done"}


def test_every_machine_gives_a_turn_to_who_waits(model, lines):
    runs = lines(partial(Plain, model), partial(Plain, model), turn_seconds=0.5)
    first, second, third = (runs.start(name, order(model)) for name in "abc")
    assert wait_until(lambda: third.step is not None, 30)
    assert first.turn_over or second.turn_over
    assert not third.turn_over


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, CUDA_ERROR])
def test_a_machine_that_fails_is_replaced_while_its_device_works(model, lines, error):
    made = []
    runs = lines(partial(Breaking, model, error, made), partial(Plain, model))
    asked = [runs.start(name, order(model)) for name in "ab"]
    assert wait_until(lambda: any(not run.live for run in asked), 30)
    (failed,) = (run for run in asked if not run.live)
    assert (failed.status, failed.error) == ("failed", text.DAMAGED[damage(error)])
    assert failed.recorder.result is not None  # its best picture is kept
    again = [runs.start(name, order(model, SHORT)) for name in "cd"]
    assert all(ended(run) for run in again)
    assert [run.status for run in again] == ["done", "done"]
    assert len(made) == 2
    assert sum(run.live for run in asked) == 1  # the other machine has gone on


def test_a_device_that_has_failed_is_not_used_any_more(model, lines, monkeypatch, caplog):
    monkeypatch.setattr(devices, "failure", lambda name: "it has gone")
    made = []
    runs = lines(partial(Breaking, model, CUDA_ERROR, made), partial(Plain, model), waiting=0)
    asked = [runs.start(name, order(model)) for name in "ab"]
    assert wait_until(lambda: "cpu (the CPU) is not used any more: it has gone." in caplog.text, 30)
    assert len(made) == 1
    (alive,) = (run for run in asked if run.live)
    with pytest.raises(SettingsError, match="0 runs are already waiting"):  # one machine is left
        runs.start("c", order(model))
    alive.stop()
    assert ended(alive)
    last = runs.start("d", order(model, SHORT))
    assert ended(last)
    assert last.status == "done"


def test_without_any_machine_the_queue_says_so(model, lines, monkeypatch):
    monkeypatch.setattr(devices, "failure", lambda name: "it has gone")
    runs = lines(partial(Breaking, model, CUDA_ERROR, []))
    asked = [runs.start(name, order(model)) for name in "abc"]
    assert all(ended(run) for run in asked)
    assert [run.error for run in asked] == [text.DAMAGED["device"], text.NO_MACHINE, text.NO_MACHINE]
    for call in (runs.check_line, partial(runs.start, "d", order(model))):
        with pytest.raises(SettingsError, match="No device of this page works"):
            call()


def test_a_machine_that_cannot_be_made_again_is_given_up(model, lines, caplog):
    made = []

    def make():
        if made:
            raise SettingsError("There is no memory.")
        return Breaking(model, OUT_OF_MEMORY, made)

    runs = lines(make)
    assert ended(runs.start("a", order(model)))
    assert wait_until(lambda: "not used any more: There is no memory." in caplog.text, 30)
    with pytest.raises(SettingsError, match="No device"):
        runs.check_line()


def test_the_page_shows_what_a_failed_run_had_found(model, lines, values, tmp_path):
    studio = Studio(model, examples.load(), lines(partial(Breaking, model, OUT_OF_MEMORY, [])), tmp_path)
    *_, last = studio.run({**values, "rounds": 1, "0.steps": 500}, "a")
    stage, _, _, panel, notice, run, stop, _ = last
    assert html.escape(text.DAMAGED["memory"]) in notice
    assert "compare-cut" in stage
    assert "Stopped" in panel
    assert (run.interactive, stop.interactive) == (True, False)
    *_, last = studio.run({**values, "rounds": 1, "0.steps": 5}, "a")
    assert "Done" in last[3]


def test_the_page_answers_when_no_device_works_any_more(model, lines, values, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "failure", lambda name: "it has gone")
    studio = Studio(model, examples.load(), lines(partial(Breaking, model, CUDA_ERROR, [])), tmp_path)
    *_, last = studio.run({**values, "rounds": 1, "0.steps": 500}, "a")
    assert html.escape(text.DAMAGED["device"]) in last[4]
    assert wait_until(lambda: "No device of this page works" in list(studio.run(values, "a"))[-1][4], 10)
    assert "data:image" in studio.preview(values, "a")[0]


def test_a_bug_does_not_cost_a_machine(model, lines):
    made = []
    runs = lines(partial(Breaking, model, ValueError("a bug"), made))
    failed = runs.start("a", order(model))
    assert ended(failed)
    assert (failed.status, failed.error) == ("failed", None)
    after = runs.start("b", order(model, SHORT))
    assert wait_until(lambda: after.step is not None or not after.live, 30)
    assert len(made) == 1


def test_a_failed_machine_is_freed_before_the_next_one_is_made(model, lines):
    alive, seen = [], []

    class Watched(Breaking):
        def __init__(self):
            seen.append([each() is not None for each in alive])
            super().__init__(model, CUDA_ERROR, made)
            alive.append(weakref.ref(self))

    made = []
    runs = lines(Watched)
    assert ended(runs.start("a", order(model)))
    assert wait_until(lambda: len(seen) == 2, 30)
    assert seen[1] == [False]


def test_what_an_error_says_about_the_machine():
    assert damage(OUT_OF_MEMORY) == damage(MemoryError()) == "memory"
    assert damage(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")) == "memory"
    assert damage(RuntimeError("CUDA error: out of memory")) == "memory"
    assert damage(CUDA_ERROR) == damage(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")) == "device"
    assert damage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert damage(SettingsError("CUDA")) is None


def test_models_that_do_not_fit_give_a_sentence(model, monkeypatch):
    def full(*_):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(machine, "_on", full)
    with pytest.raises(SettingsError, match=r"cannot be put on cuda:7 .CUDA out of memory.*choose another device"):
        OneDevice([model], torch.device("cuda:7"))


# Which devices.


@pytest.fixture
def gpus(monkeypatch):
    """A machine with two GPUs, of which the second is busy."""

    def choose(name):
        if name == "cuda:1":
            raise SettingsError("The device cuda:1 cannot be used (it is busy); this machine has cpu, cuda:0.")
        return Choice(torch.device({None: "cuda:0", "auto": "cuda:0", "cuda": "cuda:0"}.get(name, name)))

    monkeypatch.setattr(devices, "choose", choose)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_devices_are_named_once(gpus):
    assert places.chosen(None, None) == [torch.device("cuda:0")]
    assert places.chosen("cpu", None) == [CPU]
    assert places.chosen(None, "cuda:0, cpu") == [torch.device("cuda:0"), CPU]
    for names, words in (
        ("cpu,cpu", "name cpu twice"),
        ("cuda:0,cuda:0", "name cuda:0 twice"),
        ("cuda,cuda:0", "name cuda:0 twice"),
        ("cpu,", "with commas between them"),
        ("all", "it is busy"),
    ):
        with pytest.raises(SettingsError, match=words):
            places.chosen(None, names)
    with pytest.raises(SettingsError, match="use one of them"):
        places.chosen("cpu", "cuda:0")


def test_all_means_the_cpu_where_no_gpu_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(devices, "failure", lambda name: None if name == "cpu" else "none")
    assert places.chosen(None, "all") == [CPU]


@pytest.mark.parametrize("names", ["cpu,cpu", "cuda:77", "cpu,nonsense", "tpu", "cpu,,"])
def test_devices_that_cannot_be_used_give_one_line_and_code_2(names, capsys):
    assert app.main(["--devices", names]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_space_names_its_devices_and_models_by_variables(monkeypatch, capsys):
    monkeypatch.setenv("ILO_DEVICES", "cpu,cpu")
    monkeypatch.setenv("ILO_MODEL", "faces64, ffhq-256")
    assert app.arguments([]).model == ["faces64", "ffhq-256"]
    assert app.arguments(["--model", "a", "--model", "b"]).model == ["a", "b"]
    assert app.main(["--model", "faces64"]) == 2
    assert "cpu twice" in capsys.readouterr().err
    assert app.main(["--model", "faces64", "--model", "faces64"]) == 2
    assert "Two models are named faces64" in capsys.readouterr().err


def test_equal_devices_are_counted():
    assert text.together(["NVIDIA H200", "NVIDIA H200", "2 CPU cores"]) == "2 × NVIDIA H200 and 2 CPU cores"
    assert Facts(None, "ZeroGPU", {}, None, ("float32",)).free() is None
    assert Facts(CPU, "the CPU", {}, None, ("float32",)).free() > 0


def test_a_run_holds_the_context_of_its_request(model, lines):
    visitor, seen = ContextVar("visitor"), []

    class Asking(Plain):
        def solve(self, order, stopping):
            seen.append((visitor.get(None), threading.current_thread().name))
            yield from super().solve(order, stopping)

    runs = lines(partial(Asking, model))
    visitor.set("me")
    run = runs.start("a", order(model, SHORT))
    visitor.set("somebody else")
    assert ended(run)
    assert seen == [("me", "solver")]
    assert time.monotonic() > run.ended
