"""A few steps of everything on a CUDA GPU. Without one, these tests are skipped."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from ilo import Problem, load, preset, solve
from ilo.classifiers import classifier
from ilo.engine import devices
from ilo.guidance import Guidance
from ilo.methods import METHODS, MORPH_METHODS, morph_preset
from ilo.morph import morph
from ilo.operators import OPERATORS, nominal
from ilo.perceptual.classifier_features import robust_features
from ilo.settings import Dtype

REASON = devices.failure("cuda")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CUDA GPU works here: {REASON}")
DTYPES = get_args(Dtype)


@pytest.fixture(scope="module")
def gpu():
    return load(device="cuda")


@pytest.fixture(scope="module")
def truth(gpu):
    with torch.no_grad():
        return gpu.render(gpu.draw(1, 2), preset()).clamp(-1, 1)


def short(settings, steps=3):
    return replace(settings, rounds=tuple(replace(plan, steps=steps) for plan in settings.rounds))


def problem_of(task, truth):
    operator = nominal(task, truth.shape[-1], OPERATORS[task].suggested(truth.shape[-1]))
    return Problem.damage(truth, operator)


def ended(steps):
    *_, last = steps
    assert torch.isfinite(last.result.image).all()
    assert last.result.image.device.type == "cpu"
    return last.result


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", OPERATORS)
def test_every_task_is_solved(gpu, truth, task, dtype, method):
    problem = problem_of(task, truth)
    settings = short(preset(method=method, operator=problem.operator, prior=gpu))
    ended(solve(gpu, problem, replace(settings, dtype=dtype), perceptual=robust_features("cuda")))


@pytest.mark.parametrize("task", OPERATORS)
def test_measuring_and_its_adjoint_stay_on_the_gpu(truth, task):
    operator = problem_of(task, truth).operator
    y = operator.measure(truth)
    assert y.device == truth.device
    assert operator.to("cuda").picture(y).device == truth.device
    torch.testing.assert_close(y.cpu(), operator.measure(truth.cpu()), atol=1e-4, rtol=0)


def test_a_range_projection(gpu, truth):
    problem = problem_of("random-inpaint", truth)
    settings = short(preset(operator=problem.operator, prior=gpu))
    plans = [replace(plan, outer_iterations=2, range_steps=2) for plan in settings.rounds[1:]]
    ended(solve(gpu, problem, replace(settings, rounds=(settings.rounds[0], *plans)), perceptual=None))


def test_several_answers(gpu, truth):
    problem = problem_of("super-resolve", truth[:1])
    settings = replace(short(preset(operator=problem.operator, prior=gpu)), samples=3)
    result = ended(solve(gpu, problem, settings, perceptual=None))
    assert result.image.shape[0] == 3
    assert result.spread.shape == result.mean.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("method", MORPH_METHODS)
@pytest.mark.parametrize("views", [0, 2])
def test_morphs(gpu, truth, method, views):
    guidance = Guidance(classifier.load("robust64", "cuda"), {"goldfish": 1.0}, views=views)
    settings = short(morph_preset(method=method, layers=gpu.layers))
    ended(morph(gpu, guidance, settings, truth[:1].cpu(), stop_at=155))


def test_a_gpu_gives_what_the_cpu_gives(gpu, truth):
    problem = problem_of("random-inpaint", truth)
    settings = short(preset(operator=problem.operator, prior=gpu), 2)
    there = ended(solve(gpu, problem, settings, perceptual=None))
    here = ended(solve(load(), problem.to("cpu"), settings, perceptual=None))
    torch.testing.assert_close(there.image, here.image, atol=2e-2, rtol=0)
