"""CUDA graphs, number formats and memory on a CUDA GPU. Without one, these tests are skipped."""

from dataclasses import replace

import pytest
import torch

from ilo import Problem, load, preset, solve
from ilo.classifiers import classifier
from ilo.engine import devices, engine
from ilo.engine.graph import CUDA_GRAPH, EAGER, WARM_UP
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.operators import OPERATORS, nominal
from ilo.perceptual.classifier_features import robust_features

REASON = devices.failure("cuda")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CUDA GPU works here: {REASON}")
STEPS = WARM_UP + 6
# Kernels whose order of summation varies may differ in the last bits, which Adam's first steps amplify.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def gpu():
    return load(device="cuda")


@pytest.fixture
def deterministic():
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def problem_of(gpu, task, batch=1):
    with torch.no_grad():
        truth = gpu.render(gpu.draw(1, batch), preset()).clamp(-1, 1)
    return Problem.damage(truth, nominal(task, 64, OPERATORS[task].suggested(64)))


def short(settings, **changes):
    return replace(settings, rounds=tuple(replace(plan, steps=STEPS, **changes) for plan in settings.rounds))


def both(gpu, problem, settings, perceptual=None, **options):
    """The results of all rounds with CUDA graphs, and as the steps stand."""
    found = []
    for run_by in (CUDA_GRAPH, EAGER):
        steps = solve(gpu, problem, settings, lambda: False, perceptual, lambda: True, run_by=run_by, **options)
        results = [step.result for step in steps]
        assert results[-1].engine == run_by
        found.append(results)
    return list(zip(*found, strict=True))


@pytest.mark.parametrize(
    "case", ["plain", "batch", "samples", "noise", "range", "views", "float16", "bfloat16", "tf32"]
)
def test_graphs_give_what_single_steps_give(gpu, deterministic, case):
    settings, perceptual = short(preset()), None
    problem = problem_of(gpu, "random-inpaint", 2 if case == "batch" else 1)
    if case == "samples":
        settings = replace(settings, samples=4)
    if case == "noise":
        problem, perceptual = problem_of(gpu, "denoise"), robust_features("cuda")
    if case == "range":
        plans = [replace(plan, outer_iterations=2, range_steps=STEPS) for plan in settings.rounds[1:]]
        settings = replace(settings, rounds=(settings.rounds[0], *plans))
    if case == "views":
        problem = Guidance(classifier.load("robust64", "cuda"), {"goldfish": 1.0}, views=2)
        settings = short(morph_preset(layers=gpu.layers))
    if case in ("float16", "bfloat16", "tf32"):
        settings = replace(settings, dtype=case)
    for graph, single in both(gpu, problem, settings, perceptual):
        torch.testing.assert_close(graph.image, single.image, rtol=0, atol=TOLERANCE)


def test_the_same_recipe_gives_the_same_numbers(gpu, deterministic):
    problem, settings = problem_of(gpu, "random-inpaint"), short(preset())
    (first, _), *_ = both(gpu, problem, settings)
    (again, _), *_ = both(gpu, problem, settings)
    torch.testing.assert_close(first.image, again.image, rtol=0, atol=TOLERANCE)


def test_a_stopped_run_is_replayed(gpu, deterministic):
    problem, settings = problem_of(gpu, "random-inpaint"), short(preset())
    ends = both(gpu, problem, settings, stop_at=2 * STEPS - 1)
    torch.testing.assert_close(ends[-1][0].image, ends[-1][1].image, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["tf32", "bfloat16", "float16"])
def test_every_format_comes_to_nearly_the_same_picture(gpu, dtype):
    problem, settings = problem_of(gpu, "random-inpaint"), short(preset())
    images = []
    for name in ("float32", dtype):
        *_, last = solve(gpu, problem, replace(settings, dtype=name), perceptual=None)
        images.append(last.result.image)
    assert (images[0] - images[1]).square().mean() < 5e-3


def test_the_estimate_covers_the_memory_that_a_run_takes(gpu):
    problem, settings = problem_of(gpu, "random-inpaint"), short(preset())
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    list(solve(gpu, problem, settings, perceptual=None))
    used = torch.cuda.max_memory_allocated() - before
    assert used <= gpu.memory_needed(settings, 1)


def test_the_description_names_the_libraries():
    about = engine.description("cuda")
    assert about["engine"] == CUDA_GRAPH
    assert {"cuda", "cudnn", "driver", "deterministic"} <= set(about)
    assert engine.description("cuda", EAGER)["engine"] == EAGER
