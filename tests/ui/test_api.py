"""The functions for programs, called with the real client on a served page."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial

import httpx
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import ilo
from ilo.classifiers import classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.morph import morph
from ilo.photos.masks import preset_mask
from ilo.photos.pictures import read_picture, to_tensor
from ilo.records.metrics import report
from ilo.state import to_uint8
from ilo.ui import page, text
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits
from ilo.ui.visitors.visitors import Visitors
from tests.machines import Plain

NAMES = {"/tasks", "/models", "/solve", "/morph"}


@contextmanager
def page_of(model, **limits):
    visitors = Visitors(Limits(**limits))
    with temporary.files():
        made = page.build([model], None, visitors, [partial(Plain, model)])
        made.launch(**page.launch_options(visitors), prevent_thread_lock=True, quiet=True, server_port=None)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def url(model):
    with page_of(model) as made:
        yield made.local_url


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    made = Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("answers")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def face(model, tmp_path_factory):
    """A picture file of 64 × 64 pixels."""
    path = tmp_path_factory.mktemp("face") / "face.png"
    with torch.no_grad():
        settings = ilo.preset()
        image = model.render(model.sample(5, settings, 0.7), settings)
    Image.fromarray(to_uint8(image)[0]).save(path)
    return path


def pixels(path):
    return np.asarray(Image.open(path))


def test_the_schema_has_these_four_functions_alone(url):
    with urllib.request.urlopen(f"{url}gradio_api/info") as answer:
        info = json.load(answer)
    assert set(info["named_endpoints"]) == NAMES
    assert info["unnamed_endpoints"] == {}
    solve = info["named_endpoints"]["/solve"]
    assert [each["parameter_name"] for each in solve["parameters"]][:3] == ["picture", "task", "settings"]
    required = {each["parameter_name"] for each in solve["parameters"] if not each["parameter_has_default"]}
    assert required == {"picture", "task"}
    assert len(solve["returns"]) == 4
    described = {each["label"]: each["python_type"]["description"] for each in solve["parameters"]}
    assert described["task"] == "Name of a task from `tasks`, such as super-resolve."
    assert all(described.values())
    assert solve["description"].startswith("Solve an inverse problem")


def test_tasks_and_models(client, model):
    tasks = {each["task"]: each for each in client.predict(api_name="/tasks")}
    assert set(tasks) >= {"inpaint", "denoise", "super-resolve"}
    assert tasks["inpaint"]["mask"] == "needed"
    assert tasks["denoise"]["mask"] == "none"
    (factor,) = (each for each in tasks["super-resolve"]["settings"] if each["name"] == "factor")
    assert (factor["label"], factor["unit"], factor["suggested"]) == ("Downscaling", "×", 4)
    assert factor["low"] <= 4 <= factor["high"] <= 64
    found = client.predict(api_name="/models")
    assert found["models"] == [{"id": "faces64", "resolution": 64, "layers": model.layers, "device": "the CPU"}]
    assert "goldfish" in found["classes"]["robust64"]
    assert found["limits"]["steps_of_a_run"] == 5_000


def test_the_same_pixels_as_in_python(client, face, model):
    path, scores, seconds, recipe = client.predict(
        handle_file(face), "super-resolve", {"factor": 8}, seed=7, api_name="/solve"
    )
    truth = to_tensor(read_picture(face), 64)
    operator = ilo.build("super-resolve", 64, factor=8)
    problem = ilo.Problem.damage(truth, operator)
    settings = ilo.preset("Quick", seed=7, operator=operator, prior=model)
    *_, last = ilo.solve(model, problem, settings, perceptual=None)
    assert np.array_equal(pixels(path), to_uint8(last.result.image)[0])
    expected = report(last.result.image, truth)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert 0 < scores["fit"] < scores["mse"]
    assert seconds > 0
    assert (recipe["task"], recipe["settings"]["seed"], recipe["operator"]["factor"]) == ("super-resolve", 7, 8)


def test_a_mask_a_damaged_picture_and_base64(client, face, model):
    damaged = pixels(face) * (preset_mask("eyes", 64, model.landmarks)[0, 0, :, :, None].numpy() > 0)
    file = io.BytesIO()
    Image.fromarray(damaged.astype(np.uint8)).save(file, "PNG")
    encoded = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    path, scores, _, recipe = client.predict(
        encoded, "inpaint", mask="eyes", damaged_here=False, method="csgm", api_name="/solve"
    )
    assert set(scores) == {"fit"}  # no truth is known
    assert recipe["settings"]["method"] == "csgm"
    assert Image.open(path).size == (64, 64)


def test_morph_is_that_of_python(client, model):
    path, seen, _, recipe = client.predict("goldfish", seed=3, second="bullfrog", share=0.25, api_name="/morph")
    guidance = Guidance(classifier.load("robust64"), {"goldfish": 0.75, "bullfrog": 0.25})
    *_, last = morph(model, guidance, morph_preset(layers=model.layers, seed=3))
    assert np.array_equal(pixels(path), to_uint8(last.result.image)[0])
    assert {"goldfish", "bullfrog"} <= set(seen["probabilities"])
    assert recipe["task"] == "morph"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "paint"}, "task is 'paint'; allowed are"),
        ({"task": ["x"]}, "task is"),
        ({"settings": {"factor": 99}}, "factor must be"),
        ({"settings": {"color": 1}}, "does not know the setting color; it has factor"),
        ({"settings": "x"}, "settings is 'x'"),
        ({"method": "magic"}, "method is 'magic'; allowed are ilo"),
        ({"preset": None}, "preset is"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"face": 9}, "face is 9, but"),
        ({"model": "other"}, "model is 'other'; allowed are faces64"),
        ({"task": "inpaint", "settings": None}, "needs a mask"),
        ({"task": "inpaint", "settings": None, "mask": "/etc/passwd"}, "Addresses and paths are not opened"),
        ({"damaged_here": "no"}, "damaged_here is 'no'"),
        ({"measurement_seed": 1.5}, "measurement_seed must be"),
        ({"picture": "/etc/passwd"}, "Addresses and paths are not opened"),
        ({"picture": "https://example.org/a.png"}, "Addresses and paths are not opened"),
        ({"picture": ""}, "No picture was sent"),
        ({"picture": {"path": "/etc/passwd"}}, "not that of an upload"),
        ({"picture": {"path": 5}}, "not that of an upload"),
        ({"picture": base64.b64encode(b"hello" * 9).decode()}, "is not a picture that can be read"),
        ({"preset": "Paper", "method": "ilo", "settings": {"factor": 2, "x" * 300: 1}}, "does not know the setting"),
    ],
)
def test_mistakes_are_one_sentence(client, face, changes, words):
    wanted = {"picture": handle_file(face), "task": "super-resolve", "settings": {"factor": 4}, **changes}
    with pytest.raises(AppError) as raised:
        client.predict(**wanted, api_name="/solve")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_mistakes_of_a_morph_are_one_sentence(client):
    for wanted, words in (
        ({"target": "unicorn"}, "unicorn"),
        ({"target": 5}, "target is 5; give the name of a class"),
        ({"target": "goldfish", "share": 2}, "share must be a number from 0.01 to 0.99"),
        ({"target": "goldfish", "classifier": "none"}, "classifier is 'none'; allowed are"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(**wanted, api_name="/morph")


def test_gradio_opens_no_file_that_was_not_uploaded(url, face):
    """The protection of Gradio itself, with the marker of a file; and an address never gets as far as that."""

    def asked(path):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = json.dumps({"data": [file, "colorize"]}).encode()
        head = {"Content-Type": "application/json"}
        sent = urllib.request.Request(f"{url}gradio_api/call/solve", body, head)
        with urllib.request.urlopen(sent) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{url}gradio_api/call/solve/{event}") as answer:
            return answer.read().decode()

    assert "event: error" in asked("/etc/passwd")
    assert "event: error" in asked(str(face))
    for address in ("http://127.0.0.1:1/a.png", " HTTPS://example.org/a.png"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(address)
        assert refused.value.code == 400
        assert refused.value.read().decode() == text.NO_ADDRESSES


def test_with_curl(url, face):
    """Upload, call, read: what docs/api.md shows."""
    with httpx.Client(base_url=f"{url}gradio_api/", timeout=60) as http:
        (path,) = http.post("upload", files={"files": face.read_bytes()}).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        event = http.post("call/v2/solve", json={"picture": file, "task": "colorize"}).json()["event_id"]
        lines = http.get(f"call/solve/{event}").text.splitlines()
        assert lines[0] == "event: complete"
        picture, scores, _, recipe = json.loads(lines[1].removeprefix("data: "))
        answer = http.get(f"file={picture['path']}")
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)
    assert scores["mse"] > 0
    assert recipe["task"] == "colorize"


def test_the_handlers_of_the_page_are_private(url, client):
    assert {
        f"/{each['api_name']}" for each in client.config["dependencies"] if each["api_visibility"] == "public"
    } == NAMES
    sent = urllib.request.Request(f"{url}gradio_api/run/solve", b'{"data": []}', {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError):  # past the queue
        urllib.request.urlopen(sent)


def test_limits_hold(model, face, tmp_path):
    with page_of(model, steps=100, upload_bytes=1_000, unheard_seconds=1.0) as made:
        client = Client(made.local_url, verbose=False)
        with pytest.raises(AppError, match="would take 150 steps in total; this page allows 100"):
            client.predict(base64.b64encode(face.read_bytes()).decode(), "colorize", api_name="/solve")
        with pytest.raises(httpx.HTTPStatusError, match="413"):
            client.predict("A" * 140_000, "colorize", api_name="/solve")
        large = tmp_path / "large.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)).save(large)
        with pytest.raises(ValueError, match="exceeds the maximum file size of 1000 bytes"):  # the client knows it
            client.predict(handle_file(large), "colorize", api_name="/solve")
        client.close()


def test_one_run_for_each_caller_and_none_for_who_has_gone(model, face):
    with page_of(model, unheard_seconds=1.0, session_seconds=2.0, waiting=0) as made:
        client = Client(made.local_url, verbose=False)
        first = client.submit(handle_file(face), "colorize", preset="Paper", api_name="/solve")
        time.sleep(2)
        with pytest.raises(AppError, match="queue is full"):
            client.predict(handle_file(face), "colorize", api_name="/solve")
        # Someone who asks and never reads the answer: the run ends soon, and the place is free again.
        first.cancel()
        client.close()
        other = Client(made.local_url, verbose=False)
        until = time.monotonic() + 30
        while True:
            try:
                other.predict(handle_file(face), "colorize", api_name="/solve")
                break
            except AppError:
                assert time.monotonic() < until
                time.sleep(0.5)
        assert made.app.state_holder.session_data
        other.close()
        while made.app.state_holder.session_data or made._queue.pending_messages_per_session:
            assert time.monotonic() < until + 10  # nothing of either is left
            time.sleep(0.5)


def test_pictures_of_the_page_have_names(client):
    name = client.predict(api_name="/models")["examples"][1]
    path, *_ = client.predict(name, "identity", method="pulse", api_name="/solve")
    assert Image.open(path).size == (64, 64)
