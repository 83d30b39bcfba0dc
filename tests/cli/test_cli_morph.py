"""Morphs from the command line."""

import json

import pytest

from ilo.cli import main as cli
from ilo.records.bundle import FILES
from ilo.records.strip import ROUND_NAME
from tests.cli.test_cli import solve


def morph(*options, seed=0):
    return cli.main(["solve", "--task", "morph", "--seed", str(seed), *map(str, options)])


def test_morph_a_face_and_replay(classifier_file, tmp_path, capsys):
    out = tmp_path / "run"
    options = ("--class", "goldfish", "--class", "bullfrog=0.5", "--classifier", classifier_file, "--out", out)
    assert morph(*options, "--reach", "0.5") == 0
    assert "tiny sees" in capsys.readouterr().out
    unmeasured = {"input.png", "mask.png", "measurement.png", "measurement.safetensors"}
    assert {p.name for p in out.iterdir() if not ROUND_NAME.fullmatch(p.name)} == set(FILES) - unmeasured
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["operator"]["classes"] == {"goldfish": 1.0, "bullfrog": 0.5}
    assert cli.main(["replay", str(out), "--classifier", str(classifier_file)]) == 0
    assert "the same, byte for byte" in capsys.readouterr().out
    assert cli.main(["replay", str(out)]) == 2
    assert "give its file with --classifier" in capsys.readouterr().err


def test_morph_a_photograph(photo, classifier_file, tmp_path, capsys):
    out = tmp_path / "run"
    assert morph(photo, "--class", "goldfish", "--classifier", classifier_file, "--method", "pixels", "--out", out) == 0
    assert (out / "input.png").exists()
    assert cli.main(["replay", str(out), "--classifier", str(classifier_file)]) == 0
    assert "the same, byte for byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--class", "frogs"), "no class 'frogs'; the nearest are"),
        (("--class", "goldfish=nan"), "weight of goldfish must be"),
        (("--class", "goldfish=x"), "give a class"),
        ((), "A morph needs a class"),
        (("--class", "goldfish", "--reach", "-1"), "reach must be a number from 0 to 1000, not -1.0"),
        (("--class", "goldfish", "--method", "csgm"), "allowed are ilo, pixels"),
        (("--class", "goldfish", "--steps", "1,2"), "A morph has no --steps"),
        (("--class", "goldfish", "--class", "goldfish=2"), "given twice"),
        (("--class", "goldfish", "--sigma", "3"), "has no --sigma"),
        (("--class", "goldfish", "--crop", "0.5,0.5,1"), "of a generated face has no --crop"),
        (
            ("--class", "goldfish", "--settings", '{"rounds": []}', "--reach", "2"),
            "--settings and --reach cannot be used together",
        ),
        (("--class", "goldfish", "--classifier", "none.safetensors"), "no such weights file"),
    ],
)
def test_morphs_that_are_not_allowed(options, reason, classifier_file, tmp_path, capsys):
    given = options if "--classifier" in options else (*options, "--classifier", classifier_file)
    assert morph(*given, "--out", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1


def test_options_of_a_morph_are_refused_elsewhere(photo, tmp_path, capsys):
    assert solve(photo, tmp_path / "run", "--task", "identity", "--class", "goldfish") == 2
    assert "--class is only for --task morph" in capsys.readouterr().err
    assert cli.main(["solve", "--task", "identity", "--out", str(tmp_path / "run")]) == 2
    assert "No picture is given" in capsys.readouterr().err
