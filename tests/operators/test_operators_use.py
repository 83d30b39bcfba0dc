"""Forward operators in use: pictures for perceptual distances, validation, registry."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ilo import operators
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
    Setting,
    SuperResolve,
    build,
    default_tasks,
    register,
)
from ilo.operators.resample import motion_kernel
from ilo.settings import SettingsError
from tests.operators.test_operators import EIGHT, _mask, _random


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Use one thread: small tensors are slower on two, especially on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Pictures compared by a perceptual distance


def test_comparable_fills_holes_with_generated_pixels() -> None:
    op = Inpaint(resolution=8, mask=_mask(8))
    y = op.measure(_random(1, 3, 8, 8, dtype=torch.float32))
    image = _random(1, 3, 8, 8, seed=1, dtype=torch.float32).requires_grad_()
    pair = op.comparable(image, op(image), y, 8)
    assert pair is not None
    hole = (op.mask == 0).expand_as(image)
    assert torch.equal(pair[0], image)
    assert torch.equal(pair[1][hole], image[hole])
    assert torch.equal(pair[1][~hole], y[~hole])
    (gradient,) = torch.autograd.grad(pair[1].sum(), image)
    assert torch.equal(gradient.bool(), hole)


def test_comparable_per_task() -> None:
    x = _random(2, 3, 32, 32, dtype=torch.float32)
    assert RandomInpaint(resolution=32, fraction=0.19).comparable(x, x, x, 32) is None
    assert RandomInpaint(resolution=32, fraction=0.21).comparable(x, x, x, 32) is not None
    sensing = CompressedSensing(resolution=32)
    assert sensing.comparable(x, sensing(x), sensing(x), 32) is None
    chain = Compose(resolution=32, operators=[Denoise(resolution=32), sensing])
    assert chain.comparable(x, chain(x), chain(x), 32) is None
    for op in (SuperResolve(resolution=32), Colorize(resolution=32), Denoise(resolution=32), Deblur(resolution=32)):
        y = op.measure(x)
        pair = op.comparable(x, op(x), y, 32)
        assert pair is not None
        assert [p.shape for p in pair] == [x.shape, x.shape]
    noisy = x + 0.1
    pair = Denoise(resolution=32).comparable(x, noisy, x, 32)
    assert pair is not None
    assert torch.equal(pair[0], noisy)
    grey = Colorize(resolution=32).comparable(x, Colorize(resolution=32)(x), Colorize(resolution=32)(x), 32)
    assert grey is not None
    assert torch.equal(grey[0][:, 0], grey[0][:, 2])


def test_comparable_after_a_chain_fills_with_what_enters_the_mask() -> None:
    small = SuperResolve(resolution=16, factor=2)
    op = Compose(resolution=16, operators=[small, {"name": "inpaint"}], mask=_mask(8))
    x, image = (_random(1, 3, 16, 16, seed=s, dtype=torch.float32) for s in (0, 1))
    pair = op.comparable(op.entering(image), op(image), op.measure(x), 8)
    assert pair is not None
    torch.testing.assert_close(pair[0], small(image))
    torch.testing.assert_close(pair[1], op.mask * small(x) + (1 - op.mask) * small(image))


@pytest.mark.parametrize(("side", "size"), [(16, 64), (12, 20), (64, 16), (50, 20)])
def test_comparable_resizes_as_pillow_does(side: int, size: int) -> None:
    x = _random(1, 3, side, side, dtype=torch.float32)
    pair = Identity(resolution=side).comparable(x, x, x, size)
    assert pair is not None
    oracle = np.asarray(Image.fromarray(x[0, 1].numpy()).resize((size, size), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(pair[0][0, 1].numpy(), oracle, atol=1e-5)
    assert torch.equal(pair[0], pair[1])


def test_comparable_works_first_without_and_then_with_gradient() -> None:
    op = Identity(resolution=13)  # a size that no other test resizes
    x = _random(1, 3, 13, 13, dtype=torch.float32)
    with torch.inference_mode():
        op.comparable(x, x, x, 29)
    image = x.clone().requires_grad_()
    pair = op.comparable(image, op(image), x, 29)
    assert pair is not None
    pair[0].square().sum().backward()
    assert image.grad is not None


# Validation


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("inpaint", {"mask": torch.zeros(8, 8)}, "hides every pixel"),
        ("inpaint", {"mask": torch.ones(8, 8)}, "nothing to fill in"),
        ("inpaint", {"mask": torch.full((8, 8), math.nan)}, "NaN"),
        ("inpaint", {"mask": torch.ones(2, 3, 8, 8)}, r"\[2, 3, 8, 8\]"),
        ("inpaint", {"mask": "eyes"}, "mask is a str"),
        ("inpaint", {}, "needs mask"),
        ("random-inpaint", {"fraction": 0.004}, "fraction must be a number from 0.005 to 1, not 0.004"),
        ("random-inpaint", {"fraction": 1.01}, "from 0.005 to 1"),
        ("random-inpaint", {"fraction": math.nan}, "fraction must be .*, not nan"),
        ("random-inpaint", {"seed": -1}, "seed must be .*, not -1"),
        ("denoise", {"sigma": 256}, "from 0 to 255"),
        ("denoise", {"sigma": -1}, "from 0 to 255"),
        ("denoise", {"sigma": math.nan}, "sigma must be .*, not nan"),
        ("denoise", {"assumed_sigma": math.nan}, "assumed_sigma must be .*, not nan"),
        ("denoise", {"sigma": "25"}, "sigma must be .*, not '25'"),
        ("super-resolve", {"factor": 1}, "whole number from 2 to 32"),
        ("super-resolve", {"factor": 33}, "whole number from 2 to 32"),
        ("super-resolve", {"factor": 2.5}, "whole number"),
        ("super-resolve", {"factor": 3}, "does not divide the resolution 8; give one of 2, 4, 8"),
        ("super-resolve", {"factor": math.nan}, "factor must be .*, not nan"),
        ("compressed-sensing", {"fraction": 0}, "from 0.005 to 1"),
        ("compressed-sensing", {"fraction": math.nan}, "fraction must be .*, not nan"),
        ("compressed-sensing", {"seed": 2**31}, "seed must be .*, not 2147483648"),
        ("deblur", {"kind": "box"}, "allowed are gaussian, motion"),
        ("deblur", {"sigma": 2.1}, "from 0.1 to 2"),
        ("deblur", {"sigma": math.nan}, "sigma must be .*, not nan"),
        ("deblur", {"kind": "motion", "length": 8.5}, "from 1 to 8"),
        ("deblur", {"kind": "motion", "sigma": math.nan}, "sigma must be .*, not nan"),
        ("deblur", {"kind": "motion", "length": 5, "angle": math.inf}, "angle must be .*, not inf"),
        ("compose", {"operators": []}, "at least one"),
        ("compose", {"operators": "denoise"}, "give a list"),
        ("compose", {"operators": [{"sigma": 3}]}, "name and settings"),
        ("compose", {"operators": [{"name": "inpaint"}]}, "has no mask"),
        ("compose", {"operators": [{"name": "identity"}], "mask": _mask(8)}, "no operator in the list"),
        ("compose", {"operators": [{"name": "colorize"}, {"name": "denoise"}]}, "put it last"),
        ("compose", {"operators": [{"name": "compressed-sensing"}, {"name": "denoise"}]}, "put it last"),
        ("compose", {"operators": [Identity(resolution=4)]}, "made for 4 px but gets pictures of 8 px"),
        ("sharpen", {}, "task is 'sharpen'; allowed are .*inpaint"),
        ("denoise", {"strength": 3}, "does not know the setting strength; it has sigma, assumed_sigma"),
        ("identity", {"seed": 3}, "it has none"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(name, 8, **settings)


@pytest.mark.parametrize("resolution", [1, 5000, 8.0, math.nan])
def test_resolution(resolution: int) -> None:
    with pytest.raises(SettingsError, match="resolution must be"):
        Identity(resolution=resolution)


def test_a_picture_with_nan_is_not_measured() -> None:
    with pytest.raises(SettingsError, match="not finite"):
        Identity(resolution=4).measure(torch.full((1, 3, 4, 4), math.nan))
    with pytest.raises(SettingsError, match="seed"):
        Identity(resolution=4).measure(torch.zeros(1, 3, 4, 4), seed=-3)


# Registry


@pytest.fixture
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.registry, "OPERATORS", dict(OPERATORS))


@pytest.mark.usefixtures("_own_registry")
def test_a_users_operator() -> None:
    def define() -> type[Operator]:
        @register
        class Dim(Operator):
            name, title, formula = "dim", "Dim", "y = gain · x, left and right exchanged"
            gain: float = Setting.number(0.5, 0.0, 2.0, step=0.1, label="Gain", help="Factor on every value.")

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.gain * x.flip(-1)

        return Dim

    define()
    define()  # as when a notebook cell runs twice
    op = build("dim", 4, gain=0.25)
    x = _random(1, 3, 4, 4)
    torch.testing.assert_close(op.measure(x), 0.25 * x.flip(-1))
    torch.testing.assert_close(op.adjoint(x), 0.25 * x.flip(-1))
    assert op.settings() == {"gain": 0.25}
    assert (op.observed, op.share) == (48, 1.0)
    assert repr(op) == "Dim(resolution=4, gain=0.25)"
    with pytest.raises(SettingsError, match="does not know the setting sigma; it has gain"):
        build("dim", 4, sigma=1)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.usefixtures("_own_registry")
def test_a_users_operator_may_measure_anything(linear: bool) -> None:
    @register
    class Sums(Operator):
        name, title, formula = "sums", "Sums", "y = the sum of each row"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum((1, 3)) if linear else x.square().sum((1, 3))

    x = _random(1, 3, 8, 8)
    with pytest.raises(SettingsError, match=r"Sums gives a measurement of shape \[8\].*override that property in Sums"):
        build("sums", 8).measure(x)
    Sums.measurement_shape = property(lambda self: (self.resolution,))  # type: ignore[assignment]
    Sums.linear = linear
    op = build("sums", 8)
    y = op.measure(x)
    assert not op.compares_features
    assert op.comparable(x, op(x), y, 8) is None
    assert op.picture(y).shape == (1, 3, 8, 8)
    if linear:
        torch.testing.assert_close(op.picture(y)[0, 0, :, 0], y[0].clamp(-1, 1))
    with pytest.raises(SettingsError, match=r"The task is \['sums'\]"):
        build(["sums"], 8)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_own_registry")
def test_names_are_unique_and_given() -> None:
    with pytest.raises(SettingsError, match="'denoise' belongs to Denoise"):

        @register
        class Other(Operator):
            name, title, formula = "denoise", "Other", "y = x"

    with pytest.raises(SettingsError, match="has no name, formula"):

        @register
        class Nameless(Operator):
            title = "Nameless"


@pytest.mark.parametrize("resolution", [8, 64, 256, 1024])
def test_default_tasks(resolution: int) -> None:
    tasks = default_tasks(resolution)
    assert list(tasks) == [*dict.fromkeys(tasks)]
    assert set(tasks) == {op.name for op in EIGHT}
    for name, settings in tasks.items():
        json.dumps(settings)
        if resolution <= 64:
            mask = {"mask": _mask(resolution)} if name == "inpaint" else {}
            build(name, resolution, **settings, **mask)
    factors = {8: 2, 64: 4, 256: 8, 1024: 16}
    assert tasks["super-resolve"]["factor"] == factors[resolution]


def sequence(depth: int, width: int = 1) -> list[dict[str, object]]:
    inner: list[dict[str, object]] = [{"name": "identity"}] * width
    for _ in range(depth - 1):
        inner = [{"name": "compose", "operators": inner}]
    return inner


@pytest.mark.parametrize(("depth", "width"), [(4, 13), (1, 16)])
def test_sequences_within_limits(depth: int, width: int) -> None:
    operator = build("compose", 8, operators=sequence(depth, width))
    again = build("compose", 8, **operator.settings())
    assert again.settings() == operator.settings()
    assert torch.equal(again(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize(("depth", "width"), [(5, 1), (1, 17), (4, 14), (2, 200_000)])
def test_sequences_beyond_limits(depth: int, width: int) -> None:
    with pytest.raises(SettingsError, match="allowed are 16 operators in all, sequences included"):
        build("compose", 8, operators=sequence(depth, width))
    if width < 16:
        inner = Compose(resolution=8, operators=sequence(depth - 1, width))
        with pytest.raises(SettingsError, match="allowed are 16 operators in all"):
            Compose(resolution=8, operators=[inner])


HOSTILE = [None, True, "1", -1, 0, 1e300, 10**400, float("nan"), float("inf"), [], [[1]], {}, b"1", 2**63, 1j]
WITH_SETTINGS = ("random-inpaint", "denoise", "super-resolve", "deblur", "compressed-sensing")
EVERY = [(name, setting.name) for name in WITH_SETTINGS for setting in OPERATORS[name].declared]


@pytest.mark.parametrize(("name", "setting"), EVERY)
@pytest.mark.parametrize("extra", [{}, {"kind": "motion"}])
def test_hostile_settings(name: str, setting: str, extra: dict[str, str]) -> None:
    for value in HOSTILE:
        settings: dict[str, Any] = {**(extra if name == "deblur" else {}), setting: value}
        try:
            operator = build(name, 16, **settings)
        except SettingsError as error:
            said = str(error)
            assert said.isprintable(), said
            assert len(said) < 300, said
        else:
            assert value is None or (type(value) is int and -1 <= value <= 0), settings
            assert operator(torch.zeros(1, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3, 8, 8), (1, 3, 4, 4), (3, 8, 8)])
def test_measurements_of_other_shapes(shape: tuple[int, ...]) -> None:
    operator = build("identity", 8)
    for use in (operator.check_measurement, operator.adjoint, operator.picture):
        with pytest.raises(SettingsError, match="needs floating-point"):
            use(torch.zeros(shape))


def test_the_longest_motion_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = motion_kernel(60.0, 33.0)
    monkeypatch.setattr("ilo.operators.resample.MOST_WEIGHTS", 1000)
    assert torch.allclose(motion_kernel(60.0, 33.0), whole, atol=1e-15)
