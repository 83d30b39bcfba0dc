"""Number formats, memory, and the description recorded in recipes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ilo import Problem, SettingsError, build, preset, solve
from ilo.engine import engine, memory
from ilo.priors.stylegan2 import memory as stylegan2
from ilo.priors.stylegan2.network import Config
from ilo.priors.stylegan2.prior import Model
from ilo.settings import LossWeights

SETTINGS = replace(preset("Quick"), weights=LossWeights(perceptual=0))


def few(settings, steps=3):
    return replace(settings, rounds=tuple(replace(plan, steps=steps) for plan in settings.rounds))


def test_float32_is_the_model_itself(model):
    assert engine.prepare(model, SETTINGS) is model


def test_bfloat16_is_a_copy_close_to_it(model):
    generator, half = model.generator, engine.prepare(model, replace(SETTINGS, dtype="bfloat16")).generator
    z = torch.randn(2, 256)
    exact, rough = generator(z), half(z)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.2
    torch.testing.assert_close(generator(z), exact)  # the original is untouched


def test_a_run_in_bfloat16_comes_to_nearly_the_same_picture(model):
    problem = Problem.damage(torch.zeros(1, 3, 64, 64), build("random-inpaint", 64, fraction=0.3))
    images = []
    for dtype in ("float32", "bfloat16"):
        *_, last = solve(model, problem, replace(few(SETTINGS), dtype=dtype), perceptual=None)
        images.append(last.result.image)
    assert (images[0] - images[1]).square().mean() < 1e-3


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 3), ("bfloat16", 1)])
def test_checkpointing_changes_no_number(model, monkeypatch, dtype, steps):
    problem = Problem.damage(torch.zeros(2, 3, 64, 64), build("random-inpaint", 64, fraction=0.3))
    settings = replace(few(SETTINGS, steps), dtype=dtype)
    *_, plain = solve(model, problem, settings, perceptual=None)
    least = model.memory_needed(settings, 2, frugal=True)
    assert least < model.memory_needed(settings, 2)
    monkeypatch.setattr(memory, "available", lambda device: least)
    assert engine.prepare(model, settings, 2).generator.synthesis.checkpointing
    *_, frugal = solve(model, problem, settings, perceptual=None)
    assert torch.equal(plain.result.image, frugal.result.image)
    assert not model.generator.synthesis.checkpointing


def test_a_run_that_does_not_fit_says_what_would(model, monkeypatch):
    config = Config(512, 512, 1024, {4 * 2**k: min(512, 8192 // 2**k) for k in range(9)})
    need, least, half = (
        stylegan2.needed(config, replace(SETTINGS, dtype=dtype), 1, frugal)
        for dtype, frugal in (("float32", False), ("float32", True), ("bfloat16", True))
    )
    assert half < least < need
    monkeypatch.setattr(memory, "available", lambda device: (half + least) // 2)
    network = Model("large", SimpleNamespace(config=config, device=torch.device("cpu")), None, None, "")
    with pytest.raises(SettingsError, match=r"needs about \d.* GB of memory, and .* are free; choose bfloat16, which"):
        engine.prepare(network, SETTINGS)
    monkeypatch.setattr(memory, "available", lambda device: 10**6)
    with pytest.raises(SettingsError, match=r"1 MB are free; run fewer samples at once, or close other programs\.$"):
        engine.prepare(network, SETTINGS, 3)
    with pytest.raises(SettingsError, match="1 MB are free"):
        next(solve(model, Problem.damage(torch.zeros(1, 3, 64, 64), build("identity", 64)), SETTINGS))


def test_memory_grows_with_the_batch_and_the_resolution():
    small, large = (
        Config(512, 512, size, {4 * 2**k: 32 for k in range(layers)}) for size, layers in ((64, 5), (256, 7))
    )
    one = stylegan2.needed(small, SETTINGS)
    assert stylegan2.needed(small, SETTINGS, 5) - stylegan2.SCRATCH == pytest.approx(5 * (one - stylegan2.SCRATCH))
    assert stylegan2.needed(large, SETTINGS) - stylegan2.SCRATCH > 10 * (one - stylegan2.SCRATCH)
    assert stylegan2.needed(small, replace(SETTINGS, weights=LossWeights())) > one
    pixels = replace(SETTINGS, rounds=SETTINGS.rounds[:1], first_layer=5)
    assert stylegan2.needed(small, pixels) < one


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path):
    machine = memory.available(torch.device("cpu"))
    assert machine > 1e8
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 90\nfile 310\ninactive_file 200\nactive_file 100\nshmem 10\n")
    assert memory.available(torch.device("cpu")) == 900  # the page cache counts as available
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(torch.device("cpu")) > 1e8


def test_description_is_plain_json_and_names_what_matters():
    about = engine.description("cpu")
    assert json.loads(json.dumps(about)) == about
    assert {"engine", "device", "threads", "torch", "python"} <= set(about)


@pytest.mark.parametrize(
    ("dtype", "batch", "cures"),
    [
        ("float32", 2, "run fewer samples at once, or choose bfloat16 or float16, or close other programs, or choose"),
        ("bfloat16", 1, "close other programs, or choose a smaller model"),
    ],
)
def test_a_gpu_without_memory_says_what_may_help(model, dtype, batch, cures):
    class Full(Model):
        def in_format(self, dtype):
            return self

        def render(self, state, settings):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    full = Full(model.id, model.generator, model.latents, model.path, model.sha256)
    problem = Problem.damage(torch.zeros(batch, 3, 64, 64), build("random-inpaint", 64, fraction=0.3))
    with pytest.raises(SettingsError, match=f"The GPU ran out of memory; {cures}") as error:
        list(solve(full, problem, replace(SETTINGS, dtype=dtype), perceptual=None))
    assert error.value.__cause__ is None
