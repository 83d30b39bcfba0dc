"""The benchmarks make fair comparisons."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import alignment, faces, quality, rows
from benchmarks.plain import PlainGenerator, PlainRound, project_by_sorting
from ilo import Problem, build, preset, solve
from ilo.objective import MeasurementObjective
from ilo.photos.facenet import FACE
from ilo.photos.faces import Face
from ilo.projection import project_l1
from ilo.search import LayerSearch


@pytest.fixture(scope="module")
def photographs():
    """Four real faces [4, 3, 64, 64]; requires the validation pictures beside the checkout."""
    if not faces.path().exists():
        if os.environ.get("CI"):
            pytest.fail(f"{faces.path().name} is not beside the checkout")
        pytest.skip("the validation photographs are not part of the project")
    return faces.read(faces.names()[faces.TUNED_ON][:4], 64)


def test_the_plain_network_matches_the_golden_images(golden_model, data):
    golden = load_file(data / "faces64-golden.safetensors")
    image = PlainGenerator(golden_model)(golden["ws_plus"], golden_model.generator.noise_const())
    torch.testing.assert_close(image, golden["image_ws_plus_const"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("layer", [0, 2])
def test_the_plain_step_is_the_same_step(model, layer):
    settings = preset("Quick")
    state = model.draw(0)
    for k in range(1, layer + 1):
        state = model.enter(state, k, settings)
    problem = Problem.damage(torch.zeros(1, 3, 64, 64), build("random-inpaint", 64, fraction=0.1))
    plan = replace(settings.rounds[layer], steps=3)
    plain = PlainRound(model, problem, state, plan)
    ours = LayerSearch(model, MeasurementObjective(problem, settings.weights, None), state, plan, settings)
    for _ in range(2):
        plain.step()
        ours.step()
    assert plain.best == pytest.approx(float(ours._best.loss[0]), rel=1e-2)  # Adam amplifies rounding errors


def test_sorting_and_newton_project_alike():
    x = torch.randn(3, 500)
    torch.testing.assert_close(project_by_sorting(x, 20.0), project_l1(x, 20.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", quality.METHODS[:4])
def test_all_methods_get_the_same_number_of_steps(method, model):
    for row in rows.ROWS:
        operator = rows.operator(row, model.resolution)
        assert quality.settings_of(method, "float32", operator, model).total_steps == 150


def test_figures_of_other_weights_or_settings_are_not_kept(tmp_path, model):
    path, row = tmp_path / "quality.json", next(iter(rows.ROWS))
    assert quality.kept(path, model, "float32") == {}
    ours = {m: quality.made_with(model, m, row, "float32") for m in quality.METHODS}
    path.write_text(json.dumps({row: ours}))
    assert quality.kept(path, model, "float32") == {row: ours}
    assert quality.kept(path, model, "bfloat16") == {row: {}}
    others = {"csgm": ours["csgm"] | {"model": "0"}, "pulse": ours["ilo"]}
    path.write_text(json.dumps({row: {"ilo": ours["ilo"]} | others}))
    assert quality.kept(path, model, "float32") == {row: {"ilo": ours["ilo"]}}


def test_the_table_has_what_was_measured():
    figures = {"mse": 0.004, "psnr": 24.0, "ssim": 0.8}
    row = "denoising, σ = 25"
    made = quality.table({row: {"ilo": figures, "csgm": {**figures, "mse": 0.006}}})
    assert made.splitlines() == [
        "| task | ILO | CSGM | CSGM : ILO | goal | ILO PSNR | ILO SSIM |",
        "|---|---|---|---|---|---|---|",
        f"| {row} | 4.00 | 6.00 | 1.50 | 1.8 | 24.0 | 0.800 |",
    ]


def test_no_method_is_measured_where_it_was_tuned(photographs):
    tuned, measured = faces.for_tuning(16, 64), faces.for_measuring(400, 64)
    earlier = faces.read(faces.names()[faces.TUNED_ON], 64)
    assert len(tuned) + len(earlier) + len(measured) == len(faces.names())
    tuned = torch.cat([tuned, earlier])
    assert not any(torch.equal(a, b) for a in tuned for b in measured)
    assert torch.equal(faces.for_measuring(3, 64), measured[:3])


def test_all_rows_can_be_measured():
    for row in rows.ROWS:
        operator = rows.operator(row, 64)
        hole = rows.hole(operator)
        assert operator.observed > 0
        assert (hole is not None) == row.startswith("inpainting")


def test_ilo_beats_csgm_on_photographs(model, photographs):
    """The goal of the quality table on four faces, with half of the pixels observed."""
    problem = Problem.damage(photographs, build("random-inpaint", 64, fraction=0.5))
    errors = {}
    for method in ("ilo", "csgm"):
        *_, last = solve(model, problem, preset("Quick", method), due=lambda: False, perceptual=None)
        image = last.result.image.clamp(-1, 1)
        errors[method] = float((image - photographs).div(2).square().mean())
    assert errors["ilo"] < 0.001
    assert errors["csgm"] > 2 * errors["ilo"]


def test_pasted_faces_do_not_overlap_and_an_exact_detection_has_no_error():
    rng, clear = np.random.default_rng(0), np.ones((alignment.HEIGHT, alignment.WIDTH), bool)
    picture = np.full((128, 128, 3), 200, np.uint8)
    squares = [alignment.place(picture, rng, 45, 2.0, clear) for _ in range(8)]
    pasted = np.zeros((*clear.shape, 3), int)
    for square in filter(None, squares):
        whole = np.zeros(pasted.shape, np.uint8)
        alignment.paste(picture, whole, square)
        pasted += whole > 100
    assert pasted.max() == 1
    original = Face((0, 0, 128, 128), 1.0, 128 * FACE)
    moved = Face((0, 0, 1, 1), 1.0, squares[0].to_photo(FACE))
    assert alignment.error(original, 128, squares[0], moved, "ffhq") < 1e-9
    away = Face((0, 0, 1, 1), 1.0, squares[0].to_photo(FACE + 0.1))
    assert alignment.error(original, 128, squares[0], away, "ffhq") > 0.05
