"""The solver needs nothing specific to StyleGAN2: it also runs on a small stack of convolutions."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ilo import OPERATORS, Problem, RoundSettings, SolverSettings, build, solve
from ilo.guidance import Guidance
from ilo.morph import morph
from ilo.photos.masks import preset_mask
from ilo.priors.base import Prior, Searched, State
from ilo.records.bundle import load_latents, read_bundle
from ilo.records.recipe import make_recipe
from ilo.records.recorder import Recorder
from ilo.records.saving import write_bundle
from ilo.state import to_uint8

PLAN = RoundSettings(steps=4, lr=0.05, radius_features=0.05, radius_latents=0.05, outer_iterations=2, range_steps=3)
SETTINGS = SolverSettings((RoundSettings(steps=6), PLAN, PLAN), seed=1)


class Stack(nn.Module):
    """Three transposed convolutions with random weights, z [B, 16] → 32 × 32 pixels, as DCGAN (Radford et al. 2016)."""

    id, sha256, resolution, layers, device = "stack", "5" * 64, 32, 3, torch.device("cpu")
    engine = "eager"

    def __init__(self):
        super().__init__()
        torch.manual_seed(11)
        self.parts = nn.ModuleList(
            [nn.ConvTranspose2d(16, 12, 8), nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)]
        )
        self.requires_grad_(False)

    def run(self, x, first, last):
        for k in range(first, last):
            x = self.parts[k](x)
            x = torch.tanh(3 * x) if k == self.layers - 1 else F.leaky_relu(x, 0.2)
        return x

    def entered(self, state):
        """The features entering the state's layer."""
        return state.values["x"] if state.layer else state.values["z"][:, 0, :, None, None]

    def feature_count(self, layer):
        return (12 * 8**2, 8 * 16**2, 3 * 32**2)[layer - 1]

    def draw(self, seed, batch=1):
        rngs = [torch.Generator().manual_seed(seed + b) for b in range(batch)]
        return State({"z": torch.cat([torch.randn(1, 1, 16, generator=rng) for rng in rngs])})

    def sample(self, seed, settings, truncation=1.0, batch=1):
        drawn = self.draw(seed, batch)
        return drawn.changed(z=truncation * drawn.values["z"])

    def searched(self, state, settings):
        return [Searched("features", state.values["x"], (), "features")] if state.layer else self._latents(state)

    def replaced(self, state, values, settings):
        return state.changed(**{"x" if state.layer else "z": values[0]})

    def render(self, state, settings):
        return self.run(self.entered(state), state.layer, self.layers)

    def enter(self, state, layer, settings):
        return State({**state.values, "x": self.run(self.entered(state), state.layer, layer)}, layer)

    def distance(self, state, other):
        return (state.values["x"] - other.values["x"]).flatten(1).square().mean(1)

    def memory_needed(self, settings, batch=1, frugal=False):
        return 1_000_000 * batch

    def frugal(self):
        return self

    def in_format(self, dtype):
        return self if dtype == "float32" else copy.deepcopy(self)

    def _latents(self, state):
        return [Searched("latents", state.values["z"], (2,))]


@pytest.fixture(scope="module")
def prior() -> Prior:
    return Stack()


@pytest.fixture(scope="module")
def truth(prior):
    return prior.render(prior.draw(9), SETTINGS)


def problem_of(task, truth):
    settings = {"mask": preset_mask("eyes", 32)} if task == "inpaint" else {}
    if task == "compose":
        settings = {"operators": [{"name": "super-resolve", "factor": 2}, {"name": "denoise", "sigma": 10}]}
    return Problem.damage(truth, build(task, 32, **settings))


@pytest.mark.parametrize("task", sorted(OPERATORS))
def test_every_task_is_solved_and_replayed(task, prior, truth, tmp_path):
    problem = problem_of(task, truth)
    recipe = make_recipe(
        prior, problem, SETTINGS, damaged_here=True, measurement_seed=0, input_image=truth, perceptual=None
    )
    recorder = Recorder(recipe, problem, truth)
    steps = list(solve(prior, problem, SETTINGS, due=lambda: True, perceptual=None))
    for step in steps:
        recorder.add(step)
    assert steps[-1].done == steps[-1].total == SETTINGS.total_steps
    assert steps[-1].losses["total"][0] < steps[0].losses["total"][0]
    folder = write_bundle(recorder, tmp_path / "run", prior)
    recipe, again, _ = read_bundle(folder)
    *_, last = solve(prior, again, recipe.settings, perceptual=None)
    assert torch.equal(last.result.image, steps[-1].result.image)
    state = load_latents(folder / "latents.safetensors")
    assert state.layer == 2
    assert (to_uint8(prior.render(state, SETTINGS)) == to_uint8(last.result.image)).all()


def test_balls_and_spheres_hold(prior, truth):
    problem = problem_of("random-inpaint", truth)
    for step in solve(prior, problem, SETTINGS, due=lambda: True, due_result=lambda: True, perceptual=None):
        used = [float(share[0]) for share in step.usage.values() if share[0] == share[0]]
        assert all(share <= 1 + 1e-5 for share in used)
        z = step.result.state.values["z"]
        torch.testing.assert_close(z.norm(), prior.draw(1).values["z"].norm())


def test_a_batch_equals_its_single_runs(prior):
    truths = prior.render(prior.draw(20, batch=2), SETTINGS)
    operator = build("super-resolve", 32, factor=4)
    *_, both = solve(prior, Problem.damage(truths, operator), SETTINGS, perceptual=None)
    *_, one = solve(prior, Problem.damage(truths[:1], operator), SETTINGS, perceptual=None)
    torch.testing.assert_close(both.result.image[:1], one.result.image, rtol=0, atol=1e-3)


def test_it_is_bent_towards_a_class(prior, guide):
    settings = SolverSettings((RoundSettings(steps=5, lr=0.05), RoundSettings(steps=5, lr=0.05)), sna=False, seed=2)
    steps = list(morph(prior, Guidance(guide, {"bullfrog": 1.0}), settings))
    assert steps[-1].losses["classifier"][0] < steps[0].losses["classifier"][0]
