"""Number formats: what is offered where, and that each comes to nearly the same pictures and gradients."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ilo import Problem, SettingsError, build, preset, solve
from ilo.engine import formats
from ilo.search import loss_scale

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def few(settings, steps=3):
    return replace(settings, rounds=tuple(replace(plan, steps=steps) for plan in settings.rounds))


def test_a_cpu_offers_what_is_faster(monkeypatch):
    monkeypatch.setattr(formats, "_faster", lambda dtype: dtype == "bfloat16")
    assert formats.formats("cpu") == ("float32", "bfloat16")
    formats.check(CPU, "bfloat16")
    with pytest.raises(SettingsError, match="float16 is slower than float32 on this processor; choose float32"):
        formats.check(CPU, "float16")
    with pytest.raises(SettingsError, match="tf32 needs a CUDA GPU; choose float32"):
        formats.check(CPU, "tf32")


@pytest.mark.parametrize(
    ("able", "quick", "expected"), [(False, True, False), (True, False, False), (True, True, True)]
)
def test_a_format_needs_instructions_and_speed(monkeypatch, able, quick, expected):
    for name in formats.INSTRUCTIONS["bfloat16"]:
        monkeypatch.setattr(torch.cpu, name, lambda: able, raising=False)
    monkeypatch.setattr(formats, "_seconds", lambda dtype: 1.0 if (dtype == torch.bfloat16) == quick else 2.0)
    formats._faster.cache_clear()
    assert formats._faster("bfloat16") is expected
    formats._faster.cache_clear()


def test_a_gpu_offers_all(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert formats.formats(GPU) == ("float32", "tf32", "bfloat16", "float16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert formats.formats(GPU) == ("float32", "tf32", "float16")


def test_tf32_is_allowed_while_a_run_asks_for_it(monkeypatch):
    flags = SimpleNamespace(allow_tf32=True)
    matmul = SimpleNamespace(allow_tf32=False)
    monkeypatch.setattr(torch.backends, "cudnn", flags)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    with formats.computing_in("float32", GPU):
        assert (matmul.allow_tf32, flags.allow_tf32) == (False, False)
        with formats.computing_in("tf32", GPU):
            assert (matmul.allow_tf32, flags.allow_tf32) == (True, True)
    assert (matmul.allow_tf32, flags.allow_tf32) == (False, True)
    with formats.computing_in("tf32", CPU):
        assert (matmul.allow_tf32, flags.allow_tf32) == (False, True)


def test_tf32_on_a_cpu_is_float32(model):
    problem = Problem.damage(torch.zeros(1, 3, 64, 64), build("random-inpaint", 64, fraction=0.3))
    settings = few(preset("Quick"), 2)
    ends = [list(solve(model, problem, replace(settings, dtype=d), perceptual=None))[-1] for d in ("float32", "tf32")]
    assert torch.equal(ends[0].result.image, ends[1].result.image)


def test_float16_comes_to_nearly_the_same_picture(model):
    problem = Problem.damage(torch.zeros(1, 3, 64, 64), build("random-inpaint", 64, fraction=0.3))
    images = []
    for dtype in ("float32", "float16"):
        *_, last = solve(model, problem, replace(few(preset("Quick")), dtype=dtype), perceptual=None)
        images.append(last.result.image)
    assert 0 < (images[0] - images[1]).square().mean() < 1e-3


@pytest.mark.parametrize("factor", [1.0, 1e-3])
def test_gradients_in_float16_agree(model, factor):
    """Also for the small gradients of a large picture, which the factor on the loss keeps from becoming 0."""
    settings, rough = preset("Quick"), model.in_format("float16")
    scale = loss_scale("float16", 64)
    assert scale == 2**11
    assert loss_scale("float32", 64) == 1
    found = []
    for prior, multiplied in ((model, 1.0), (rough, scale)):
        start = model.draw(0)
        z = start.values["z"].clone().requires_grad_()
        image = prior.render(start.changed(z=z), settings)
        (factor * image.square().mean() * multiplied).backward()
        found.append(z.grad / multiplied)
    assert torch.isfinite(found[1]).all()
    assert (found[0] - found[1]).norm() < 0.02 * found[0].norm()
