"""The command line, in this process except for one test."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import ilo.solver
from ilo.cli import main as cli
from ilo.cli import options as cli_options
from ilo.cli import settings as cli_settings
from ilo.methods import preset
from ilo.operators import OPERATORS
from ilo.records.bundle import FILES, read_bundle
from ilo.settings import LossWeights, SettingsError
from tests.records.test_recipe import of_version_1


@pytest.fixture(autouse=True)
def no_perceptual(monkeypatch):
    monkeypatch.setattr("ilo.perceptual.find.lpips_backbone", lambda: None)


def solve(photo, out, *options):
    return cli.main(["solve", str(photo), "--out", str(out), *options])


def settings_of(*options):
    parsed = cli_options.parser().parse_args(["solve", "p.png", "--out", "o", "--task", "identity", *options])
    return cli_settings.solver_settings(parsed)


def test_solve_and_replay_byte_for_byte(photo, tmp_path, capsys):
    threads = torch.get_num_threads()
    out = tmp_path / "run"
    assert solve(photo, out, "--task", "inpaint", "--mask", "eyes", "--steps", "2,2", "--threads", "1") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("MSE ")
    assert " × 10⁻³, PSNR " in said.out
    assert "; in the hole MSE" in said.out
    assert "round 2 of 2, loss" in said.err
    assert {p.name for p in out.iterdir()} == {*FILES, "start.png", "round-0.png", "round-1.png"}
    assert json.loads((out / "recipe.json").read_text())["engine"]["threads"] == 1
    assert torch.get_num_threads() == threads

    assert cli.main(["replay", str(out), "--out", str(tmp_path / "again")]) == 0
    said = capsys.readouterr()
    assert "the same, byte for byte" in said.out
    assert "threads" not in said.err
    for name in ("result.png", "recipe.json", "measurement.safetensors", "latents.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_replay_names_differences(photo, tmp_path, capsys):
    out = tmp_path / "run"
    assert solve(photo, out, "--task", "denoise", "--sigma", "20", "--steps", "1,1") == 0
    recipe = json.loads((out / "recipe.json").read_text())
    recipe["engine"] |= {"torch": "1.0", "threads": 1}
    recipe["perceptual"] = "lpips-vgg"
    (out / "recipe.json").write_text(json.dumps(recipe))
    Image.new("RGB", (64, 64)).save(out / "result.png")
    assert cli.main(["replay", str(out), "--threads", "2"]) == 1
    said = capsys.readouterr()
    assert (
        f"The version of torch was 1.0 and is {recipe['engine']['torch'] and torch.__version__.split('+')[0]}"
        in said.err
    )
    assert "The number of threads was 1 and is 2 now." in said.err
    assert "lpips-vgg" in said.err
    assert "result.png differs in" in said.out
    for broken in (b"", b"no picture"):
        (out / "result.png").write_bytes(broken)
        assert cli.main(["replay", str(out)]) == 1


def test_ctrl_c_saves_the_best_and_replays(photo, tmp_path, capsys, monkeypatch):
    out, real = tmp_path / "run", ilo.solver.solve

    def interrupted(*args, **options):
        time.sleep(1.01)  # makes the next snapshot carry a result
        for step in real(args[0], args[1], args[2], lambda: True, args[4]):
            yield step
            if step.done == 4:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ilo.solver, "solve", interrupted)
        assert solve(photo, out, "--task", "identity", "--steps", "3,3") == 130
    said = capsys.readouterr()
    recipe, _, _ = read_bundle(out)
    assert recipe.stopped_at in (3, 4)
    assert f"Stopped after {recipe.stopped_at} of 6 steps." in said.out
    assert cli.main(["replay", str(out)]) == 0
    assert "the same, byte for byte" in capsys.readouterr().out


@pytest.mark.parametrize("stop_at", [0, 1, 4, 8])
def test_a_run_stopped_within_a_round_replays(stop_at, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ilo.solver, "every", lambda seconds: lambda: True)  # every step carries a result
    out, real = tmp_path / "run", ilo.solver.solve

    def interrupted(*args, **options):
        for step in real(args[0], args[1], args[2], lambda: True, args[4]):
            yield step
            if step.done == stop_at:
                raise KeyboardInterrupt

    options = ["--task", "identity", "--steps", "3,2", "--outer-iterations", "2", "--range-steps", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(ilo.solver, "solve", interrupted)
        assert solve(photo, out, *options) == 130
    assert read_bundle(out)[0].stopped_at == stop_at
    capsys.readouterr()
    monkeypatch.undo()
    assert cli.main(["replay", str(out), "--out", str(tmp_path / "again")]) == 0
    assert "byte for byte" in capsys.readouterr().out
    assert read_bundle(tmp_path / "again")[0].stopped_at == stop_at


def test_ctrl_c_before_the_first_step(photo, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(ilo.solver, "solve", interrupted)
    assert solve(photo, tmp_path / "run", "--task", "identity") == 130
    assert not (tmp_path / "run").exists()
    assert "nothing to save" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--task", "random-inpaint", "--fraction", "0.2", "--operator-seed", "4"],
        ["--task", "denoise", "--sigma", "10", "--assumed-sigma", "12", "--damaged"],
        ["--task", "super-resolve", "--factor", "8", "--damaged"],
        ["--task", "super-resolve", "--dtype", "bfloat16"],
        ["--task", "compressed-sensing", "--fraction", "0.1", "--method", "csgm"],
        ["--task", "colorize", "--method", "pulse", "--crop", "0.2,0.5,2"],
        ["--task", "deblur", "--kind", "motion", "--length", "5", "--angle", "30"],
        ["--task", "compose"],
        ["--task", "super-resolve", "--noise", "gaussian=10"],
        ["--task", "inpaint", "--mask", "eyes", "--noise", "clipped-gaussian=5"],
        ["--task", "compose", "--operators", '[{"name":"inpaint"}]', "--mask", "centre box"],
    ],
)
def test_tasks(options, photo, tmp_path, capsys):
    assert solve(photo, tmp_path / "run", *options, "--steps", "1,1") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert ("truth is not known" in last) == ("--damaged" in options)
    read_bundle(tmp_path / "run")


def test_a_mask_painted_on_the_photo_is_cropped_like_it(photo, tmp_path, capsys):
    hidden = np.zeros((70, 80), np.uint8)
    hidden[:, :40] = 255
    Image.fromarray(hidden).save(tmp_path / "mask.png")
    options = ["--task", "inpaint", "--mask", str(tmp_path / "mask.png"), "--steps", "1"]
    assert solve(photo, tmp_path / "run", *options) == 0
    assert "cropped like it" in capsys.readouterr().out
    assert 0.48 < np.asarray(Image.open(tmp_path / "run" / "mask.png")).mean() / 255 < 0.52
    assert solve(photo, tmp_path / "run", *options, "--crop", "0,0.5,2") == 2  # the mask hides all of this crop
    assert "hides every pixel" in capsys.readouterr().err


def test_settings():
    assert settings_of() == preset("Quick")
    assert settings_of("--preset", "Paper", "--method", "pulse", "--seed", "3") == preset("Paper", "pulse", seed=3)
    made = settings_of("--steps", "4,3,2,2,2", "--radius-latents", "10,20%,30,inf", "--radius-noise", "0")
    assert [plan.steps for plan in made.rounds] == [4, 3, 2, 2, 2]
    assert [plan.radius_latents for plan in made.rounds] == [float("inf"), 0.1, 0.2, 0.3, float("inf")]
    assert [plan.radius_noise for plan in made.rounds] == [float("inf"), 0, 0, 0, 0]
    assert settings_of("--method", "csgm", "--steps", "4,3").rounds[0].steps == 7
    odd = settings_of("--radius-features", "17,7.5,1000")
    assert [plan.radius_features for plan in odd.rounds[1:]] == [0.17, 0.075, 10]
    assert settings_of("--radius-hidden", "25%").radius_hidden == 0.25
    assert settings_of("--range-lr", "0.3").rounds[2].range_lr == 0.3
    assert settings_of("--range-from", "latents").range_from == "latents"
    assert settings_of("--samples", "4").samples == 4
    assert settings_of().sna
    assert not settings_of("--no-sna").sna
    outer = settings_of("--outer-iterations", "2", "--range-steps", "5").rounds
    assert [plan.outer_iterations for plan in outer] == [1, 2, 2, 2]
    assert settings_of("--weights", "geodesic=0.5,dead-zone=2").weights == LossWeights(geodesic=0.5, dead_zone=2)
    assert settings_of("--settings", json.dumps(made.to_dict()), "--seed", "8").seed == 8


def test_settings_from_a_recipe(photo, tmp_path):
    assert solve(photo, tmp_path / "run", "--task", "identity", "--steps", "1,1", "--radius-noise", "50") == 0
    made = settings_of("--settings", str(tmp_path / "run" / "recipe.json"))
    assert [plan.steps for plan in made.rounds] == [1, 1]
    assert made.rounds[1].radius_noise == 0.5
    with pytest.raises(SettingsError, match="--settings and --steps cannot be used together"):
        settings_of("--settings", str(tmp_path / "run" / "recipe.json"), "--steps", "2")


def test_a_run_of_version_1(photo, tmp_path, capsys):
    out = tmp_path / "run"
    options = (
        "--task",
        "identity",
        "--steps",
        "2,1",
        "--outer-iterations",
        "2",
        "--range-steps",
        "2",
        "--threads",
        "1",
    )
    assert solve(photo, out, *options) == 0
    old = of_version_1(json.loads((out / "recipe.json").read_text()))
    (out / "recipe.json").write_text(json.dumps(old))
    capsys.readouterr()
    assert cli.main(["replay", str(out), "--out", str(tmp_path / "again")]) in (0, 1)
    assert "The recipe is of version 1, whose radii were per element." in capsys.readouterr().err
    assert read_bundle(tmp_path / "again")[0] == read_bundle(out)[0]
    made = settings_of("--settings", str(out / "recipe.json"))
    assert made == read_bundle(out)[0].settings
    assert made.scale == "absolute"
    assert solve(photo, tmp_path / "new", "--task", "identity", "--settings", str(out / "recipe.json")) == 0
    with pytest.raises(SettingsError, match="has version 3"):
        settings_of("--settings", json.dumps({**old, "version": 3}))


IDENTITY = ("--task", "identity")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--task", "fly"),
        ("--task", "inpaint"),
        ("--task", "inpaint", "--mask", "/nowhere.png"),
        ("--task", "inpaint", "--mask", __file__),
        ("--task", "denoise", "--mask", "eyes"),
        ("--task", "denoise", "--sigma", "nan"),
        ("--task", "denoise", "--sigma", "-1"),
        ("--task", "denoise", "--sigma", "inf"),
        ("--task", "denoise", "--assumed-sigma", "nan"),
        ("--task", "denoise", "--fraction", "0.5"),
        ("--task", "super-resolve", "--factor", "7"),
        ("--task", "super-resolve", "--factor", "nan"),
        ("--task", "random-inpaint", "--fraction", "nan"),
        ("--task", "random-inpaint", "--fraction", "0"),
        ("--task", "random-inpaint", "--damaged"),
        ("--task", "compressed-sensing", "--operator-seed", "-1"),
        ("--task", "deblur", "--angle", "nan"),
        ("--task", "compose", "--operators", "nonsense"),
        ("--task", "compose", "--operators", "[]"),
        (*IDENTITY, "--noise", "salt=3"),
        (*IDENTITY, "--noise", "gaussian=much"),
        (*IDENTITY, "--noise", "gaussian=nan"),
        (*IDENTITY, "--noise", "none=3"),
        (*IDENTITY, "--noise", "gaussian=3", "--damaged"),
        ("--task", "compressed-sensing", "--noise", "clipped-gaussian=3"),
        (*IDENTITY, "--unknown", "1"),
        (*IDENTITY, "--method", "magic"),
        (*IDENTITY, "--preset", "Slow"),
        (*IDENTITY, "--preset", "Quick", "--steps", "1"),
        (*IDENTITY, "--steps", "0"),
        (*IDENTITY, "--steps", "2,0"),
        (*IDENTITY, "--steps", "two"),
        (*IDENTITY, "--steps", "1,1,1,1,1,1,1,1"),
        (*IDENTITY, "--steps", "1,1", "--radius-noise", "nan"),
        (*IDENTITY, "--steps", "1,1", "--radius-features", "0.1,0.2"),
        (*IDENTITY, "--steps", "1", "--radius-latents", "0.1"),
        (*IDENTITY, "--radius-latents=-10"),
        (*IDENTITY, "--radius-features", "1001"),
        (*IDENTITY, "--radius-hidden", "0"),
        (*IDENTITY, "--radius-hidden", "nan"),
        (*IDENTITY, "--radius-features", "20,nan,20"),
        (*IDENTITY, "--radius-features", "much"),
        (*IDENTITY, "--range-lr", "0"),
        (*IDENTITY, "--range-lr", "nan"),
        (*IDENTITY, "--range-from", "pixels"),
        (*IDENTITY, "--settings", "{}", "--no-sna"),
        (*IDENTITY, "--settings", "{}", "--samples", "2"),
        (*IDENTITY, "--outer-iterations", "2"),
        (*IDENTITY, "--method", "csgm", "--range-steps", "2"),
        (*IDENTITY, "--weights", "mse=nan"),
        (*IDENTITY, "--weights", "speed=1"),
        (*IDENTITY, "--weights", "mse=0,perceptual=0"),
        (*IDENTITY, "--settings", "{}"),
        (*IDENTITY, "--settings", "{"),
        (*IDENTITY, "--settings", "/nowhere.json"),
        (*IDENTITY, "--settings", '{"rounds": [{"lr": NaN}]}'),
        (*IDENTITY, "--seed", "-1"),
        (*IDENTITY, "--measurement-seed", "-1"),
        (*IDENTITY, "--crop", "0.5,0.5"),
        (*IDENTITY, "--crop", "nan,0.5,1"),
        (*IDENTITY, "--crop", "0.5,0.5,99"),
        (*IDENTITY, "--threads", "0"),
        (*IDENTITY, "--device", "abacus"),
        (*IDENTITY, "--dtype", "int4"),
        (*IDENTITY, "--model", "nobody"),
        (*IDENTITY, "--model", "/nowhere.safetensors"),
    ],
)
def test_mistakes_get_one_line(options, photo, tmp_path, capsys):
    assert solve(photo, tmp_path / "run", *options) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("ilo: ")
    assert said.out == ""
    assert not (tmp_path / "run").exists()


def test_bad_files_get_one_line(photo, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:100])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    run = tmp_path / "run"
    for argv in (
        [],
        ["dance"],
        ["solve"],
        *(
            ["solve", str(tmp_path / name), "--task", "identity", "--out", str(run)]
            for name in ("text.jpg", "cut.png", "dot.png", "nowhere.png")
        ),
        ["solve", str(photo), "--task", "identity", "--out", str(full)],
        ["solve", str(photo), "--task", "identity", "--out", str(run), "--model", str(tmp_path / "cut.safetensors")],
        ["replay", str(tmp_path / "nowhere")],
        ["replay", str(full)],
        ["replay", str(photo)],
    ):
        assert cli.main(argv) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
    assert not run.exists()


def test_replay_refuses_other_weights_and_its_own_folder(photo, tmp_path, capsys):
    out = tmp_path / "run"
    assert solve(photo, out, "--task", "identity", "--steps", "1") == 0
    assert cli.main(["replay", str(out), "--out", str(out)]) == 2
    recipe = json.loads((out / "recipe.json").read_text())
    (out / "recipe.json").write_text(json.dumps({**recipe, "model_sha256": "0" * 64}))
    capsys.readouterr()
    assert cli.main(["replay", str(out)]) == 2
    assert "other weights" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(photo, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("ilo.cli.pictures.build_problem", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        solve(photo, tmp_path / "run", "--task", "identity")


def test_models_and_tasks(capsys):
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert "faces64" in said
    assert "For non-commercial research and education" in said
    assert cli.main(["tasks"]) == 0
    said = capsys.readouterr().out
    for name, kind in OPERATORS.items():
        assert name in said
        assert kind.formula in said
    assert cli.main(["--version"]) == 0
    assert "ILO Studio" in capsys.readouterr().out


def test_as_a_module_without_the_page(root):
    code = (
        "import sys; sys.argv = ['ilo', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('ilo', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'gradio' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "solve" in done.stdout
