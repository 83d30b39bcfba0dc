"""Runs on ZeroGPU, with a stand-in for `spaces.GPU` that calls the function in a forked process, as that does."""

import multiprocessing
import pickle
import threading
import time
from contextvars import ContextVar
from dataclasses import replace
from functools import partial

import gradio as gr
import numpy as np
import pytest
import torch

from ilo.classifiers import classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.operators import Identity
from ilo.problem import Problem
from ilo.settings import RoundSettings, SolverSettings
from ilo.ui import text
from ilo.ui.runs import zerogpu
from ilo.ui.runs.line import Runs
from ilo.ui.runs.machine import OneDevice
from ilo.ui.runs.order import Order
from ilo.ui.runs.zerogpu import MOST_SECONDS, ZeroGpu, packed
from ilo.ui.visitors.limits import Limits
from tests.forged import wait_until

FORK = multiprocessing.get_context("fork")
LONG = SolverSettings((RoundSettings(4_000),))
SHORT = SolverSettings((RoundSettings(20), RoundSettings(5)))
visitor = ContextVar("visitor", default="nobody")


class Lent:
    """Stands for `spaces.GPU`: notes what was asked for, and every process and packet."""

    def __init__(self):
        self.calls, self.processes, self.packets = [], [], []

    def __call__(self, duration):
        def decorate(task):
            def call(*arguments):
                self.calls.append((visitor.get(), duration(*arguments)))
                ours, theirs = FORK.Pipe()
                stopping = FORK.Event()
                process = FORK.Process(target=_serve, args=(task, pickle.dumps(arguments), theirs, stopping))
                process.start()
                self.processes.append(process)
                theirs.close()
                try:
                    while (packet := pickle.loads(ours.recv_bytes())) is not None:
                        if isinstance(packet, Exception):
                            raise gr.Error(type(packet).__name__, title="ZeroGPU worker error", print_exception=False)
                        self.packets.append(packet)
                        yield packet
                finally:
                    stopping.set()
                    process.join(20)

            return call

        return decorate


def _serve(task, arguments, pipe, stopping):
    """In the forked process: the task runs in a new thread, whose values go through the pipe."""

    def iterate():
        torch.set_num_threads(1)
        stream = task(*pickle.loads(arguments))
        try:
            for value in stream:
                if stopping.is_set():
                    stream.close()
                    break
                pipe.send_bytes(pickle.dumps(value))
            pipe.send_bytes(pickle.dumps(None))
        except Exception as error:
            pipe.send_bytes(pickle.dumps(error))

    thread = threading.Thread(target=iterate)
    thread.start()
    thread.join()


def order(model, settings=SHORT, problem=None):
    picture = torch.zeros(1, 3, model.resolution, model.resolution)
    problem = problem or Problem.damage(picture, Identity(resolution=model.resolution))
    return Order(problem, settings, picture, True, model.id)


@pytest.fixture
def lent():
    return Lent()


@pytest.fixture
def runs(model, lent):
    machine = ZeroGpu([model], lent, "cpu")
    made = Runs([lambda: machine] * 2)
    yield made
    made.close()


def ended(run):
    return wait_until(lambda: not run.live, 40)


def test_a_run_in_the_fork_gives_the_same_pixels(model, runs, lent, monkeypatch):
    monkeypatch.setattr(zerogpu, "START_SECONDS", 100.0)  # busy cores may need longer than a GPU
    run = runs.start("a", order(model))
    here = Runs([partial(OneDevice, [model])])
    same = here.start("a", order(model))
    assert ended(run)
    assert ended(same)
    here.close()
    assert run.status == same.status == "done"
    assert torch.equal(run.recorder.result.image, same.recorder.result.image)
    assert run.recorder.recipe == same.recorder.recipe
    np.testing.assert_array_equal(run.recorder.trace, same.recorder.trace)
    assert {type(packet) for packet in lent.packets} == {bytes}
    assert not lent.processes[0].is_alive()


def test_stop_ends_the_process_and_keeps_a_result(model, runs, lent):
    run = runs.start("a", order(model, LONG))
    assert wait_until(lambda: run.step is not None and run.step.done > 1, 40)
    runs.stop("a")
    assert ended(run)
    assert (run.status, run.error) == ("stopped", None)
    assert run.step.done == run.recorder.stopped_at
    assert run.step.result is run.recorder.result
    assert not lent.processes[0].is_alive()
    after = runs.start("a", order(model))
    assert ended(after)
    assert after.status == "done"


def test_runs_go_at_the_same_time_each_in_its_own_request(model, runs, lent):
    visitor.set("first")
    first = runs.start("a", order(model, LONG))
    visitor.set("second")
    second = runs.start("b", order(model, LONG))
    visitor.set("somebody else")
    assert wait_until(lambda: first.step is not None and second.step is not None, 40)
    assert sorted(who for who, _ in lent.calls) == ["first", "second"]
    third = runs.start("c", order(model))
    assert runs.ahead(third) == 1
    for session in "abc":
        runs.stop(session)
    assert all(ended(run) for run in (first, second, third))


def test_the_time_grows_with_the_steps_and_follows_what_was_measured(model, runs, lent):
    machine = ZeroGpu([model], Lent(), "cpu")
    few, many = (machine.seconds(order(model, SolverSettings((RoundSettings(n),)))) for n in (100, 1_000))
    assert zerogpu.START_SECONDS < few < many < MOST_SECONDS
    assert machine.seconds(order(model, LONG)) == MOST_SECONDS
    *_, last = machine.solve(order(model), lambda: False)
    assert last.done == 25
    assert machine.seconds(order(model, SolverSettings((RoundSettings(1_000),)))) != many
    assert ended(runs.start("a", order(model)))
    assert lent.calls[0][1] == machine.__class__([model], Lent(), "cpu").seconds(order(model))


def test_a_run_ends_before_its_time_is_over(model, runs, lent, monkeypatch):
    monkeypatch.setattr(zerogpu, "END_SECONDS", 119)
    began = time.monotonic()
    run = runs.start("a", order(model, LONG))
    assert ended(run)
    assert time.monotonic() - began < 30
    assert (run.status, run.error) == ("failed", text.gpu_time_over(120))
    assert run.step.done == run.recorder.stopped_at > 0


def test_what_the_fork_refuses_is_said_in_its_words(model, runs):
    settings = SolverSettings((RoundSettings(1),) * 9)
    run = runs.start("a", order(model, settings))
    assert ended(run)
    assert run.status == "failed"
    assert "at most 5" in run.error


def test_what_fails_in_the_fork_is_one_sentence_and_the_next_run_goes_on(model, runs, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr("ilo.ui.runs.machine.solve", broken)
        run = runs.start("a", order(model))
        assert ended(run)
    assert run.error == text.zerogpu("ZeroGPU worker error", "RuntimeError")
    after = runs.start("a", order(model))
    assert ended(after)
    assert after.status == "done"


def test_a_morph_names_its_classifier_instead_of_sending_it(model, runs, lent):
    guide = classifier.load("robust64")
    problem = Guidance(guide, {"goldfish": 1.0})
    asked = order(model, morph_preset(layers=model.layers), problem)
    assert len(packed(asked)) < 200_000 < sum(weight.nbytes for weight in guide.network.state_dict().values())
    run = runs.start("a", Order(problem, morph_preset(layers=model.layers), None, False, model.id))
    assert wait_until(lambda: run.step is not None and run.step.done > 3, 60)
    runs.stop("a")
    assert ended(run)
    assert run.status == "stopped"


@pytest.mark.parametrize("title", [*text.ZEROGPU, "ZeroGPU something new"])
def test_a_refusal_of_zerogpu_becomes_a_sentence_with_the_way_out(model, title):
    def refuse(duration):
        def decorate(task):
            def call(*_):
                raise gr.Error("You have exceeded your quota (<b>60s</b> requested vs. 3s left).", title=title)
                yield

            return call

        return decorate

    machine = ZeroGpu([model], refuse, "cpu")
    runs = Runs([lambda: machine], Limits())
    try:
        run = runs.start("a", order(model))
        assert ended(run)
        assert run.status == "failed"
        assert "(You have exceeded your quota (<b>60s</b> requested vs. 3s left))" in run.error
        assert run.error.endswith(text.ZEROGPU.get(title, ("", "Try again in a minute."))[1])
        runs.check_line()  # the machine is still there
    finally:
        runs.close()


def test_it_suggests_the_short_preset(model):
    machine = ZeroGpu([replace(model, id="ffhq-1024")], Lent(), "meta")
    assert machine.facts.presets == {"ffhq-1024": "Quick"}
    assert OneDevice([replace(model, id="ffhq-1024")], torch.device("meta")).facts.presets == {"ffhq-1024": "Paper"}
    assert machine.facts.free() is None


def test_zerogpu_is_known_by_its_variable(monkeypatch):
    for value, wanted in (("", False), ("false", False), ("true", True), ("1", True)):
        monkeypatch.setenv(zerogpu.VARIABLE, value)
        assert zerogpu.active() is wanted
    monkeypatch.delenv(zerogpu.VARIABLE)
    assert not zerogpu.active()
