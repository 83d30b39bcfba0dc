"""Visitors of the page: open connections, inactivity, and limits on requests."""

import time
from types import SimpleNamespace

import anyio
import pytest
import torch

from ilo.methods import morph_preset, preset
from ilo.morph import inversion, total_steps
from ilo.operators import Identity
from ilo.problem import Problem
from ilo.settings import RoundSettings, SettingsError, SolverSettings
from ilo.solver import solve
from ilo.ui import text
from ilo.ui.runs.order import Order
from ilo.ui.visitors import temporary
from ilo.ui.visitors.door import Door
from ilo.ui.visitors.limits import Limits
from ilo.ui.visitors.visitors import Visitors
from tests.machines import plain_runs


@pytest.fixture
def visitors():
    made = Visitors(Limits(unheard_seconds=0.2, session_seconds=0.5, sessions=3))
    made.served = True
    return made


def test_without_a_server_everybody_listens():
    visitors = Visitors(Limits(unheard_seconds=0))
    assert visitors.reads("anybody")
    assert not visitors.unheard("anybody")
    with pytest.raises(SettingsError, match="--max-steps must be 1 or more"):
        Limits(steps=-1)


def test_who_has_a_connection_is_heard(visitors):
    visitors.asked("a")
    assert not visitors.reads("a")
    time.sleep(0.25)
    assert visitors.unheard("a")
    with visitors.listening("a", stream=False):
        assert visitors.away("a") == 0
        assert not visitors.reads("a")
        with visitors.listening("a", stream=True) as line:
            assert visitors.reads("a")
            line.stuck = time.monotonic() - 1
            assert not visitors.reads("a")
            assert not visitors.unheard("a")  # its heartbeat goes on
    visitors.asked("b")
    time.sleep(0.25)
    with visitors.listening("b", stream=True) as line:
        line.stuck = time.monotonic() - 1
        assert visitors.unheard("b")  # it has a stream, but does not read it


def test_who_has_gone_is_forgotten(visitors):
    left = []
    visitors.when_gone(left.append)
    for session in "abcde":
        visitors.asked(session)
    assert visitors.gone() == []  # nobody who was just there
    with visitors.listening("a", stream=False):
        time.sleep(0.2)
        assert visitors.gone() == ["b", "c"]  # two too many
        time.sleep(0.5)
        assert visitors.gone() == ["b", "c", "d", "e"]
        visitors.forget("b")
        assert left == ["b"]
        assert visitors.gone() == ["c", "d", "e"]


def asking(door, path, *parts, method="POST", query="", headers=()):
    """Send a request through the door. Returns the part that reaches the application, and the client's answer."""
    seen, sent = bytearray(), []

    async def app(scope, receive, send):
        more = method == "POST"
        while more:
            message = await receive()
            seen.extend(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    messages = [{"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    door._app = app
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": list(headers),
        "app": SimpleNamespace(uploaded_file_dir="nowhere"),
    }  # fmt: skip
    anyio.run(door, scope, receive, send)
    return bytes(seen), sent[0]["status"], sent[-1]["body"].decode()


def test_the_door_lets_in_what_is_small_enough():
    door = Door(None, Visitors(Limits(request_bytes=10, upload_bytes=100)))
    join, upload = "/gradio_api/queue/join", "/gradio_api/upload"
    assert asking(door, join, b"12345", b"67890") == (b"1234567890", 200, "")
    assert asking(door, join, b"12345", b"678901")[:2] == (b"", 413)
    assert asking(door, join, b"", headers=[(b"content-length", b"11")])[:2] == (b"", 413)
    assert asking(door, "/gradio_api/api/upload", b"12345", b"678901")[:2] == (b"", 413)
    assert asking(door, upload, b"x" * 1_000) == (b"x" * 1_000, 200, "")
    assert asking(door, upload, b"x" * 60_000, b"x" * 6_000)[1:] == (413, text.upload_too_large(100))
    assert asking(door, upload, b"", headers=[(b"content-length", b"70000")])[1] == 413
    busy = Door(None, Visitors(Limits(uploads_at_once=0)))
    assert asking(busy, upload, b"x")[1:] == (429, text.UPLOADS_BUSY)


def test_an_upload_that_takes_too_long_is_ended():
    door, sent = Door(None, Visitors(Limits(upload_seconds=0.1))), []

    async def app(scope, receive, send):
        await receive()

    async def receive():
        await anyio.sleep(60)

    async def send(message):
        sent.append(message)

    door._app = app
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "headers": []}
    anyio.run(door, {**scope, "app": SimpleNamespace(uploaded_file_dir="nowhere")}, receive, send)
    assert sent[0]["status"] == 408
    assert sent[1]["body"].decode() == text.UPLOAD_TOO_SLOW
    assert door._uploads == 0


@pytest.mark.parametrize(
    ("path", "query", "stream"),
    [
        ("/gradio_api/heartbeat/me", "", False),
        ("/gradio_api/queue/data", "a=b&session_hash=me", True),
        ("/gradio_api/call/stream/me", "", True),
        ("/gradio_api/call/v2/stream/me", "", True),
        ("/studio/gradio_api/heartbeat/me", "", False),
    ],
)
def test_the_door_sees_connections_come_and_go(visitors, path, query, stream):
    visitors.asked("me")
    time.sleep(0.25)
    seen = []

    async def app(scope, receive, send):
        seen.append((visitors.unheard("me"), visitors.reads("me")))
        await send({"type": "http.response.body", "body": b"", "more_body": True})

    async def send(message):
        seen.append(visitors.reads("me"))  # not while something waits to be sent

    door = Door(app, visitors)
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    anyio.run(door, scope, None, send)
    assert seen == [(False, stream), False]
    assert not visitors.reads("me")


# Steps, the line and turns.


def order(settings, model, guide=None):
    picture = torch.zeros(1, 3, model.resolution, model.resolution)
    problem = guide or Problem.damage(picture, Identity(resolution=model.resolution))
    return Order(problem, settings, picture, True, model.id)


def test_steps_are_counted_as_the_solver_counts_them(model):
    plan = RoundSettings(5, outer_iterations=3, range_steps=2)
    asked = order(SolverSettings((RoundSettings(4), plan)), model)
    *_, last = solve(model, asked.problem, asked.settings, perceptual=None)
    assert asked.total_steps == last.total == last.done == 4 + 3 * 5 + 2 * 2
    guided = morph_preset("Paper", layers=5)
    assert total_steps(guided, False) == 1_200
    assert total_steps(guided, True) == 1_200 + inversion(guided).total_steps == 1_350


def test_a_run_of_too_many_steps_is_refused_and_the_owner_may_allow_it(model):
    runs = plain_runs(model)
    try:
        with pytest.raises(SettingsError, match="would take 5,001 steps in total; this page allows 5,000"):
            runs.start("a", order(SolverSettings((RoundSettings(5_001),)), model))
        runs.limits = Limits(steps=0)
        assert runs.start("a", order(SolverSettings((RoundSettings(5_001),)), model))
    finally:
        runs.close()


def test_a_run_that_has_had_its_time_makes_room_for_who_waits(model):
    runs = plain_runs(model, Limits(turn_seconds=0.3, waiting=1))
    try:
        long = order(SolverSettings((RoundSettings(4_000),)), model)
        first = runs.start("first", long)
        while first.step is None:
            time.sleep(0.05)
        time.sleep(0.5)
        assert first.live  # nobody waits
        second = runs.start("second", order(preset(), model))
        with pytest.raises(SettingsError, match="1 runs are already waiting"):
            runs.start("third", long)
        while first.live:
            time.sleep(0.05)
        assert first.status == "stopped"
        assert first.turn_over
        assert first.recorder.stopped_at == first.step.done > 0
        assert not second.stopping.is_set()
    finally:
        runs.close()


# The folder.


def test_only_what_gradio_has_received_is_an_upload(tmp_path):
    sha = "0123456789abcdef" * 4
    assert temporary.is_upload(tmp_path / sha / "a.png", tmp_path)
    for other in (
        tmp_path / temporary.LOCK,
        tmp_path / sha,
        tmp_path / sha / "a" / "b.png",
        tmp_path / sha / ".." / temporary.LOCK,
        tmp_path / temporary.DOWNLOADS / sha / "a.zip",
        tmp_path / temporary.DOWNLOADS / "a.zip",
        tmp_path.parent / sha / "a.png",
        tmp_path / "deep_links" / "state.json",
    ):
        assert not temporary.is_upload(other, tmp_path)


def test_the_folder_stays_small(tmp_path):
    names = (temporary.LOCK, "aa/1", "ab/2", "deep_links/x/state.json", "downloads/a/1.zip", "downloads/b/2.zip")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("0123456789")
        time.sleep(0.01)

    def left():
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    temporary.tidy(tmp_path, Limits())
    assert left() == set(names)
    temporary.tidy(tmp_path, Limits(uploads_bytes=25, downloads_files=1))
    assert left() == {temporary.LOCK, "ab/2", "deep_links/x/state.json", "downloads/b/2.zip"}
    temporary.tidy(tmp_path, Limits(uploads_files=1))
    assert left() == {temporary.LOCK, "deep_links/x/state.json", "downloads/b/2.zip"}
    temporary.tidy(tmp_path, Limits(kept_seconds=0))
    assert left() == {temporary.LOCK}
    assert not (tmp_path / "aa").exists()
