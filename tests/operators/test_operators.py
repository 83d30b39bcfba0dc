"""Forward operators: adjoints, gradients, noise, pictures, validation, registry."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from ilo.engine.streams import stream
from ilo.operators import (
    OPERATORS,
    ClippedGaussian,
    Colorize,
    Compose,
    CompressedSensing,
    Deblur,
    Denoise,
    Identity,
    Inpaint,
    NoNoise,
    Operator,
    RandomInpaint,
    SuperResolve,
    build,
)
from ilo.photos.masks import preset_mask
from ilo.settings import SettingsError


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Use one thread: small tensors are slower on two, especially on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _mask(resolution: int) -> torch.Tensor:
    return preset_mask("centre box", resolution)


def _operators(r: int) -> list[Operator]:
    chain = [{"name": "deblur", "sigma": 0.8}, {"name": "super-resolve", "factor": 2}, {"name": "inpaint"}]
    return [
        Inpaint(resolution=r, mask=_mask(r)),
        RandomInpaint(resolution=r, fraction=0.3, seed=2),
        Denoise(resolution=r, sigma=40),
        SuperResolve(resolution=r, factor=2),
        SuperResolve(resolution=r, factor=r),
        CompressedSensing(resolution=r, fraction=0.3, seed=1),
        Colorize(resolution=r),
        Deblur(resolution=r, sigma=0.9),
        Deblur(resolution=r, kind="motion", length=r - 0.5, angle=30),
        Identity(resolution=r),
        Compose(resolution=r, operators=chain, mask=_mask(r)),
        Compose(resolution=r, operators=[SuperResolve(resolution=r, factor=2), Colorize(resolution=r // 2)]),
        Compose(resolution=r, operators=[Denoise(resolution=r), CompressedSensing(resolution=r, fraction=0.5)]),
    ]


def _names(ops: list[Operator]) -> list[str]:
    return [f"{i}-{op.name}" for i, op in enumerate(ops)]


EIGHT = _operators(8)
FOUR = _operators(4)


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 2 - 1


def test_every_registered_operator_is_tested() -> None:
    assert {op.name for op in EIGHT} == {n for n, kind in OPERATORS.items() if kind.__module__.startswith("ilo.")}


@pytest.mark.parametrize("op", [*EIGHT, CompressedSensing(resolution=5, fraction=1.0)], ids=lambda op: op.name)
def test_adjoint(op: Operator) -> None:
    r = op.resolution
    x, u = _random(3, 3, r, r), _random(3, *op.measurement_shape, seed=1)
    left, right = (op(x) * u).flatten(1).sum(1), (x * op.adjoint(u)).flatten(1).sum(1)
    assert left.abs().min() > 1e-6
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(Operator.transpose(op, u), op.adjoint(u), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("op", FOUR, ids=_names(FOUR))
def test_gradient(op: Operator) -> None:
    x = _random(2, 3, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(op, (x,))
    y = _random(1, *op.measurement_shape).requires_grad_()
    assert torch.autograd.gradcheck(op.adjoint, (y,))


def test_second_derivative_of_compressed_sensing() -> None:
    op = CompressedSensing(resolution=3, fraction=0.5)
    x = _random(1, 3, 3, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: op(x) ** 2, (x,))


@pytest.mark.parametrize("op", EIGHT, ids=_names(EIGHT))
def test_contract(op: Operator) -> None:
    """Shapes, counts, dtypes, per-sample noise, the picture, and rebuilding from settings."""
    x = _random(3, 3, 8, 8, dtype=torch.float32)
    y = op.measure(x, seed=5)
    assert y.shape == (3, *op.measurement_shape)
    assert y.dtype == torch.float32
    singles = torch.cat([op.measure(x[b : b + 1], seed=5 + b) for b in range(3)])
    torch.testing.assert_close(y, singles, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(y, op.measure(x, seed=5), rtol=0, atol=0)

    half = x.to(torch.bfloat16)
    assert op(half).dtype == torch.float32
    torch.testing.assert_close(op(half), op(half.float()), rtol=0, atol=0)
    assert op(x.double()).dtype == torch.float64

    picture = op.picture(y)
    assert picture.shape == (3, 3, 8, 8)
    assert float(picture.abs().max()) <= 1.0

    assert op.size == 192
    assert 1 <= op.observed <= 192
    assert op.share == op.observed / 192
    assert op.observed <= op.normaliser <= 192

    settings = json.loads(json.dumps(op.settings(), allow_nan=False))
    if op.mask is not None and op.name != "random-inpaint":
        settings["mask"] = op.mask
    again = build(op.name, 8, **settings)
    torch.testing.assert_close(again(x), op(x), rtol=0, atol=0)

    moved = op.to("meta")
    assert moved(x.to("meta")).device.type == "meta"
    torch.testing.assert_close(op(x), again(x), rtol=0, atol=0)  # the original keeps its device


@pytest.mark.parametrize("op", EIGHT, ids=_names(EIGHT))
def test_wrong_shapes_are_refused(op: Operator) -> None:
    with pytest.raises(SettingsError, match=r"picture has shape \[1, 3, 8, 7\]"):
        op(torch.zeros(1, 3, 8, 7))
    good = op.measure(torch.zeros(1, 3, 8, 8))
    for bad in (good[0], good[..., :-1], good.repeat(1, 2, *[1] * (good.ndim - 2)), good.long(), good[:0]):
        with pytest.raises(SettingsError, match="measurement is"):
            op.check_measurement(bad)
    with pytest.raises(SettingsError, match="not finite"):
        op.check_measurement(torch.full_like(good, math.nan))
    with pytest.raises(SettingsError, match="measurement is"):
        op.adjoint(good[0])


def test_observed_counts() -> None:
    assert Inpaint(resolution=8, mask=_mask(8)).observed == 3 * 48
    assert RandomInpaint(resolution=64, fraction=0.1).observed == 3 * 410
    assert SuperResolve(resolution=8, factor=4).observed == 12
    sensing = CompressedSensing(resolution=8, fraction=0.25)
    assert (sensing.observed, sensing.normaliser) == (48, 192)
    assert Colorize(resolution=8).observed == 64
    chain = Compose(resolution=8, operators=[RandomInpaint(resolution=8, fraction=0.5), Denoise(resolution=8)])
    assert (chain.observed, chain.normaliser) == (96, 96)


# Inpainting


def test_holes_are_known_by_the_mask_and_not_by_their_colour() -> None:
    op = Inpaint(resolution=8, mask=_mask(8))
    y = op.measure(torch.full((1, 3, 8, 8), -1.0))
    seen = op.mask.bool().expand_as(y)
    assert bool((y[seen] == -1).all())
    assert bool((op.picture(y)[~seen] == 0).all())
    with pytest.raises(SettingsError, match="where the mask hides"):
        op.check_measurement(torch.ones(1, 3, 8, 8))


def test_a_mask_of_another_size_is_resized() -> None:
    op = Inpaint(resolution=8, mask=_mask(16))
    assert op.mask_resized
    assert not Inpaint(resolution=8, mask=_mask(8)).mask_resized
    assert torch.equal(op.mask, _mask(8))


def test_random_pixels() -> None:
    a, b, c = (RandomInpaint(resolution=32, fraction=0.1, seed=s).mask for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert int(a.sum()) == 102
    assert RandomInpaint(resolution=32, fraction=0.005).mask.sum() == 5
    assert RandomInpaint(resolution=8, fraction=1).share == 1


# Denoising


def test_noise() -> None:
    x = torch.zeros(2, 3, 64, 64)
    y = Denoise(resolution=64, sigma=25).measure(x, seed=3)
    assert float(y.std()) == pytest.approx(25 / 127.5, rel=0.02)
    assert float(y.mean()) == pytest.approx(0, abs=0.005)
    assert not torch.equal(y[0], y[1])
    expected = torch.randn(3, 64, 64, generator=stream(4, "measurement noise")) * 25 / 127.5
    torch.testing.assert_close(y[1], expected)
    assert float(Denoise(resolution=64, sigma=255).measure(x).abs().max()) == 1.0
    assert torch.equal(Denoise(resolution=64, sigma=0).measure(x), x)


def test_assumed_sigma() -> None:
    assert Denoise(resolution=8, sigma=51).assumed_noise == ClippedGaussian(51)
    assert Denoise(resolution=8, sigma=51, assumed_sigma=25.5).assumed_noise == ClippedGaussian(25.5)
    assert Denoise(resolution=8, sigma=51, assumed_sigma=0).assumed_noise.sigma == 0
    assert {op.assumed_noise.sigma for op in EIGHT if op.name not in ("denoise", "compose")} == {0.0}
    noisy = [{"name": "denoise", "sigma": 51}, {"name": "super-resolve", "factor": 2}]
    for operators, last in ((noisy, NoNoise()), (noisy[::-1], ClippedGaussian(51))):
        op = Compose(resolution=8, operators=operators)
        assert op.assumed_noise == last
        assert op.noise_level() > 0
    assert not Compose(resolution=8, operators=[noisy[1], {**noisy[0], "assumed_sigma": 0}]).noise_level()


# Super-resolution


@pytest.mark.parametrize("factor", [2, 3, 4, 16, 32])
def test_super_resolution_keeps_constants_and_inner_ramps(factor: int) -> None:
    op = SuperResolve(resolution=96, factor=factor)
    torch.testing.assert_close(op(torch.full((1, 3, 96, 96), 0.3)), torch.full((1, 3, 96 // factor, 96 // factor), 0.3))
    ramp = torch.arange(96.0).expand(1, 3, 96, 96)
    centres = torch.arange(96 // factor) * factor + (factor - 1) / 2
    inner = slice(2, 96 // factor - 2)
    torch.testing.assert_close(op(ramp)[0, 0, 0, inner], centres[inner], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_super_resolution_is_pillows_bicubic_away_from_the_border(factor: int) -> None:
    x = _random(1, 3, 72, 72, dtype=torch.float32)
    side = 72 // factor
    y = SuperResolve(resolution=72, factor=factor)(x)
    for channel in range(3):
        oracle = Image.fromarray(x[0, channel].numpy()).resize((side, side), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(y[0, channel, 2:-2, 2:-2].numpy(), np.asarray(oracle)[2:-2, 2:-2], atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_super_resolution_reflects_at_the_border(factor: int) -> None:
    """Compare with a direct sum of taps over a reflected picture."""
    x = _random(1, 3, 16, 16)

    def keys(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    pad = 2 * factor
    padded = np.pad(x[0, 0].numpy(), pad, mode="reflect")
    taps = np.array([keys((i - 2 * factor + 0.5) / factor) for i in range(4 * factor)])
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    first = pad + factor // 2 - 2 * factor
    windows = [first + j * factor for j in range(16 // factor)]
    expected = [[(padded[i : i + 4 * factor, j : j + 4 * factor] * kernel).sum() for j in windows] for i in windows]
    np.testing.assert_allclose(SuperResolve(resolution=16, factor=factor)(x)[0, 0].numpy(), expected, atol=1e-6)


# Compressed sensing


def test_compressed_sensing_is_a_signed_partial_circulant_matrix() -> None:
    op = CompressedSensing(resolution=4, fraction=0.25, seed=9)
    matrix = op(torch.eye(48, dtype=torch.float64).reshape(48, 3, 4, 4)).T  # [m, n]
    circulant = matrix * op.signs  # D undone
    assert circulant.shape == (12, 48)
    first_row = torch.roll(circulant[0], -int(op.rows[0]))
    for row, shift in zip(circulant, op.rows.tolist(), strict=True):
        torch.testing.assert_close(row, torch.roll(first_row, shift))
    assert len(set(op.rows.tolist())) == 12
    assert set(op.signs.tolist()) == {-1.0, 1.0}


def test_compressed_sensing_keeps_the_norm_in_expectation() -> None:
    x = _random(1, 3, 16, 16)
    ratios = [
        float((CompressedSensing(resolution=16, fraction=0.1, seed=s)(x) ** 2).sum() / (x**2).sum()) for s in range(100)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)
    assert 0.05 < np.std(ratios) < 0.3


def test_compressed_sensing_is_reproducible() -> None:
    x = _random(1, 3, 8, 8)
    a, b, c = (CompressedSensing(resolution=8, fraction=0.2, seed=s)(x) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


# Deblurring


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_gaussian_blur(sigma: float) -> None:
    from scipy.ndimage import gaussian_filter

    x = _random(1, 3, 24, 24)
    expected = gaussian_filter(x[0, 1].numpy(), sigma, mode="mirror", radius=math.ceil(4 * sigma))
    np.testing.assert_allclose(Deblur(resolution=24, sigma=sigma)(x)[0, 1].numpy(), expected, atol=1e-6)


def test_motion_blur_follows_its_angle() -> None:
    dot = torch.zeros(1, 3, 17, 17)
    dot[..., 8, 8] = 1
    flat, up, rising = (Deblur(resolution=17, kind="motion", length=6, angle=a)(dot)[0, 0] for a in (0, 90, 45))
    assert float(flat[8].sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(flat[8, 6:11].min()) > 0.1
    torch.testing.assert_close(up, flat.T, rtol=0, atol=1e-6)
    assert float(rising[6, 10]) > 0.05  # up and to the right
    assert float(rising[10, 10]) == pytest.approx(0, abs=1e-6)
    whole = Deblur(resolution=17, kind="motion", length=17, angle=-70)
    torch.testing.assert_close(whole(torch.ones(1, 3, 17, 17)), torch.ones(1, 3, 17, 17))


# Composition


def test_compose_measures_in_sequence() -> None:
    first, last = Deblur(resolution=8, sigma=1.0), SuperResolve(resolution=8, factor=2)
    x = _random(2, 3, 8, 8)
    torch.testing.assert_close(Compose(resolution=8, operators=[first, last])(x), last(first(x)), rtol=0, atol=0)
    quiet = {"name": "denoise", "sigma": 5.0}
    zero = torch.zeros(1, 3, 32, 32)
    once = build("denoise", 32, sigma=5.0).measure(zero)
    second = Compose(resolution=32, operators=[quiet, quiet]).measure(zero) - once
    assert float(second.std()) == pytest.approx(5 / 127.5, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([once.flatten(), second.flatten()]))[0, 1])) < 0.1  # its own noise


def test_a_chain_with_a_non_linear_operator_has_no_adjoint() -> None:
    class Squared(Operator):
        name, title, formula, linear = "squared", "Squared", "y = x²", False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x**2

    chain = Compose(resolution=4, operators=[Identity(resolution=4), Squared(resolution=4)])
    for op in (chain, chain.operators[1]):
        with pytest.raises(SettingsError, match="not linear"):
            op.adjoint(torch.zeros(1, 3, 4, 4))
