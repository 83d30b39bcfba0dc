"""The compiled engine: its values, its folder, and who uses it when. Compiling takes a minute."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from ilo import Problem, SettingsError, build, preset, solve
from ilo.cli.main import main
from ilo.engine import background, compiling, engine, private
from ilo.engine.background import Background
from ilo.engine.compiling import NotReadyError
from ilo.priors.stylegan2 import checkpoint, latents, tracing
from ilo.priors.stylegan2.compiled import Compiled, Passes
from ilo.priors.stylegan2.network import Config, Generator
from ilo.priors.stylegan2.prior import Model, point
from ilo.settings import LossWeights, SolverSettings

SETTINGS = SolverSettings(preset("Quick").rounds[:2], weights=LossWeights(perceptual=0))
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
pytestmark = pytest.mark.timeout(900)  # compiling takes a minute, and much more on a busy machine


def tiny(seed=3):
    """A generator of 8 pixels with two layers and random weights."""
    torch.manual_seed(seed)
    generator = Generator(Config(8, 8, 8, {4: 8, 8: 4}, mapping_layers=1))
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(0.3)
    generator.freeze()
    return generator


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The tiny generator as a file, loaded as a model."""
    from ilo.priors.load import load

    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    generator = tiny()
    checkpoint.write_safetensors(checkpoint.Checkpoint(generator.config, generator.state_dict(), {}), path)
    return load(str(path))


@pytest.fixture(scope="module")
def cache_folder(small, tmp_path_factory):
    """A cache with compiled code of the tiny generator for one sample, made by the command line."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILO_CACHE", str(folder))
        assert main(["compile", "--model", str(small.path), "--threads", "1"]) == 0
    return folder


@pytest.fixture
def cached(cache_folder, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(cache_folder))
    return cache_folder


def gradients(model, layer, picture_gradient):
    """Picture and gradients for all inputs of the layers from `layer` on."""
    state = model.draw(5)
    with torch.no_grad():
        state = model.enter(state, layer, SETTINGS) if layer else state
    values = {name: value.clone().requires_grad_() for name, value in state.values.items()}
    picture = model.render(replace(state, values=values), SETTINGS)
    found = torch.autograd.grad(picture, list(values.values()), picture_gradient, allow_unused=True)
    return picture, dict(zip(values, found, strict=True))


@needs_compiler
@pytest.mark.parametrize("layer", [0, 1])
def test_compiled_code_gives_the_picture_and_the_gradients(small, cached, layer):
    compiled = compiling.load(small, 1)
    assert compiled.engine == "compiled"
    assert set(compiled.compiled.passes) == {0, 1}
    towards = torch.randn(1, 3, 8, 8)
    eager_picture, eager = gradients(small, layer, towards)
    picture, found = gradients(compiled, layer, towards)
    assert type(picture.grad_fn).__name__ == "_RenderingBackward"  # so it was not rendered eagerly
    assert (picture - eager_picture).abs().max() <= 1e-4 * eager_picture.abs().max()
    for name, value in eager.items():
        assert (value is None) == (found[name] is None), name
        if value is not None:
            assert (found[name] - value).norm() <= 1e-3 * value.norm(), name


@needs_compiler
def test_a_run_on_the_command_line_names_its_engine_and_is_replayed_with_it(
    small, cached, photo, tmp_path, monkeypatch, capsys
):
    command = [
        "solve",
        str(photo),
        "--task",
        "identity",
        "--model",
        str(small.path),
        "--steps",
        "3,3",
        "--threads",
        "1",
    ]
    out = {name: tmp_path / name for name in ("eager", "compiled")}
    for name, folder in out.items():
        wanted = "auto" if name == "compiled" else name
        assert main([*command, "--engine", wanted, "--out", str(folder)]) == 0
        assert json.loads((folder / "recipe.json").read_text())["engine"]["engine"] == name
    replay = ["replay", str(out["compiled"]), "--model", str(small.path)]
    capsys.readouterr()
    assert main(replay) == 0
    said = capsys.readouterr()
    assert "same, byte for byte" in said.out
    assert "engine" not in said.err
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "empty"))
    main(replay)  # may differ in the last bits
    said = capsys.readouterr().err
    assert "The run used compiled code, which is not ready here" in said
    assert "The engine was compiled and is eager now." in said
    assert main([*command, "--engine", "compiled", "--out", str(tmp_path / "none")]) == 2
    assert "is not ready for small and 1 at once (its code has not been compiled)" in capsys.readouterr().err


@needs_compiler
def test_code_that_others_could_have_written_is_not_loaded(small, cached, tmp_path, monkeypatch):
    copied = tmp_path / "cache"
    shutil.copytree(cached, copied)
    monkeypatch.setenv("ILO_CACHE", str(copied))
    compiling.load(small, 1)
    package = next(copied.rglob("*.pt2"))
    for path, mode in ((package, 0o666), (package.parent, 0o770), (copied, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert compiling.chosen(small, SETTINGS, 1, "auto") is small
        with pytest.raises(NotReadyError, match=r"its code is not loaded: .*(alone|others can write)"):
            compiling.load(small, 1)
        path.chmod(before)
    compiling.load(small, 1)


@needs_compiler
def test_a_broken_package_is_not_used(small, cached, tmp_path, monkeypatch):
    copied = tmp_path / "cache"
    shutil.copytree(cached, copied)
    monkeypatch.setenv("ILO_CACHE", str(copied))
    for package in copied.rglob("*.pt2"):
        package.write_bytes(b"damaged")
    with pytest.raises(NotReadyError, match="cannot be loaded"):
        compiling.load(small, 1)
    assert compiling.chosen(small, SETTINGS, 1, "auto") is small


@needs_compiler
def test_a_page_uses_what_is_in_the_cache(small, cached):
    ready = Background(small, [1])
    assert ready.wait(60)
    assert ready.model(SETTINGS, 1).engine == "compiled"
    assert ready.model(SETTINGS, 4) is small
    assert ready.model(replace(SETTINGS, dtype="bfloat16"), 1) is small
    ready.close()


@needs_compiler
def test_a_page_compiles_what_is_missing_in_another_process(small, cached, tmp_path, monkeypatch):
    copied = tmp_path / "cache"
    shutil.copytree(cached, copied)
    monkeypatch.setenv("ILO_CACHE", str(copied))
    shutil.rmtree(compiling._place(small, 1, 1))
    monkeypatch.setattr(background.memory, "available", lambda device: 8e9)
    started = Background(small, [1])
    assert started.model(SETTINGS, 1) is small  # until it is ready
    assert started.wait(800)
    assert started.model(SETTINGS, 1).engine == "compiled"


def test_without_a_compiler_runs_are_eager(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert main(["compile", "--model", str(small.path)]) == 2
    assert "there is no C++ compiler" in capsys.readouterr().err
    tried = Background(small, [1])
    assert tried.wait(30)
    assert tried.model(SETTINGS, 1) is small
    assert compiling.chosen(small, SETTINGS, 1, "auto") is small


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners of files")
def test_links_and_foreign_folders_are_not_private(tmp_path, monkeypatch):
    private.make(tmp_path / "made" / "private")
    assert (tmp_path / "made" / "private").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "made" / "private")
    with pytest.raises(private.NotPrivateError):
        private.check(tmp_path / "link")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(private.NotPrivateError):
        private.check(tmp_path / "made" / "private")


def test_shapes_that_code_was_not_compiled_for_run_eagerly(small):
    def crash(values):
        raise AssertionError("compiled code was called")

    model = replace(small, compiled=Compiled(1, {0: Passes(crash, crash)}))
    with pytest.raises(AssertionError):
        model.render(model.draw(0), SETTINGS)
    for state in (model.draw(0, batch=2), model.enter(model.draw(0), 1, SETTINGS)):
        torch.testing.assert_close(model.render(state, SETTINGS), small.render(state, SETTINGS))
    assert model.frugal().engine == model.in_format("bfloat16").engine == "eager"


def test_the_place_of_code_depends_on_all_that_changes_it(small, monkeypatch):
    place = compiling._place
    first = place(small, 0, 1)
    assert first == place(small, 0, 1)
    other = Model("small", tiny(seed=4), small.latents, small.path, small.sha256)
    found = {first, place(small, 1, 1), place(small, 0, 2), place(other, 0, 1)}
    for owner, name, value in (
        (torch, "__version__", "9"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "AVX3"),
        (torch, "get_num_threads", lambda: 7),
        (compiling, "_processor", lambda: ["another"]),
        (compiling, "OPTIONS", {}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            found.add(place(small, 0, 1))
    assert len(found) == 9


@pytest.mark.parametrize("layer", [0, 1])
def test_the_two_graphs_are_what_the_network_computes(layer):
    generator = tiny()
    model = Model("tiny", generator, latents.fit(generator, 100), None, "")
    towards = torch.randn(2, 3, 8, 8)
    graphs = tracing.trace(generator, layer, 2)
    split = Compiled(2, {layer: Passes(lambda v: graphs.forward(*v), lambda v: graphs.backward(*v))})
    state = model.draw(5, 2)
    state = state if layer == 0 else model.enter(state, layer, SETTINGS)
    z, noise, features = point(state)
    ws = model.latents(z)
    leaves = [ws.clone().requires_grad_(), *(n.clone().requires_grad_() for n in noise)]
    wanted = generator.suffix(features, leaves[0], leaves[1:], layer)
    picture = split.picture(generator.config, features, leaves[0], leaves[1:], layer)
    torch.testing.assert_close(picture, wanted)
    used = [leaves[0], *leaves[1 + tracing.first_input(layer) :]]
    for a, b in zip(
        torch.autograd.grad(picture, used, towards), torch.autograd.grad(wanted, used, towards), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_compiling_is_bounded(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path))
    for batch in (0, compiling.MOST_SAMPLES + 1):
        with pytest.raises(SettingsError, match="The batch must be a whole number"):
            next(compiling.build(small, batch))
    monkeypatch.setattr(compiling, "MOST_BYTES", 1)
    with pytest.raises(NotReadyError, match="MB of weights"):
        next(compiling.build(small, 1))


def test_the_engine_has_a_name(monkeypatch):
    monkeypatch.delenv(compiling.VARIABLE)
    assert compiling.named() == "auto"
    monkeypatch.setenv(compiling.VARIABLE, "compiled")
    assert compiling.named() == "compiled"
    assert compiling.named("eager") == "eager"
    with pytest.raises(SettingsError, match="auto, eager, compiled"):
        compiling.named("fast")
    assert engine.description("cpu", "compiled")["engine"] == "compiled"


@needs_compiler
def test_a_compiled_run_comes_to_the_eager_ones_picture(small, cached):
    problem = Problem.damage(torch.zeros(1, 3, 8, 8), build("random-inpaint", 8, fraction=0.5))
    images = []
    for model in (small, compiling.load(small, 1)):
        *_, last = solve(model, problem, replace(SETTINGS, rounds=SETTINGS.rounds), perceptual=None)
        images.append(last.result.image)
    assert (images[0] - images[1]).square().mean() < 1e-3
