"""Algorithm 1: continuity, constraints, batches, best point, range projection, snapshots, Stop."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ilo import LossWeights, Problem, RoundSettings, SettingsError, SolverSettings, build, preset, solve
from ilo.objective import MeasurementObjective
from ilo.perceptual.classifier_features import ClassifierFeatures
from ilo.photos.masks import preset_mask
from ilo.priors.stylegan2.prior import point
from ilo.priors.stylegan2.tracing import first_input
from ilo.projection import l1_norm
from ilo.search import LayerSearch, RangeSearch, Round, learning_rate
from ilo.state import TRACE_COLUMNS

PLAN = RoundSettings(steps=4, radius_features=0.01, radius_latents=0.02, radius_noise=0.03)
SHORT = SolverSettings(rounds=(RoundSettings(steps=6), PLAN, PLAN, PLAN))


@pytest.fixture(scope="module")
def truths(model):
    with torch.no_grad():
        return model.render(model.draw(100, batch=2), SHORT).clamp(-1, 1)


@pytest.fixture(scope="module")
def problem(truths):
    return Problem.damage(truths[:1], build("random-inpaint", 64, fraction=0.2))


def run(model, problem, settings, **kwargs):
    return list(solve(model, problem, settings, due=lambda: True, perceptual=None, **kwargs))


def test_objective_falls_in_every_round(model, problem):
    steps = run(model, problem, SHORT)
    ends = [s.losses["total"][0] for s in steps if s.step == s.steps]
    assert len(ends) == 4
    assert ends[0] < steps[0].losses["total"][0]
    for k, end in enumerate(ends[1:], start=1):
        first = next(s for s in steps if s.round == k)
        assert end < first.trace[0, 0, 0]  # the first row of a round is its starting point


def test_reconstruction_approaches_the_truth(model, truths, problem):
    settings = preset("Quick")
    settings = replace(settings, rounds=tuple(replace(r, steps=12) for r in settings.rounds))
    steps = run(model, problem, settings)
    errors = [float((s.result.image - truths[:1]).square().mean()) for s in steps if s.result is not None]
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_image_is_continuous_between_rounds(model, layer):
    state = model.draw(0, batch=2)
    for k in range(1, layer + 1):
        state = model.enter(state, k, SHORT)
    before = model.render(state, SHORT)
    after = model.render(model.enter(state, layer + 1, SHORT), SHORT)
    assert (before - after).abs().max() <= 1e-5


def test_image_is_continuous_in_a_whole_run(model, problem):
    """The objective at the start of a round equals the data term at the end of the previous one."""
    steps = run(model, problem, SHORT)
    for k in (1, 2, 3):
        end = next(s for s in steps if s.round == k - 1 and s.step == s.steps)
        start = next(s for s in steps if s.round == k)
        assert start.trace[0, 0, TRACE_COLUMNS.index("mse")] == pytest.approx(end.losses["mse"][0], rel=1e-4)


def test_dropping_the_skip_image_makes_the_picture_jump(model, problem):
    steps = run(model, problem, replace(SHORT, skip="drop"))
    end = next(s for s in steps if s.round == 0 and s.step == s.steps)
    start = next(s for s in steps if s.round == 1)
    assert abs(start.trace[0, 0, 1] - end.losses["mse"][0]) > 1e-3


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_constraints_hold_after_every_step(model, truths, layer):
    problem = Problem.damage(truths, build("random-inpaint", 64, fraction=0.2))
    state = model.draw(0, batch=2)
    for k in range(1, layer + 1):
        state = model.enter(state, k, SHORT)
    plan = replace(PLAN, steps=8, radius_noise=math.inf)  # without a ball, the noise maps must keep their norm
    objective = MeasurementObjective(problem, LossWeights(), None)
    search = LayerSearch(model, objective, state, plan, SHORT)
    moved = False
    for i in range(plan.steps):
        search.step()
        for variable in search._variables:
            now, start = variable.value().detach(), variable.value(variable.start)
            moved = moved or not torch.equal(now, start)
            if math.isfinite(variable.radius):
                limit = variable.radius * l1_norm(start) * (1 + 1e-5)
                assert (l1_norm(now - start) <= limit).all(), (variable.ball, i)
            else:
                norm = torch.linalg.vector_norm(now, dim=variable.sphere, keepdim=True)
                torch.testing.assert_close(norm, variable.norm)
    assert moved


def test_latents_and_noise_keep_their_norms_without_balls(model, problem):
    plan = RoundSettings(steps=5)
    start = point(model.draw(SHORT.seed))
    *_, last = run(model, problem, replace(SHORT, rounds=(plan,)))
    end = point(last.result.state)
    torch.testing.assert_close(end.z.norm(dim=2), start.z.norm(dim=2))
    assert not torch.equal(end.z, start.z)
    for j in range(9):
        torch.testing.assert_close(end.noise[j].norm(), start.noise[j].norm())
        assert torch.equal(end.noise[j], start.noise[j]) == (j >= 5)  # round 0 moves the first five


def test_rounds_move_what_the_paper_says(model, problem):
    *_, last = run(model, problem, replace(SHORT, rounds=SHORT.rounds[:3]))
    *_, earlier = run(model, problem, replace(SHORT, rounds=SHORT.rounds[:2]))
    assert last.result.state.layer == 2
    a, b = point(earlier.result.state), point(last.result.state)
    assert b.features.x.shape == (1, 192, 8, 8)
    assert torch.equal(a.z[:, :3], b.z[:, :3])  # round 2 starts at z[3]
    assert not torch.equal(a.z[:, 3:], b.z[:, 3:])
    assert torch.equal(a.noise[2], b.noise[2])
    assert not torch.equal(a.noise[8], b.noise[8])


def test_radius_zero_freezes_and_infinity_releases(model, problem):
    frozen = RoundSettings(steps=4, radius_features=0.0, radius_latents=0.0, radius_noise=0.0)
    steps = run(model, problem, replace(SHORT, rounds=(SHORT.rounds[0], frozen)))
    before = next(s for s in steps if s.round == 0 and s.step == s.steps).result
    assert (steps[-1].result.image - before.image).abs().max() <= 1e-5
    assert not steps[-1].usage["features"].any()
    free = run(model, problem, replace(SHORT, rounds=(SHORT.rounds[0], RoundSettings(steps=4))))
    assert np.isnan(free[-1].usage["features"]).all()
    assert free[-1].losses["total"][0] < steps[-1].losses["total"][0]


@pytest.mark.parametrize("task", ["random-inpaint", "denoise", "super-resolve", "compressed-sensing"])
def test_a_batch_equals_its_single_runs(double_model, truths, task):
    problem = Problem.damage(truths.double(), build(task, 64))
    together = run(double_model, problem, SHORT)[-1]
    for b in range(2):
        alone = Problem(problem.operator, problem.y[b : b + 1])
        single = run(double_model, alone, replace(SHORT, seed=SHORT.seed + b))[-1]
        assert (single.result.image[0] - together.result.image[b]).abs().max() < 1e-4
        assert single.losses["total"][0] == pytest.approx(together.losses["total"][b], rel=1e-4)


def test_same_seed_same_pixels_other_seed_other_pixels(model, problem):
    first, again, other = (run(model, problem, replace(SHORT, seed=s))[-1] for s in (4, 4, 5))
    assert torch.equal(first.result.image, again.result.image)
    assert not torch.equal(first.result.image, other.result.image)


def test_result_is_the_best_point_and_renders_to_its_picture(model, problem):
    for step in run(model, problem, SHORT, due_result=lambda: True):
        state = step.result.state
        with torch.no_grad():
            image = model.render(state, SHORT)
        assert (image - step.result.image).abs().max() < 1e-5
        objective = MeasurementObjective(problem, SHORT.weights, None)
        first = max(0, 2 * state.layer - 1)
        assert objective(image, point(state).z[:, first:])[0, 0] == pytest.approx(step.losses["total"][0], rel=1e-4)
    rows = np.concatenate([s.trace for s in run(model, problem, SHORT) if s.round == 3])
    assert step.losses["total"][0] == pytest.approx(rows[:, 0, 0].min(), rel=1e-6)


def test_noise_added_to_the_features_never_enters_the_choice_of_the_best(model, truths, guide):
    problem = Problem.damage(truths[:1], build("denoise", 64, sigma=50))
    ends = []
    for settings in (SHORT, replace(SHORT, sna=False)):
        *_, step = solve(model, problem, settings, due=lambda: False, perceptual=ClassifierFeatures(guide))
        image = step.result.image
        error = (problem.expected(image) - problem.y).square().mean()
        assert step.losses["mse"][0] == pytest.approx(float(error), rel=1e-4)
        ends.append(image)
    assert not torch.equal(*ends)


def test_radii_and_rates_suit_a_network_of_another_scale(model, problem):
    """A copy whose activations are ten times as large draws the same pictures, and its runs are the same."""
    large = replace(model, generator=copy.deepcopy(model.generator))
    for name, value in [*large.generator.named_parameters(), *large.generator.named_buffers()]:
        if name.startswith("synthesis") and "affine" not in name:
            if name.endswith(("const", "noise_strength")) or (name.endswith("bias") and "torgb" not in name):
                value.mul_(10)
            elif name.endswith("torgb.weight"):
                value.div_(10)
    large.generator.freeze()
    settings = replace(preset("Quick"), rounds=tuple(replace(r, steps=6) for r in preset("Quick").rounds))
    (*_, a), (*_, b) = (run(each, problem, settings) for each in (model, large))
    x, y = a.result.state.values["features_x"], b.result.state.values["features_x"]
    assert float(y.abs().mean() / x.abs().mean()) == pytest.approx(10, rel=1e-2)
    assert (a.result.image - b.result.image).abs().mean() < 2e-3
    for ball in ("features", "latents", "noise"):
        assert b.usage[ball] == pytest.approx(a.usage[ball], abs=1e-2)


def test_several_samples_are_their_single_runs(model, problem):
    settings = replace(SHORT, rounds=SHORT.rounds[:2], samples=3, seed=5)
    result = run(model, problem, settings)[-1].result
    assert result.image.shape[0] == 3
    for n in range(3):
        single = run(model, problem, replace(settings, samples=1, seed=5 + n))[-1].result
        assert (single.image[0] - result.image[n]).abs().max() < 5e-3
    torch.testing.assert_close(result.mean, result.image.clamp(-1, 1).mean(0, keepdim=True))
    assert result.spread.shape == (1, 3, 64, 64)
    assert float(result.spread.mean()) > 1e-3


@pytest.mark.parametrize(("value", "cause"), [(math.nan, "features_x of its start"), (1e38, "the loss is NaN")])
def test_a_start_that_is_not_finite_is_an_error_with_its_cause(model, problem, value, cause):
    settings = replace(SHORT, rounds=(PLAN,), first_layer=1)
    state = model.enter(model.draw(0), 1, SHORT)
    broken = state.changed(features_x=torch.full_like(state.values["features_x"], value))
    with pytest.raises(SettingsError, match=cause):
        LayerSearch(model, MeasurementObjective(problem, LossWeights(), None), broken, PLAN, settings)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_range_projection_lowers_the_distance(model, layer):
    start = model.draw(0, batch=2)
    if layer > 1:
        start = model.enter(start, layer - 1, SHORT)
    before = Round(start, start, SHORT.rounds[layer - 1])
    state = model.enter(start, layer, SHORT)
    features = state.values["features_x"]
    shifted = state.changed(features_x=features + 0.3 * torch.randn_like(features), z=-state.values["z"])
    search = RangeSearch(model, shifted, before, replace(PLAN, outer_iterations=2, range_steps=10), SHORT)
    far = search.distance.clone()
    for _ in range(10):
        search.step()
    projected, found = search.best()
    assert (search.distance < far).all()
    torch.testing.assert_close(model.distance(projected, shifted), search.distance)
    exact = model.enter(found.best, layer, SHORT)
    for name in ("features_x", "features_rgb"):  # it lies in the range of the layer before, with its own RGB
        torch.testing.assert_close(projected.values[name], exact.values[name])
    first = first_input(layer)
    assert torch.equal(projected.values["z"][:, first:], shifted.values["z"][:, first:])
    for s, ball in zip(model.searched(start, SHORT), model.searched(found.best, SHORT), strict=True):
        change = l1_norm(ball.value - s.value) / l1_norm(s.value)  # what earlier rounds found is kept
        assert (change <= before.plan.radius(s.ball) * (1 + 1e-5)).all() or layer == 1


def test_a_projection_keeps_what_the_round_before_found(model, problem):
    plan = replace(PLAN, outer_iterations=2, range_steps=15)
    settings = replace(SHORT, rounds=(SHORT.rounds[0], PLAN, plan))
    ends = []
    for range_from in ("layer", "latents"):
        steps = run(model, problem, replace(settings, range_from=range_from))
        (k,) = [i for i, s in enumerate(steps) if s.projected == 15]
        ends.append(steps[k + 1].losses["mse"][0])  # where the second search of round 2 begins
    assert ends[0] < ends[1]


def test_outer_iterations_search_project_search_and_never_project_last(model, problem, monkeypatch):
    calls = []

    def spy(*args):
        calls.append(args)
        return RangeSearch(*args)

    monkeypatch.setattr("ilo.solver.RangeSearch", spy)
    plan = replace(PLAN, outer_iterations=3, range_steps=4)
    settings = replace(SHORT, rounds=(SHORT.rounds[0], plan))
    steps = run(model, problem, settings)
    assert len(calls) == 2
    assert [s.projected for s in steps if s.projected] == [
        1,
        2,
        3,
        4,
    ] * 2  # a long projection can be watched and stopped
    assert [s.done for s in steps] == list(range(settings.total_steps + 1))
    assert steps[-1].done == steps[-1].total == settings.total_steps
    # The result is z̃ itself, off the range: its features are not those of its latents.
    state = point(steps[-1].result.state)
    on_range = model.generator.prefix(model.latents(state.z), state.noise, 1)
    assert (state.features.x - on_range.x).abs().max() > 1e-3


def test_learning_rates():
    ramp = [learning_rate("ramp", i, 100) for i in range(100)]
    assert all(v > 0 for v in ramp)
    assert max(ramp) <= 1
    assert ramp[0] == pytest.approx(0.198, abs=1e-3)
    assert ramp[-1] < 0.01
    cycle = [learning_rate("one-cycle", i, 100) for i in range(100)]
    assert min(cycle) > 0
    assert cycle.index(max(cycle)) == 45
    assert cycle[0] == pytest.approx(0.1)


def test_trace_has_every_step_once(model, problem):
    count = iter(range(10**6))
    steps = list(solve(model, problem, SHORT, due=lambda: next(count) % 3 == 0, perceptual=None))
    for k, plan in enumerate(SHORT.rounds):
        rows = sum(len(s.trace) for s in steps if s.round == k)
        assert rows == plan.steps + 1
    assert [s.done for s in steps] == sorted(s.done for s in steps)


def test_first_snapshot_comes_before_the_first_step_with_a_result(model, problem):
    solver = solve(model, problem, SHORT, perceptual=None)
    first = next(solver)
    solver.close()
    assert (first.round, first.step, first.done) == (0, 0, 0)
    assert first.result is not None
    assert first.preview.shape == (64, 64, 3)
    with pytest.raises(StopIteration):
        next(solver)


def test_results_do_not_change_later(model, problem):
    solver = solve(model, problem, SHORT, due=lambda: True, due_result=lambda: True, perceptual=None)
    early = next(solver).result
    kept = early.image.clone(), early.state.values["z"].clone()
    for _ in solver:
        pass
    assert torch.equal(early.image, kept[0])
    assert torch.equal(early.state.values["z"], kept[1])


def test_the_truth_is_never_read(model, problem):
    blind = Problem(problem.operator, problem.y)
    assert torch.equal(run(model, blind, SHORT)[-1].result.image, run(model, problem, SHORT)[-1].result.image)


def test_half_precision_reconstructs_about_as_well(model, truths, problem):
    full, half = (run(model, problem, replace(SHORT, dtype=d))[-1] for d in ("float32", "bfloat16"))
    assert half.losses["mse"][0] == pytest.approx(full.losses["mse"][0], rel=0.3)


def test_too_many_rounds(model, problem):
    with pytest.raises(SettingsError, match="There are 6 rounds; allowed are at most 5"):
        next(solve(model, problem, replace(SHORT, rounds=(PLAN,) * 6)))


@pytest.mark.parametrize("method", ["csgm", "pulse"])
def test_csgm_and_pulse_are_settings_of_the_same_solver(model, problem, method):
    settings = preset("Quick", method)
    settings = replace(settings, rounds=(replace(settings.rounds[0], steps=8),))
    steps = run(model, problem, settings)
    assert {s.round for s in steps} == {0}
    assert steps[-1].losses["total"][0] < steps[0].losses["total"][0]


@pytest.mark.parametrize("stop_at", [0, 1, 5, 6, 9, 10, 12, 14, 18])
def test_it_stops_where_it_is_told_with_what_a_run_has_there(model, problem, stop_at):
    plan = replace(PLAN, outer_iterations=2, range_steps=4)  # steps 7 … 10 and 15 … 18, the projection's between them
    settings = replace(SHORT, rounds=(SHORT.rounds[0], plan))
    whole = {s.done: s for s in run(model, problem, settings, due_result=lambda: True)}
    *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None, stop_at=stop_at)
    assert last.done == stop_at
    assert last.result is not None
    assert torch.equal(last.result.image, whole[stop_at].result.image)


def test_features_move_less_where_everything_is_hidden(model, truths):
    problem = Problem.damage(truths, build("inpaint", 64, mask=preset_mask("centre box", 64)))
    seen = F.interpolate(problem.operator.mask, (16, 16), mode="area")
    assert set(seen.unique().tolist()) == {0, 1}
    plan = RoundSettings(steps=10, lr=0.1, radius_features=0.02, radius_latents=0.0, radius_noise=0.0)
    start = model.enter(model.draw(0, batch=2), 3, SHORT)
    share = {}
    for hidden in (1.0, 0.1):
        settings = replace(SHORT, rounds=(plan,), radius_hidden=hidden)
        search = LayerSearch(model, MeasurementObjective(problem, settings.weights, None), start, plan, settings)
        for _ in range(plan.steps):
            search.step()
        search.finish()
        features = start.values["features_x"]
        change = (search.best().values["features_x"] - features).abs()
        share[hidden] = (change * (1 - seen)).sum((1, 2, 3)) / change.sum((1, 2, 3))
        used = (change / (hidden + (1 - hidden) * seen)).flatten(1).sum(1)
        assert bool((used <= 0.02 * 1.001 * features.flatten(1).abs().sum(1)).all())  # a hidden change counts for more
        assert bool((used > 0.015 * features.flatten(1).abs().sum(1)).all())
    assert bool((share[0.1] < 0.2 * share[1.0]).all())


def test_the_radius_inside_holes_needs_a_mask(model, truths):
    problem = Problem.damage(truths[:1], build("super-resolve", 64, factor=4))
    once, again = (run(model, problem, replace(SHORT, radius_hidden=hidden))[-1] for hidden in (1.0, 0.1))
    assert torch.equal(once.result.image, again.result.image)
