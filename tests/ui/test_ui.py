"""The page without a browser: settings from controls, drawings, and the answers of handlers."""

import re
import time
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from ilo.methods import preset
from ilo.operators import Identity
from ilo.problem import Problem
from ilo.records.bundle import BundleError, read_bundle
from ilo.settings import SettingsError
from ilo.state import to_uint8
from ilo.ui import bench, text
from ilo.ui.parts import painter, tasks
from ilo.ui.runs.order import Order, Run
from ilo.ui.studio import handlers
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits
from tests.machines import plain_runs

SKIP = gr.skip()


def short(values, steps=4):
    return {**values, "rounds": 1, "0.steps": steps}


# Pictures.


def test_examples_are_there_without_a_download(studio):
    assert len(studio.examples) == 7
    assert studio.examples[0].image.size == (512, 512)  # a photograph, first


def test_uploads(studio, model, values, tmp_path):
    path = tmp_path / "big.png"
    Image.new("RGB", (3000, 1500), "red").save(path)
    source, _, _, stage, *_, notice = studio.upload(values, "up", str(path))
    assert source.image.size == (1024, 512)
    assert "data:image" in stage
    assert notice == ""
    path.write_text("no picture")
    assert "not a picture" in studio.upload(values, "up", str(path))[-1]
    assert text.GONE in studio.upload(values, "up", None)[-1]
    assert text.GONE in studio.pick(values, "up", 99)[-1]
    assert studio.pick(values, "up", 2)[0].image == studio.examples[2].image

    Image.fromarray(np.eye(128, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    value, notice = studio.upload_mask(str(tmp_path / "mask.png"), values["painter"], None)
    assert notice == ""
    assert 0 < float((1 - painter.unpack(value["mask"], 64)).sum()) < 64 * 64
    path.write_text("no mask")
    assert "not a picture" in studio.upload_mask(str(path), None, None)[1]


def gone(path, studio):
    """Whether the page's next clean-up deletes a file."""
    time.sleep(0.02)
    temporary.tidy(studio.cache, studio.limits)
    return not path.exists()


def test_an_uploaded_file_is_deleted_once_it_was_read(studio, values, tmp_path, monkeypatch):
    monkeypatch.setattr(studio, "limits", Limits(read_seconds=0.01))
    for name, size in (("good.png", (80, 80)), ("bad.png", None)):
        path, own = studio.cache / ("0123456789abcdef" * 4) / name, tmp_path / name
        path.parent.mkdir(exist_ok=True)
        for file in (path, own):
            Image.new("RGB", size).save(file) if size else file.write_text("no picture")
            studio.upload(values, "read", str(file))
        assert gone(path, studio)
        assert own.exists()  # nobody uploaded that one


def test_a_tab_that_is_closed_while_its_picture_is_read_leaves_nothing(studio, values, tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("RGB", (80, 60)).save(path)
    sources = []

    def read(*arguments, **options):
        sources.append(was(*arguments, **options))
        studio.leave("closing")
        return sources[0]

    was = handlers.photographs.read
    monkeypatch.setattr(handlers.photographs, "read", read)
    answer = studio.upload(values, "closing", str(path))
    assert answer[0] == SKIP
    assert sources[0].photo is None
    assert "closing" not in studio._chosen


def test_a_mask_as_large_as_the_photograph_was_painted_on_it(studio, values, tmp_path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (400, 200), "red").save(path)
    source, canvas, *_ = studio.upload(values, "wide", str(path))
    hidden = np.zeros((200, 400), np.uint8)
    hidden[:100, 100:300] = 255  # the upper half of the square in the middle
    Image.fromarray(hidden).save(tmp_path / "mask.png")
    value, notice = studio.upload_mask(str(tmp_path / "mask.png"), canvas.value, source)
    assert notice == ""
    mask = painter.unpack(value["mask"], 64)[0, 0]
    assert not mask[:31].any()
    assert mask[33:].all()


def test_the_oldest_pictures_are_forgotten_where_there_are_too_many(studio, values, tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("RGB", (900, 700), "red").save(path)
    size = studio.upload(values, "size", str(path))[0].size
    monkeypatch.setattr(studio, "limits", Limits(pictures_bytes=round(2.5 * size)))
    sources = [studio.upload(values, f"many {i}", str(path))[0] for i in range(3)]
    assert [source.photo is None for source in sources] == [True, False, False]
    assert text.GONE in studio.preview({**values, "source": sources[0]}, "many 0")[3]
    studio.rechoose({**values, "source": sources[1]}, "many 1", {"choice": "whole"})  # now the latest one
    studio.upload(values, "many 3", str(path))
    assert list(studio._chosen)[-2:] == ["many 1", "many 3"]
    for session in ("size", *(f"many {i}" for i in range(4))):
        studio.leave(session)


def test_already_damaged_has_no_truth(studio, values):
    order, _ = studio.order({**values, "truth": "given", "task": "denoise"})
    assert order.problem.truth is None
    strip = list(studio.run({**short(values), "truth": "given", "task": "denoise"}, "given"))[-1][1]
    assert ">truth<" not in strip
    assert strip.count(">fit ") == 2  # of the start and of the code: there is no truth to compare with
    with pytest.raises(SettingsError, match="already damaged"):
        studio.order({**values, "truth": "given", "task": "compressed-sensing"})


@pytest.mark.parametrize("task", tasks.offered())
def test_every_task_can_be_seen_and_solved(studio, values, task):
    stage, strip, _, notice = studio.preview({**values, "task": task}, "tasks")
    assert "data:image/png" in stage
    assert "truth" in strip
    assert notice == ""
    answers = list(studio.run({**short(values), "task": task}, "tasks"))
    assert "<img" in answers[0][0]  # the input, until the first preview
    stage, strip, _, panel, *_ = answers[-1]
    assert "compare-cut" in stage
    labels = re.findall('moment-label">([^<]*)<', strip)
    assert labels == ["input", "start", "code", "truth", "residual"]
    assert strip.count(" dB<") == 2
    assert "disabled" not in strip
    assert "PSNR" in panel


# Runs.


def test_a_run_streams_ends_and_is_saved(studio, values, monkeypatch):
    monkeypatch.setattr(studio, "limits", Limits(left_seconds=0.01))
    answers = list(studio.run(short(values, 30), "one"))
    assert answers[0][5].interactive is False
    assert answers[-1][5].interactive is True
    assert any("Round 1 of 1" in answer[0] for answer in answers if answer[0] != SKIP)
    button, notice = studio.save("one")
    assert notice == SKIP
    recipe, problem, _ = read_bundle(
        Path(button.value["path"]) if isinstance(button.value, dict) else Path(button.value)
    )
    assert recipe.task == "inpaint"
    assert problem.truth is not None
    assert studio.save("one") == (SKIP, SKIP)
    # A run that ends without a result leaves the earlier one's download.
    ahead = studio.run({**values, "0.steps": 4_000}, "ahead")
    next(ahead)
    waiting = studio.run(short(values), "one")
    assert next(waiting)[7].interactive is False
    studio.stop("one")
    assert list(waiting)[-1][7].interactive is True
    ahead.close()
    first = studio._saved["one"]
    list(studio.run(short(values), "one"))
    assert gone(first, studio)  # it was of another result
    studio.save("one")
    path = studio._saved["one"]
    studio.leave("one")
    assert gone(path, studio)


def test_results_that_nobody_asks_for_stay_few(studio, values, monkeypatch):
    monkeypatch.setattr(studio, "limits", Limits(results=2))
    for session in "xyz":
        list(studio.run(short(values), session))
    assert list(studio._finished)[-2:] == ["y", "z"]
    assert studio.save("x") == (SKIP, SKIP)
    for session in "xyz":
        studio.leave(session)


def test_a_run_whose_turn_is_over_says_so(studio, values, monkeypatch):
    monkeypatch.setattr(studio.runs, "limits", Limits(turn_seconds=0.2))
    first = studio.run({**values, "0.steps": 4_000}, "first")
    next(first)
    second = studio.run(short(values), "second")
    next(second)
    stage, *_, notice, _, _, _ = list(first)[-1]
    assert "compare-cut" in stage
    assert "Others are waiting" in notice
    assert "Done" in list(second)[-1][3]


def test_a_full_disk_gives_a_sentence_and_the_results_stay(studio, values, monkeypatch):
    list(studio.run(short(values), "full"))

    def full(*_):
        raise BundleError(f"{studio.cache}/x.zip could not be written (No space left on device).")

    monkeypatch.setattr(bench, "zip_bundle", full)
    button, notice = studio.save("full")
    assert button == SKIP
    assert "No space left" in notice
    assert "stay on this page" in notice
    assert str(studio.cache) not in notice


def test_stop_keeps_the_best_so_far(studio, values):
    running = studio.run({**values, "preset": "Paper", "0.steps": 4_000}, "stop")
    for answer in running:
        if "Round" in str(answer[0]):
            run = studio.runs.of("stop")
            studio.stop("stop")
            start = time.monotonic()
            break
    *_, last = running
    assert time.monotonic() - start < 2
    assert "Stopped" in last[3]
    assert "compare-cut" in last[0]
    assert studio.runs.of("stop") is None
    assert run.recorder.stopped_at == run.step.done  # nothing that was shown is lost
    assert np.array_equal(to_uint8(run.recorder.result.image), run.step.previews)


def test_a_closed_tab_stops_its_run(studio, values):
    long = {**values, "0.steps": 4_000}
    running = studio.run(long, "closed")
    next(running)
    run = studio.runs.of("closed")
    running.close()
    assert run.stopping.is_set()
    running = studio.run(long, "left")
    next(running)
    run = studio.runs.of("left")
    studio.leave("left")
    assert run.stopping.is_set()
    list(running)


def test_run_pressed_twice_starts_one(studio, values):
    running = studio.run({**values, "0.steps": 4_000}, "twice")
    next(running)
    again = list(studio.run(values, "twice"))
    assert len(again) == 1
    assert text.BUSY in again[0][4]
    assert studio.preview(values, "twice") == (SKIP,) * 4  # the live picture is not painted over
    studio.stop("twice")
    list(running)


def test_runs_wait_in_line_and_a_waiting_one_can_leave(studio, values):
    first = studio.run({**values, "0.steps": 4_000}, "a")
    next(first)
    while studio.runs.of("a").step is None:  # runs stopped by earlier tests may still be ending
        next(first)
    second = studio.run(short(values), "b")
    next(second)
    assert "ahead of yours" in next(second)[3]
    third = studio.run(short(values), "c")
    next(third)
    studio.stop("c")
    assert text.STOPPED_EARLY in list(third)[-1][4]
    studio.stop("a")
    assert "Stopped" in list(first)[-1][3]
    assert "Done" in list(second)[-1][3]


def test_what_fails_inside_is_logged_and_said_in_one_sentence(studio, values, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("inside out")

    monkeypatch.setattr("ilo.ui.runs.machine.solve", broken)
    last = list(studio.run(short(values), "broken"))[-1]
    assert text.FAILED in last[4]
    assert "inside out" in caplog.text
    monkeypatch.setattr(handlers, "build_problem", broken)
    assert text.FAILED in studio.preview(values, "broken")[3]


def test_more_rounds_than_layers_is_said_in_the_solver_s_words(model):
    runs = plain_runs(model)
    truth = torch.zeros(1, 3, 64, 64)
    settings = replace(preset(), rounds=preset().rounds * 2)
    run = runs.start("x", Order(Problem.damage(truth, Identity(resolution=64)), settings, truth, True, model.id))
    while run.live:
        run.wait(-1, 0.1)
        time.sleep(0.01)
    assert run.status == "failed"
    assert "at most 5" in run.error
    runs.close()


def test_a_run_that_never_began_can_be_stopped():
    truth = torch.zeros(1, 3, 64, 64)
    run = Run(Order(Problem.damage(truth, Identity(resolution=64)), preset(), truth, True, "faces64"))
    run.stop()
    assert run.status == "stopped"
    assert not run.begin()


# The first screen.


def test_the_page_opens_with_the_recorded_run_unless_a_link_asks_for_more(studio, values, monkeypatch):
    assert studio.opened(values, "open", False) == (SKIP,) * 4
    assert text.PREVIEW in studio.opened(values, "open", True)[0]
    monkeypatch.setattr(handlers.player, "first", lambda: None)
    assert text.PREVIEW in studio.opened(values, "open", False)[0]


def test_the_line_shows_the_rounds_as_they_end(studio, values):
    seen = []
    for answer in studio.run({**values, "rounds": 2, "0.steps": 40, "1.steps": 40}, "line"):
        if answer[1] != SKIP:
            seen.append((answer[1].count("data-now"), answer[1].count(" disabled "), answer[1].count("data-right")))
    assert seen[0] == (0, 3, 0)  # before the run: places for the start and two rounds
    assert seen[-1] == (0, 0, 1)
    assert (1, 1, 0) in seen  # the first round is searched, and the second is to come
    assert all(now == 1 or to_come == 0 for now, to_come, _ in seen[1:-1])
