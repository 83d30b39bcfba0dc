"""Classical baselines: each must improve on its measurement by a margin and satisfy its contract."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from ilo.baselines.classical import baseline, enlarge, fill_holes, non_local_means, sparse_dct
from ilo.operators import (
    OPERATORS,
    Colorize,
    Compose,
    CompressedSensing,
    Deblur,
    Denoise,
    Identity,
    Inpaint,
    Operator,
    RandomInpaint,
    SuperResolve,
)
from ilo.photos.masks import preset_mask
from ilo.records.metrics import psnr
from ilo.settings import SettingsError

R = 32


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Use one thread: small tensors are slower on two, especially on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _truth() -> torch.Tensor:
    """A smooth coloured picture with one edge, `[1,3,R,R]`."""
    v, u = torch.meshgrid(torch.linspace(0, 1, R), torch.linspace(0, 1, R), indexing="ij")
    disc = ((u - 0.55) ** 2 + (v - 0.45) ** 2 < 0.08).float()
    planes = [torch.sin(3 * u + v), 0.6 * torch.cos(4 * v) - 0.2 * disc, 0.5 * u - 0.7 * v * v + 0.5 * disc]
    return (0.8 * torch.stack(planes)[None]).clamp(-1, 1)


TASKS: list[tuple[Operator, float]] = [
    (Inpaint(resolution=R, mask=preset_mask("eyes", R)), 5.0),
    (RandomInpaint(resolution=R, fraction=0.2), 8.0),
    (Denoise(resolution=R, sigma=25), 5.0),
    (SuperResolve(resolution=R, factor=4), 2.0),
    (CompressedSensing(resolution=R, fraction=0.3), 5.0),
    (Deblur(resolution=R, sigma=1.0), 2.0),
]
CASES = [(op, gain, method) for op, gain in TASKS for method in op.baselines]


@pytest.mark.parametrize(("op", "gain", "method"), CASES, ids=[f"{op.name}-{method}" for op, _, method in CASES])
def test_beats_the_measurement_itself(op: Operator, gain: float, method: str) -> None:
    truth = _truth()
    y = op.measure(truth, seed=1)
    image = baseline(op, y, method)
    assert image.shape == truth.shape
    assert image.dtype == torch.float32
    assert float(image.abs().max()) <= 1.0
    assert float(psnr(image, truth)) > float(psnr(op.picture(y), truth)) + gain
    assert torch.equal(image, baseline(op, y, method))
    if method == op.baselines[0]:
        assert torch.equal(image, baseline(op, y))


def test_every_task_with_a_baseline_is_tested() -> None:
    assert {op.name for op, _ in TASKS} == {name for name, kind in OPERATORS.items() if kind.baselines}


@pytest.mark.parametrize("method", ["telea", "navier-stokes"])
def test_observed_pixels_stay(method: str) -> None:
    op, truth = Inpaint(resolution=R, mask=preset_mask("mouth", R)), _truth()
    y = op.measure(truth)
    image = fill_holes(y, op.mask, method)
    assert torch.equal(image * op.mask, y)
    poisoned = y + (1 - op.mask)  # values in the hole must not matter
    assert torch.equal(fill_holes(poisoned, op.mask, method), image)


def test_channels_keep_their_order() -> None:
    red = torch.tensor([1.0, -1.0, -0.5]).reshape(1, 3, 1, 1).expand(1, 3, R, R).contiguous()
    op = Inpaint(resolution=R, mask=preset_mask("centre box", R))
    torch.testing.assert_close(fill_holes(op.measure(red), op.mask), red, rtol=0, atol=0.02)
    torch.testing.assert_close(non_local_means(red, 25), red, rtol=0, atol=0.04)


def test_strength_of_denoising() -> None:
    y = Denoise(resolution=R, sigma=25).measure(_truth())
    assert torch.equal(non_local_means(y, 0), y)
    weak, strong = (float((non_local_means(y, 25, s) - y).abs().mean()) for s in (0.2, 1.0))
    assert weak < strong
    assumed = Denoise(resolution=R, sigma=25, assumed_sigma=0)
    assert torch.equal(baseline(assumed, y), y)


def test_enlarging_keeps_constants() -> None:
    torch.testing.assert_close(enlarge(torch.full((1, 3, 4, 4), 0.3), 16), torch.full((1, 3, 16, 16), 0.3))


def test_sparse_dct_solves_its_own_problem() -> None:
    """If A is the identity, the minimiser is known: soft-thresholded coefficients, except for the constant one."""
    from scipy.fft import dctn, idctn

    y = 0.5 * _truth()
    coefficients = dctn(y.numpy(), axes=(-2, -1), norm="ortho")
    shrunk = torch.from_numpy(coefficients)
    shrunk = shrunk.sign() * (shrunk.abs() - 0.3).clamp_min(0)
    shrunk[..., 0, 0] = torch.from_numpy(coefficients)[..., 0, 0]
    expected = torch.from_numpy(idctn(shrunk.numpy(), axes=(-2, -1), norm="ortho"))
    found = sparse_dct(Identity(resolution=R), y, weight=0.3, steps=100)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_sparse_dct_explains_the_measurement_when_the_weight_is_small() -> None:
    op = CompressedSensing(resolution=R, fraction=0.1)
    y = op.measure(_truth())
    residual = [float((op(sparse_dct(op, y, weight=w, steps=300)) - y).norm() / y.norm()) for w in (0.001, 0.5)]
    assert residual[0] < 0.05
    assert residual[0] < 0.5 * residual[1]


def test_a_measurement_in_half_precision_or_with_gradient() -> None:
    op = SuperResolve(resolution=R)
    y = op.measure(_truth())
    assert baseline(op, y.to(torch.bfloat16)).dtype == torch.float32
    assert not baseline(op, y.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("op", "tuning", "message"),
    [
        (Colorize(resolution=R), {}, "no classical baseline for Colourise"),
        (Compose(resolution=R, operators=[{"name": "denoise"}]), {}, "no classical baseline"),
        (Denoise(resolution=R), {"method": "bm3d"}, "allowed are non-local means"),
        (Denoise(resolution=R), {"radius": 3}, "it has strength"),
        (Denoise(resolution=R), {"strength": math.nan}, "strength must be .*, not nan"),
        (SuperResolve(resolution=R), {"radius": 3}, "it has none"),
        (RandomInpaint(resolution=R), {"radius": 0}, "radius must be .*, not 0"),
        (CompressedSensing(resolution=R), {"weight": -1}, "weight must be .*, not -1"),
        (CompressedSensing(resolution=R), {"steps": 0}, "steps must be .*, not 0"),
    ],
)
def test_what_is_refused(op: Operator, tuning: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        baseline(op, op.measure(_truth()), **tuning)


def test_one_measurement_at_a_time() -> None:
    op = SuperResolve(resolution=R)
    with pytest.raises(SettingsError, match="one by one"):
        baseline(op, op.measure(_truth().repeat(2, 1, 1, 1)))
    with pytest.raises(SettingsError, match="measurement is"):
        baseline(op, torch.zeros(1, 3, R, R))
