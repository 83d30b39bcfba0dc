"""Metrics compared with known values and with direct calls of scikit-image."""

from __future__ import annotations

import json
import math

import pytest
import torch
from skimage.metrics import structural_similarity

from ilo.records.metrics import mse, psnr, report, ssim
from ilo.settings import SettingsError


def _picture(seed: int, batch: int = 1, side: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


HOLE = torch.zeros(1, 1, 24, 24)
HOLE[..., 6:12, 6:12] = 1


def test_errors_are_on_the_unit_scale() -> None:
    a = torch.zeros(2, 3, 16, 16)
    b = a.clone()
    b[1] += 0.2  # 0.1 of the range
    assert mse(a, b).tolist() == pytest.approx([0.0, 0.01])
    assert psnr(a, b).tolist() == pytest.approx([math.inf, 20.0])
    assert mse(a.to(torch.bfloat16) - 1, a + 1).tolist() == pytest.approx([1.0, 1.0])


def test_values_outside_of_the_range_are_clamped() -> None:
    a = torch.ones(1, 3, 16, 16)
    assert float(mse(a, 3 * a)) == 0
    assert float(ssim(a, 3 * a)) == pytest.approx(1)


def test_only_the_region_counts() -> None:
    a = torch.zeros(1, 3, 24, 24)
    b = a + HOLE * 0.2
    assert float(mse(a, b, HOLE)) == pytest.approx(0.01)
    assert float(mse(a, b, 1 - HOLE)) == 0
    assert float(mse(a, b)) == pytest.approx(0.01 * 36 / 576)
    assert float(psnr(a, b, HOLE)) == pytest.approx(20)


def test_ssim_is_scikit_images() -> None:
    a, b = _picture(0, 2), _picture(1, 2)
    b = 0.7 * a + 0.3 * b
    kwargs = {"data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False, "channel_axis": 0}
    for i, value in enumerate(ssim(a, b).tolist()):
        left, right = ((x[i].double() + 1).numpy() / 2 for x in (a, b))
        assert value == pytest.approx(structural_similarity(left, right, **kwargs), abs=1e-9)
        assert 0.2 < value < 0.95
        full = structural_similarity(left, right, full=True, **kwargs)[1]
        assert ssim(a, b, HOLE).tolist()[i] == pytest.approx(full[:, 6:12, 6:12].mean(), abs=1e-9)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_report() -> None:
    a, b = _picture(0), _picture(1)
    values = report(a, b, HOLE)
    assert list(values) == ["mse", "psnr", "ssim", "mse_hole", "psnr_hole", "ssim_hole"]
    assert values["mse"] == pytest.approx(float(mse(a, b)))
    assert values["psnr"] == pytest.approx(float(psnr(a, b)))
    assert values["ssim_hole"] == pytest.approx(float(ssim(a, b, HOLE)))
    assert values["mse_hole"] != pytest.approx(values["mse"])
    assert list(report(a, b)) == ["mse", "psnr", "ssim"]
    equal = report(a, a)
    assert (equal["mse"], equal["psnr"]) == (0.0, 100.0)
    json.dumps(equal, allow_nan=False)
    assert list(report(a[..., :8, :8], b[..., :8, :8])) == ["mse", "psnr"]


def test_what_is_refused() -> None:
    a = _picture(0)
    with pytest.raises(SettingsError, match="shapes"):
        mse(a, a[..., :12])
    with pytest.raises(SettingsError, match="shapes"):
        mse(a[:, :1], a[:, :1])
    with pytest.raises(SettingsError, match="empty"):
        mse(a, a, torch.zeros(1, 1, 24, 24))
    with pytest.raises(SettingsError, match="region has shape"):
        psnr(a, a, torch.ones(24, 24))
    with pytest.raises(SettingsError, match="at least 11"):
        ssim(a[..., :8, :8], a[..., :8, :8])
    with pytest.raises(SettingsError, match="one by one"):
        report(_picture(0, 2), _picture(1, 2))
