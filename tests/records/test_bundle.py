"""Bundles: written completely or not at all, and safe to read from untrusted sources."""

import csv
import errno
import io
import itertools
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import ilo.records.bundle
from ilo.operators import build
from ilo.photos.pictures import to_tensor
from ilo.problem import Problem
from ilo.records.bundle import FILES, BundleError, load_latents, read_bundle
from ilo.records.recipe import RecipeError, make_recipe
from ilo.records.recorder import TRACE_HEADER, Recorder
from ilo.records.saving import check_out_folder, result_png, write_bundle, zip_bundle
from ilo.settings import RoundSettings, SolverSettings
from ilo.solver import solve
from ilo.state import to_uint8

SETTINGS = SolverSettings(
    rounds=(
        RoundSettings(steps=3),
        RoundSettings(steps=2, radius_features=0.02, outer_iterations=2, range_steps=2),
    )
)

ROUNDS = ("start.png", "round-0.png", "round-1.png", "round-1-search-2.png")


def record(model, task="inpaint", settings=SETTINGS, stop=None, **operator_settings):
    rng = np.random.default_rng(0)
    image = to_tensor(Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)), 64)
    operator = build(task, 64, **operator_settings)
    problem = Problem.damage(image, operator, 1)
    recipe = make_recipe(
        model, problem, settings, damaged_here=True, measurement_seed=1, input_image=image, perceptual=None
    )
    recorder = Recorder(recipe, problem, image)
    for step in solve(model, problem, settings, due=lambda: True, perceptual=None):
        recorder.add(step)
        if step.done == stop:
            break
    return recorder


@pytest.fixture(scope="module")
def mask():
    mask = torch.ones(64, 64)
    mask[10:30, 20:50] = 0
    return mask


@pytest.fixture(scope="module")
def recorder(model, mask):
    return record(model, mask=mask)


@pytest.fixture
def folder(recorder, model, tmp_path):
    return write_bundle(recorder, tmp_path / "run", model)


def test_recorder(recorder):
    assert recorder.complete
    assert [label for label, _ in recorder.film] == ["start", "round 0", "round 1", "round 1, search 2"]
    assert recorder.trace.shape == (4 + 3 + 3, len(TRACE_HEADER))
    assert recorder.trace[:, 0].tolist() == [0] * 4 + [1] * 6
    assert recorder.trace[:, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2]
    assert recorder.trace[:, 2].tolist() == [0, 1, 2, 3, 3, 4, 5, 7, 8, 9]
    assert len(recorder.frames) == 10  # two of them during the range projection
    assert np.array_equal(recorder.film[-1][1], to_uint8(recorder.result.image)[0])


def test_frames_are_thinned_evenly(recorder, model):
    steps = list(solve(model, recorder.problem, SETTINGS, perceptual=None))
    many = Recorder(recorder.recipe, recorder.problem, None)
    for i in range(1001):
        pixels = np.full((1, 64, 64, 3), i % 256, np.uint8)
        many.add(replace(steps[0], previews=pixels, trace=steps[0].trace[:0]))
    values = [int(frame[0, 0, 0]) for frame in many.frames]
    assert 150 <= len(values) <= 302
    assert {(b - a) % 256 for a, b in itertools.pairwise(values[:-1])} == {4}
    assert values[-1] == 1000 % 256
    assert not many.complete


def test_files(folder, recorder, model, mask):
    assert {path.name for path in folder.iterdir()} == {*FILES, *ROUNDS}
    assert (folder / "result.png").read_bytes() == result_png(recorder.result)
    assert Image.open(folder / "result.png").info == {}
    hidden = np.asarray(Image.open(folder / "mask.png"))
    assert np.array_equal(hidden > 0, mask.numpy() == 0)
    rows = list(csv.reader((folder / "trace.csv").read_text().splitlines()))
    assert rows[0] == list(TRACE_HEADER)
    assert len(rows) == 11
    assert list(folder.parent.iterdir()) == [folder]  # nothing else is left over


def test_the_film_plays(folder):
    with av.open(str(folder / "trajectory.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (256, 256, "yuv420p")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) >= 8
    result = np.asarray(Image.open(folder / "result.png")).repeat(4, 0).repeat(4, 1)
    assert np.abs(frames[-1].astype(int) - result).mean() < 12


def test_the_latents_alone_give_the_picture(folder, model):
    state = load_latents(folder / "latents.safetensors")
    assert state.layer == 1
    with torch.no_grad():
        image = model.render(state, SETTINGS)
    assert np.array_equal(to_uint8(image)[0], np.asarray(Image.open(folder / "result.png")))


@pytest.mark.parametrize("zipped", [False, True])
def test_reading_gives_back_what_was_written(zipped, recorder, model, tmp_path):
    write = zip_bundle if zipped else write_bundle
    path = write(recorder, tmp_path / ("run.zip" if zipped else "run"), model)
    recipe, problem, image = read_bundle(path)
    assert recipe == recorder.recipe
    assert torch.equal(problem.y, recorder.problem.y)
    assert torch.equal(problem.truth, recorder.problem.truth)
    assert torch.equal(problem.operator.mask, recorder.problem.operator.mask)
    assert torch.equal(image, recorder.input_image)
    if zipped:
        assert set(zipfile.ZipFile(path).namelist()) == {*FILES, *ROUNDS}


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("random-inpaint", {"fraction": 0.3, "seed": 2}),
        ("compressed-sensing", {"fraction": 0.1}),
        ("colorize", {}),
        ("super-resolve", {"factor": 8}),
        (
            "compose",
            {"operators": [{"name": "super-resolve", "factor": 2}, {"name": "inpaint"}], "mask": torch.eye(32)},
        ),
    ],
)
def test_every_kind_of_measurement(task, settings, model, tmp_path):
    quick = SolverSettings(rounds=(RoundSettings(steps=1),))
    recorder = record(model, task, quick, **settings)
    _, problem, _ = read_bundle(write_bundle(recorder, tmp_path / "run", model))
    assert torch.equal(problem.y, recorder.problem.y)
    assert torch.allclose(problem.operator(problem.truth), problem.y, atol=1e-5)


def test_without_a_picture_and_stopped(model, tmp_path):
    operator = build("identity", 64)
    problem = Problem(operator, torch.zeros(1, 3, 64, 64))
    recipe = make_recipe(
        model, problem, SETTINGS, damaged_here=False, measurement_seed=0, input_image=None, perceptual=None
    )
    recorder = Recorder(recipe, problem, None)
    with pytest.raises(BundleError, match="no result"):
        write_bundle(recorder, tmp_path / "run", model)
    recorder.add(next(solve(model, problem, SETTINGS, perceptual=None)))
    folder = write_bundle(recorder, tmp_path / "run", model)
    recipe, problem, image = read_bundle(folder)
    assert recipe.stopped_at == 0
    assert problem.truth is None
    assert image is None
    assert not (folder / "mask.png").exists()
    assert "features_x" not in load_latents(folder / "latents.safetensors").values


def test_a_full_disk_leaves_nothing(recorder, model, tmp_path, monkeypatch):
    written = []

    def full(self, data):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(self)
        with self.open("wb") as file:
            return file.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(BundleError, match="No space left on device") as error:
            write_bundle(recorder, tmp_path / "run", model)
    assert isinstance(error.value, OSError)
    assert len(written) == 4
    assert list(tmp_path.iterdir()) == []

    def full_archive(self, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", full_archive)
        with pytest.raises(BundleError, match="No space"):
            zip_bundle(recorder, tmp_path / "run.zip", model)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_run_is_replaced_or_kept_whole(folder, recorder, model, monkeypatch):
    before = (folder / "recipe.json").read_bytes()
    rename, calls = Path.rename, []

    def fail_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_second)
        with pytest.raises(BundleError):
            write_bundle(recorder, folder, model)
    assert (folder / "recipe.json").read_bytes() == before
    (folder / "mask.png").unlink()
    write_bundle(recorder, folder, model)
    assert (folder / "mask.png").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_folders_that_are_taken(recorder, model, tmp_path):
    check_out_folder(tmp_path / "new" / "deep")
    (tmp_path / "empty").mkdir()
    check_out_folder(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for name in ("file", "full", "file/below"):
        with pytest.raises(BundleError):
            check_out_folder(tmp_path / name)
        with pytest.raises(BundleError):
            write_bundle(recorder, tmp_path / name, model)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_a_changed_file_is_noticed(folder, recorder):
    def changed(name, data):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        with pytest.raises((BundleError, RecipeError)) as error:
            read_bundle(folder)
        assert "\n" not in str(error.value)
        (folder / name).write_bytes(before)

    other = io.BytesIO()
    Image.new("RGB", (64, 64)).save(other, "PNG")
    y = recorder.problem.y
    for name in ("input.png", "mask.png"):
        changed(name, other.getvalue())
        changed(name, b"")
        changed(name, (folder / name).read_bytes()[:-40])
    changed("measurement.safetensors", (folder / "measurement.safetensors").read_bytes()[:-1])
    changed("measurement.safetensors", b"\x80\x04cos\nsystem\n")  # a pickle
    changed("measurement.safetensors", b"")
    changed("measurement.safetensors", safetensors.torch.save({"y": y + 1}))
    changed("measurement.safetensors", safetensors.torch.save({"y": y.double()}))
    changed("measurement.safetensors", safetensors.torch.save({"x": y}))
    recipe = json.loads((folder / "recipe.json").read_text())
    for change in (
        {"task": "denoise"},
        {"task": "fly"},
        {"resolution": 32},
        {"operator": {"sigma": 1}},
        {"mask_sha256": None},
        {"mask_sha256": "0"},
        {"input_sha256": "0"},
        {"model": 1},
    ):
        changed("recipe.json", json.dumps({**recipe, **change}).encode())
    changed("recipe.json", b"\xff\xfe")
    changed("recipe.json", b"")
    read_bundle(folder)
    for name in ("input.png", "mask.png", "measurement.safetensors", "recipe.json"):
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(BundleError, match=name):
            read_bundle(folder)
        (folder / name).write_bytes(data)


def test_hostile_archives_and_missing_ones(recorder, model, tmp_path, monkeypatch):
    path = zip_bundle(recorder, tmp_path / "run.zip", model)
    whole = path.read_bytes()
    at = whole.index(b"measurement.safetensors") + 100
    for data in (b"", b"PK", whole[: len(whole) // 2], whole[:at] + b"\0" * 300 + whole[at + 300 :]):
        path.write_bytes(data)
        with pytest.raises((BundleError, RecipeError)):
            read_bundle(path)
    path.write_bytes(whole)
    monkeypatch.setattr(ilo.records.bundle, "LARGEST_RECIPE", 100)
    with pytest.raises(BundleError, match="larger"):
        read_bundle(path)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BundleError):
            read_bundle(missing)


def test_several_answers(model, mask, tmp_path):
    recorder = record(model, settings=replace(SETTINGS, samples=3), mask=mask)
    assert recorder.complete
    assert recorder.traces.shape == (10, 3, len(TRACE_HEADER))
    assert np.array_equal(recorder.trace, recorder.traces[:, 0], equal_nan=True)
    assert np.array_equal(recorder.film[-1][1], to_uint8(recorder.result.image)[0])
    path = zip_bundle(recorder, tmp_path / "run.zip", model)
    answers = {"answer-1.png", "answer-2.png", "answer-3.png", "mean.png", "spread.png"}
    assert set(zipfile.ZipFile(path).namelist()) == {*FILES, *ROUNDS, *answers}
    recipe, problem, _ = read_bundle(path)
    assert recipe.settings.samples == 3
    assert len(problem) == 1
    folder = write_bundle(recorder, tmp_path / "run", model)
    with torch.no_grad():
        images = to_uint8(model.render(load_latents(folder / "latents.safetensors", 3), SETTINGS))
    for n, pixels in enumerate(images, 1):
        assert np.array_equal(pixels, np.asarray(Image.open(folder / f"answer-{n}.png")))
    check_out_folder(folder)
    (folder / "answer-x.png").write_text("mine")
    with pytest.raises(BundleError, match=r"contains answer-x\.png"):
        check_out_folder(folder)


def test_latents_that_are_none(tmp_path):
    path = tmp_path / "latents.safetensors"
    for data in (b"", b"x" * 100, safetensors.torch.save({"z": torch.zeros(1)})):
        path.write_bytes(data)
        with pytest.raises(BundleError):
            load_latents(path)
    with pytest.raises(BundleError):
        load_latents(tmp_path / "nowhere")


def test_a_folder_with_a_user_s_own_pictures_is_no_earlier_run(tmp_path):
    (tmp_path / "input.png").write_bytes(b"the only copy")
    with pytest.raises(BundleError, match=r"contains input\.png, which is not part of an earlier run"):
        check_out_folder(tmp_path)


def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(BundleError, match=r"cannot be opened .*; choose another folder"):
        check_out_folder(tmp_path / "run")


def test_what_people_look_at(folder, recorder, mask):
    """The README names every file; the row has every picture; the scores are those of the saved picture."""
    readme = (folder / "README.txt").read_text()
    assert all(path.name in readme for path in folder.iterdir())
    assert "Task: Inpaint (y = mask · x)" in readme
    assert "2 rounds of 3, 6 steps, random seed 0" in " ".join(readme.split())
    assert max(map(len, readme.splitlines())) <= 90
    for name, (_, pixels) in zip(ROUNDS, recorder.film, strict=True):
        assert np.array_equal(np.asarray(Image.open(folder / name)), pixels)
    assert Image.open(folder / "strip.png").size == (6 * 264 + 8, 32 + 256 + 8)  # input, four of the film, truth
    row = np.asarray(Image.open(folder / "strip.png"))
    truth = Image.open(folder / "input.png").resize((256, 256), Image.Resampling.BICUBIC)
    assert np.array_equal(row[32:288, -264:-8], np.asarray(truth))
    assert Image.open(folder / "result-large.png").size == (512, 512)
    scores = json.loads((folder / "scores.json").read_text())
    result, truth = (np.asarray(Image.open(folder / name)) / 255 for name in ("result.png", "input.png"))
    error = ((result - truth) ** 2).mean(2)
    assert scores["mse"] == pytest.approx(error.mean(), rel=0.01)
    assert scores["mse_hole"] == pytest.approx(error[mask == 0].mean(), rel=0.01)
    assert scores["fit"] == pytest.approx(error[mask == 1].mean(), rel=0.05)
