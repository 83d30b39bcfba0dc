"""The Models tab: access for the owner only, and its buttons."""

import hashlib
import html
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import app
from ilo.priors.stylegan2 import checkpoint
from ilo.ui import page, text
from ilo.ui.models import handlers
from ilo.ui.models import owner as owners
from ilo.ui.models.handlers import ModelsTab
from ilo.ui.models.owner import KEY, Owner
from ilo.ui.runs.machine import Facts
from ilo.weights import registry
from ilo.weights.registry import BY_ID, Entry, Url
from tests import forged, published

CONTENT = b"0123456789" * 100_000


@pytest.fixture
def entry(served, monkeypatch):
    """A registered model that a server on this machine offers."""
    folder, address = served
    (folder / "thing.pkl").write_bytes(CONTENT)
    made = Entry("thing", "generator", "A thing", "thing.pkl", Url(f"{address}/thing.pkl"), "free", 64)
    monkeypatch.setattr(registry, "ENTRIES", (registry.BY_ID["faces64"], made))
    monkeypatch.setattr(registry, "BY_ID", {e.id: e for e in registry.ENTRIES})
    return made


@pytest.fixture
def models_tab(model):
    restarted = []
    owner = Owner("key", "http://127.0.0.1:7860/?owner=key", lambda *choice: restarted.append(choice), None)
    made = ModelsTab(owner, model, 0, Facts(torch.device("cpu"), "2 CPU cores", {}, None, ("float32",)))
    made.restarted = restarted
    return made


def asking(key):
    return SimpleNamespace(query_params={} if key is None else {"owner": key})


ME = asking("key")


@pytest.mark.parametrize("key", [None, "", "kez", "key ", "κλειδί"])
def test_nobody_else_sees_or_does_anything(models_tab, entry, tmp_path, key):
    visitor = asking(key)
    tab, table, notice = models_tab.open(visitor)
    assert tab.visible is False
    assert table == notice == ""
    assert text.NOT_OWNER in list(models_tab.fetch(visitor, "thing"))[-1][-1]
    assert text.NOT_OWNER in models_tab.remove(visitor, "thing")[-1]
    assert text.NOT_OWNER in models_tab.use(visitor, str(tmp_path / "www" / "thing.pkl"))
    assert not entry.here
    assert models_tab.restarted == []


def test_the_owner_sees_every_model_with_its_terms(models_tab, entry):
    tab, table, notice = models_tab.open(ME)
    assert tab.visible is True
    assert notice == ""
    for wanted in ("faces64", "Part of the studio", "thing", "free", "Not downloaded", "GB", "memory are free"):
        assert wanted in table
    assert "&lt;script&gt;" in handlers._row(replace(entry, title="<script>"), 10**9)


def test_fetch_shows_its_progress_and_remove_undoes_it(models_tab, entry):
    seen = list(models_tab.fetch(ME, "thing"))
    assert any("MB of 1.0 MB" in bar for bar, *_ in seen)
    assert "thing is downloaded. To use it, enter its name" in seen[-1][-1]
    assert "Downloaded, 1.0 MB" in seen[-1][1]
    assert hashlib.sha256(entry.path.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert "thing was removed" in models_tab.remove(ME, "thing")[-1]
    assert "thing is not downloaded" in models_tab.remove(ME, "thing")[-1]
    for name in ("faces64", "no such model", None):
        assert text.WHICH_DOWNLOAD in list(models_tab.fetch(ME, name))[-1][-1]
        assert text.WHICH_DOWNLOAD in models_tab.remove(ME, name)[-1]


def test_a_download_that_fails_says_why(models_tab, entry, monkeypatch):
    wrong = replace(entry, source=Url(entry.source.address + "x"))
    monkeypatch.setitem(registry.BY_ID, "thing", wrong)
    assert "answered 404" in list(models_tab.fetch(ME, "thing"))[-1][-1]


def test_a_file_is_looked_at_before_the_page_starts_again_with_it(models_tab, entry, tmp_path):
    for name, words in (
        ("", text.WHICH_MODEL),
        ("thing", "thing is not downloaded yet"),
        ("nothing", "There is no generator &#x27;nothing&#x27;"),
        (str(tmp_path / "www" / "thing.pkl"), "thing.pkl"),
    ):
        assert words in models_tab.use(ME, name)
    assert models_tab.restarted == []
    path = tmp_path / "network.pkl"
    published.official(path, published.generator(16))
    assert "the page needs at least 32 px" in models_tab.use(ME, str(path))
    assert models_tab.restarted == []
    published.official(path, published.generator(32))
    answer = models_tab.use(ME, f" {path} ")
    assert "data-restart" in answer
    assert models_tab.restarted == [(str(path), 0)]


def test_the_key_is_chosen_or_random(monkeypatch):
    options = app.arguments(["--host", "0.0.0.0", "--port", "7861"])
    monkeypatch.delenv(KEY, raising=False)
    keys = {Owner.of(options).key for _ in range(3)}
    assert len(keys) == 3
    assert min(map(len, keys)) >= 20
    monkeypatch.setenv(KEY, "chosen")
    assert Owner.of(options).address == "http://127.0.0.1:7861/?owner=chosen"


def test_a_page_without_an_owner_has_no_such_tab(model):
    labels = [b.label for b in page.build([model]).blocks.values() if type(b).__name__ == "Tab"]
    assert "Models" not in labels


def test_the_classes_follow_the_classifier(guide, model, tmp_path):
    from ilo.ui.morph.handlers import Morph

    other = SimpleNamespace(names=("goldfish", "otter"))
    morph = Morph(model, {"tiny": guide, "other": other}, SimpleNamespace(name="", image=None), None, tmp_path)
    wanted, second = morph.classes("other", "goldfish", "bullfrog")
    assert (wanted.value, second.value) == ("goldfish", "—")
    assert [choice for choice, _ in wanted.choices] == ["goldfish", "otter"]
    wanted, second = morph.classes("tiny", "otter", "—")
    assert wanted.value in guide.names


def skewed(path):
    """A generator whose file has an unusable face alignment."""
    read = checkpoint.read_safetensors(BY_ID["faces64"].path)
    checkpoint.write_safetensors(replace(read, about={**read.about, "alignment": {"eye_left": "left"}}), path)
    return path


def test_a_model_that_cannot_take_a_step_is_not_used(models_tab, entry, tmp_path, monkeypatch):
    assert "notice error" in models_tab.use(ME, str(skewed(tmp_path / "skewed.safetensors")))
    path = published.official(tmp_path / "network.pkl", published.generator(32))

    def broken(*_, **__):
        raise RuntimeError("out of\x1b[0m range")
        yield

    monkeypatch.setattr(handlers.Replica, "warm_up", broken)
    answer = models_tab.use(ME, str(path))
    assert r"network.pkl can be read, but a run with it fails (out of\x1b[0m range)" in html.unescape(answer)
    assert models_tab.restarted == []


def test_a_page_that_cannot_start_with_a_model_goes_back_to_the_one_before(tmp_path):
    path = skewed(tmp_path / "skewed.safetensors")
    with forged.app(tmp_path, "--model", str(path), "--instead", "faces64", ILO_OWNER_KEY="k3y") as page:
        assert "faces64" in page.client.get("").text
        page.join("owner", "open", query={"owner": "k3y"})
        answer = str(list(page.read("owner")))
        assert "The page could not start with skewed.safetensors" in answer
        assert "uses the previous model again" in answer


def test_a_page_that_starts_again_keeps_its_arguments(monkeypatch):
    options = app.arguments(
        ["--host", "0.0.0.0", "--port", "7861", "--max-steps", "7", "--model", "ffhq-256", "--model", "b"]
    )
    commands = []
    monkeypatch.setattr(owners, "RESTART_SECONDS", 0)
    monkeypatch.setattr(os, "execve", lambda _, command, __: commands.append(command[2:]))
    owner = Owner.of(options)
    owner.restart("faces64", 0)
    deadline = time.monotonic() + 5
    while not commands and time.monotonic() < deadline:
        time.sleep(0.01)
    again = app.arguments(commands[0])
    assert vars(again) == {**vars(options), "model": ["faces64", "b"], "instead": ["ffhq-256", "b"]}
    Owner.of(again).fall_back(ValueError("no"))
    last = app.arguments(commands[1])
    assert (last.model, last.instead) == (["ffhq-256", "b"], None)
    assert "faces64 (no)" in last.notice
