"""No visitor can block the page: forged requests to a served page, and limits on stored data."""

import io
import json
import os
import time

import pytest
from PIL import Image

from ilo.ui import text
from ilo.ui.visitors.limits import Limits
from tests.forged import API, served, wait_until

LONG = {"Rounds": 1, "Adam_steps": 4_900}  # some two minutes


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with the default limits."""
    with served(tmp_path_factory.mktemp("page")) as forged:
        yield forged


def photograph():
    """A JPEG file of 19 MB, most of it after the picture data; each file is different."""
    file = io.BytesIO()
    Image.effect_noise((1200, 900), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue() + os.urandom(19_000_000)


# A run.


def test_a_run_of_62_days_is_refused_with_a_sentence(page):
    answer = page.ask("days", Adam_steps=100_000, Searches=100, Range_steps=100_000)
    assert "would take" in answer
    assert "this page allows 5,000" in answer
    assert "Reduce the steps" in answer


def test_presets_and_what_sliders_reach_are_allowed(page):
    for changes in (
        {"Adam steps": 300},
        {"Adam steps": 1_200, "Rounds": 4},
        {"Rounds": 5, "Searches": 4, "Range_steps": 60},
    ):
        session = f"allowed {changes}"
        page.join(session, **changes)
        for message in page.read(session):
            words = json.dumps(message)
            assert "this page allows" not in words
            if "Round 1 of" in words:
                break


def test_a_run_that_nobody_reads_ends_within_15_seconds(page):
    assert "Done" in page.ask("before", Rounds=1, Adam_steps=1)  # whatever else was in line has ended
    page.join("silent", **LONG)
    start = time.monotonic()
    words = ""
    for visit in range(50):  # until one comes after it: joining does not wait for a place in the line
        words = page.ask(f"next {visit}", Rounds=1, Adam_steps=3)
        if "ahead of yours" in words:
            break
    assert time.monotonic() - start < 15
    assert "ahead of yours" in words
    assert "Done" in words
    # Its first messages are gone, too.
    time.sleep(2)
    assert [message["msg"] for message in page.read("silent")] in ([], ["unexpected_error"])


# The line.


def answer_of(page, session):
    """Whether a run that was joined is "refused", "waits" (or is being solved), or "gone", for nobody read its news."""
    for message in page.read(session):
        words = json.dumps(message)
        if "8 runs are already waiting" in words:
            return "refused"
        if "ahead of yours" in words or "Round 1 of" in words:
            return "waits"
    return "gone"


def test_96_joined_runs_leave_the_page_to_others(page):
    sessions = [f"crowd {i}" for i in range(96)]
    joined = [page.join(session, **LONG) for session in sessions]
    assert {answer.status_code for answer in joined} == {200}
    assert page.client.get("").status_code == 200
    start = time.monotonic()
    assert "data:image" in page.ask("visitor", "call")  # a preview
    assert page.join("visitor", "follow").status_code == 200  # the request of a newly opened page
    assert time.monotonic() - start < 5
    answers = [answer_of(page, session) for session in reversed(sessions)]  # the first ones may be forgotten by now
    assert answers.count("refused") > 10
    assert answers.count("waits") <= 1 + Limits().waiting
    # Nobody reads any of the others, so the line is soon free again.
    assert wait_until(lambda: "Done" in page.ask("after", Rounds=1, Adam_steps=3), 30)


# What is sent.


def test_a_body_of_100_million_characters_is_refused_and_takes_no_memory(page):
    page.ask("large", "call")
    before = page.memory()
    value = page.data("stream")
    value[1] = {**value[1], "mask": "A" * 100_000_000}
    answer = page.join("large", data=value)
    assert answer.status_code == 413
    assert answer.text == text.request_too_large(Limits().request_bytes)
    assert page.memory() - before < 10


def test_a_body_of_no_declared_length_is_counted(page):
    def parts(count):
        yield b'{"data": ["'
        for _ in range(count):
            yield b"<" * 10_000
        yield b'"]}'

    assert page.client.post(f"{API}/queue/join", content=parts(1_000)).status_code == 413
    assert page.client.post(f"{API}/queue/join", content=parts(1)).status_code == 422  # no list

    def form(count):
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        for _ in range(count):
            yield b"<" * 10_000
        yield b"\r\n--x--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert page.client.post(f"{API}/upload", content=form(1), headers=kind).status_code == 200
    assert page.client.post(f"{API}/upload", content=form(3_000), headers=kind).status_code == 413


def test_what_is_sent_does_not_come_back_in_full(page):
    value = page.data("stream")
    value[1] = {**value[1], "crop": {"x": "<" * 100_000, "y": 0.5, "zoom": 1}}
    page.join("echo", data=value)
    answer = json.dumps(list(page.read("echo")))
    assert "centre x must" in answer
    assert len(answer) < 10_000


def test_a_large_file_is_refused(page):
    answer = page.upload(b"x" * 25_000_000)
    assert answer.status_code == 413
    assert answer.text == text.upload_too_large(Limits().upload_bytes)
    assert page.upload(b"x" * 100).status_code == 200


# What is kept.


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A page with short time limits."""
    folder = tmp_path_factory.mktemp("hasty")
    quick = {"unheard_seconds": 2, "session_seconds": 4, "tidy_seconds": 0.5, "read_seconds": 0.5, "messages": 40}
    with served(folder, **quick, uploads_bytes=50_000_000, uploads_files=10) as forged:
        forged.folder = folder
        yield forged


def test_visits_without_a_heartbeat_are_forgotten(hasty):
    def visit(session, content):
        (path,) = hasty.upload(content).json()
        data = hasty.data("taken")
        data[0] = {"path": path, "meta": {"_type": "gradio.FileData"}}
        hasty.join(session, "taken", data)
        return json.dumps(list(hasty.read(session)))

    for i in range(3):
        visit(f"first {i}", photograph())  # modules loaded on first use stay in memory
    time.sleep(6)
    before = hasty.memory()
    most = before
    for i in range(20):
        assert "data:image" in visit(f"visit {i}", photograph())
        most = max(most, hasty.memory())
    assert wait_until(lambda: hasty.memory() < 1.05 * before, 12), (before, most, hasty.memory())
    print(f"resident: {before:.0f} MB before, {most:.0f} MB with the visits, {hasty.memory():.0f} MB after them")
    assert most > before + 50


def test_runs_that_were_never_read_leave_nothing(hasty):
    hasty.ask("one", Rounds=1, Adam_steps=3)
    time.sleep(6)
    before = hasty.memory()
    for i in range(60):
        hasty.join(f"unread {i}", Rounds=1, Adam_steps=3)
        time.sleep(0.25)
    assert wait_until(lambda: hasty.memory() < 1.05 * before, 12)


def test_who_is_on_the_page_or_reads_keeps_the_run(hasty):
    steps = {"Rounds": 1, "Adam steps": 400}
    with hasty.heartbeat("tab in the background"):
        hasty.join("tab in the background", **steps)
        time.sleep(5)
        began = time.monotonic()
        words, waited = [], 0
        for message in hasty.read("tab in the background"):
            words.append(json.dumps(message))
            waited += time.monotonic() < began + 0.5
    assert "400 steps in" in words[-2]
    assert waited < 60  # unread messages have not accumulated
    assert "400 steps in" in hasty.ask("no browser", **steps)


def test_answers_that_nobody_reads_stay_few(hasty):
    with hasty.heartbeat("idle tab"):
        for _ in range(5):  # where the sweep comes in the middle of them, what comes after it may stay
            for _ in range(60):
                assert hasty.join("idle tab", "call").status_code == 200
            time.sleep(4)
            kept = list(hasty.read("idle tab"))
            if len(kept) <= 1:
                break
        assert len(kept) <= 1
        assert "data:image" in hasty.ask("idle tab", "call")


def test_uploads_that_nobody_uses_stay_few(hasty):
    for i in range(15):
        assert hasty.upload(bytes([i]) * 1_000_000, f"{i}.jpg").status_code == 200
    for i in range(8):
        assert hasty.upload(bytes([i]) * 15_000_000, f"large {i}.jpg").status_code == 200

    def kept():
        paths = [os.path.join(place, name) for place, _, names in os.walk(hasty.folder) for name in names]
        return [path for path in paths if not path.endswith(".lock")]

    assert wait_until(lambda: len(kept()) <= 10 and sum(map(os.path.getsize, kept())) <= 50_000_000, 10)


def test_the_state_behind_a_deep_link_counts_as_an_upload(hasty):
    hasty.ask("link", "call")
    assert hasty.client.get(f"{API}/deep_link", params={"session_hash": "link"}).status_code == 200
    (state,) = hasty.folder.rglob("state.json")
    for i in range(11):
        hasty.upload(bytes([i]) * 10, f"{i}.jpg")
    assert wait_until(lambda: not state.exists(), 5)


def test_a_visitor_cannot_delete_the_lock(hasty):
    (lock,) = hasty.folder.rglob("*/.lock")
    data = hasty.data("taken")
    data[0] = {"path": str(lock), "meta": {"_type": "gradio.FileData"}}
    hasty.join("thief", "taken", data)
    list(hasty.read("thief"))
    time.sleep(2)
    assert lock.exists()
