"""Several answers to one measurement from the command line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ilo.cli import main as cli
from ilo.cli import report
from ilo.engine import memory
from ilo.operators import build
from ilo.priors.base import State
from ilo.problem import Problem
from ilo.records.bundle import FILES, load_latents
from ilo.records.strip import ROUND_NAME
from ilo.settings import RoundSettings, SolverSettings
from ilo.state import Result
from tests.cli.test_cli import solve

FOUR = ("--task", "inpaint", "--mask", "eyes", "--steps", "2,1", "--weights", "perceptual=0", "--samples", "4")


@pytest.fixture
def run(photo, tmp_path):
    out = tmp_path / "run"
    assert solve(photo, out, *FOUR, "--threads", "1") == 0
    return out


def picture(path):
    return np.asarray(Image.open(path)).astype(float)


def test_files_of_four_answers(run, model):
    answers = [f"answer-{n}.png" for n in (1, 2, 3, 4)]
    rounds = {p.name for p in run.iterdir() if ROUND_NAME.fullmatch(p.name)}
    assert {p.name for p in run.iterdir()} == {*FILES, *rounds, *answers, "mean.png", "spread.png"}
    assert json.loads((run / "recipe.json").read_text())["settings"]["samples"] == 4
    assert (run / "answer-1.png").read_bytes() == (run / "result.png").read_bytes()
    pictures = np.stack([picture(run / name) for name in answers])
    assert len(np.unique(pictures.reshape(4, -1), axis=0)) == 4
    assert np.abs(picture(run / "mean.png") - pictures.mean(0)).max() <= 1
    assert np.abs(picture(run / "spread.png") - (4 * pictures.std(0)).clip(0, 255)).max() <= 3  # of rounding
    state = load_latents(run / "latents.safetensors", 4)
    assert len(state) == 4
    rows = list(csv.DictReader((run / "trace.csv").read_text().splitlines()))
    assert [row["answer"] for row in rows[:4]] == ["1", "2", "3", "4"]
    assert len(rows) == 4 * (3 + 2)
    assert {row["done"] for row in rows[4:8]} == {"1"}


def test_one_line_for_each_answer_and_for_the_mean(photo, tmp_path, capsys):
    assert solve(photo, tmp_path / "run", *FOUR) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == ["answer 1", "answer 2", "answer 3", "answer 4", "mean"]
    assert all("fit " in line and "PSNR" in line and "in the hole" in line for line in lines)
    assert solve(photo, tmp_path / "run", "--task", "denoise", "--damaged", "--steps", "1", "--samples", "2") == 0
    assert not (tmp_path / "run" / "answer-3.png").exists()  # of the earlier run
    lines = capsys.readouterr().out.splitlines()[1:]
    assert all("fit " in line and "PSNR" not in line for line in lines)
    assert len(lines) == 3


def test_fit_and_errors_of_known_pictures():
    problem = Problem.damage(torch.zeros(1, 3, 64, 64), build("identity", 64))
    image = torch.stack([torch.full((3, 64, 64), value) for value in (-0.2, 0.2)])
    first, second, mean = report.lines(problem, Result(State({}, 0), image, 0, 1, 2))
    assert first.startswith("answer 1  fit 10.00 × 10⁻³; MSE 10.00 × 10⁻³, PSNR 20.00 dB")
    assert second.startswith("answer 2  fit 10.00 × 10⁻³; MSE 10.00")
    assert mean.startswith("mean      fit 0.00 × 10⁻³; MSE 0.00")


def test_replay_compares_every_answer(run, tmp_path, capsys):
    assert cli.main(["replay", str(run), "--out", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert said.count("the same, byte for byte") == 5
    for path in run.iterdir():
        if path.name != "trajectory.mp4":
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    changed = picture(run / "answer-3.png").astype(np.uint8)
    changed[0, 0] ^= 255
    Image.fromarray(changed).save(run / "answer-3.png")
    assert cli.main(["replay", str(run)]) == 1
    said = capsys.readouterr().out
    assert "answer-3.png differs in 1 of 4,096 pixels" in said
    assert "answer-4.png is the same" in said
    (run / "answer-4.png").unlink()
    assert cli.main(["replay", str(run)]) == 2
    assert "contains no answer-4.png to compare with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ("0", "samples must be a whole number from 1 to 100,000, not 0"),
        ("-3", "not -3"),
        ("two", "invalid int value"),
        ("100001", "not 100001"),
        ("10000", "of memory, and 2.0 GB are free; run fewer samples at once"),
    ],
)
def test_numbers_of_answers_that_are_refused_before_the_run(samples, words, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 2 * 10**9)
    monkeypatch.setattr("ilo.cli.pictures.problem", None)  # nothing is measured
    assert solve(photo, tmp_path / "run", *FOUR[:-1], samples) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_more_answers_than_fit_is_refused_before_the_run(run, capsys, monkeypatch):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["settings"]["samples"] = 100_000
    (run / "recipe.json").write_text(json.dumps(recipe))
    monkeypatch.setattr(memory, "available", lambda device: 2 * 10**9)
    assert cli.main(["replay", str(run)]) == 2
    assert "of memory, and 2.0 GB are free" in capsys.readouterr().err


def test_a_morph_has_one_answer(classifier_file, tmp_path, capsys):
    morph = ["solve", "--task", "morph", "--class", "goldfish", "--classifier", str(classifier_file)]
    morph += ["--out", str(tmp_path / "run")]
    assert cli.main([*morph, "--samples", "2"]) == 2
    assert "A morph has no --samples" in capsys.readouterr().err
    settings = SolverSettings(rounds=(RoundSettings(steps=1),), samples=2).to_dict()
    assert cli.main([*morph, "--settings", json.dumps(settings)]) == 2
    assert "asks for 2 samples; a morph has one" in capsys.readouterr().err
    assert cli.main([*morph, "--settings", json.dumps({**settings, "samples": 1})]) == 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    recipe["settings"]["samples"] = 2
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    assert cli.main(["replay", str(tmp_path / "run"), "--classifier", str(classifier_file)]) == 2
    assert "has 2 samples; a morph has one" in capsys.readouterr().err
