"""The Models tab: only the owner's, and what its buttons do."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

import app
from ilo import registry
from ilo.registry import Entry, Url
from ilo.ui import owner as owner_tab
from ilo.ui import page, text
from ilo.ui.owner import KEY, ModelsTab, Owner
from tests import published

CONTENT = b"0123456789" * 100_000


@pytest.fixture
def entry(served, monkeypatch):
    """A registered model that a server on this machine has."""
    folder, address = served
    (folder / "thing.pkl").write_bytes(CONTENT)
    made = Entry("thing", "generator", "A thing", "thing.pkl", Url(f"{address}/thing.pkl"), "free", 64)
    monkeypatch.setattr(registry, "ENTRIES", (registry.BY_ID["faces64"], made))
    monkeypatch.setattr(registry, "BY_ID", {e.id: e for e in registry.ENTRIES})
    return made


@pytest.fixture
def models_tab(model):
    restarted = []
    made = ModelsTab(Owner("key", "http://127.0.0.1:7860/?owner=key", restarted.append, restarted.append), model)
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
    for wanted in ("faces64", "Part of the studio", "thing", "free", "Not here", "GB", "memory are free"):
        assert wanted in table
    assert "&lt;script&gt;" in owner_tab._row(replace(entry, title="<script>"), 10**9)


def test_fetch_shows_its_progress_and_remove_undoes_it(models_tab, entry):
    seen = list(models_tab.fetch(ME, "thing"))
    assert any("MB of 1.0 MB" in bar for bar, *_ in seen)
    assert "thing is here; write its name" in seen[-1][-1]
    assert "Here, 1.0 MB" in seen[-1][1]
    assert hashlib.sha256(entry.path.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert "thing was removed" in models_tab.remove(ME, "thing")[-1]
    assert "thing is not here" in models_tab.remove(ME, "thing")[-1]
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
        ("thing", "thing is not here yet"),
        ("nothing", "There is no model &#x27;nothing&#x27;"),
        (str(tmp_path / "www" / "thing.pkl"), "thing.pkl"),
    ):
        assert words in models_tab.use(ME, name)
    assert models_tab.restarted == []
    path = tmp_path / "network.pkl"
    published.official(path, published.generator(16))
    assert "the page needs 32 px at least" in models_tab.use(ME, str(path))
    assert models_tab.restarted == []
    published.official(path, published.generator(32))
    answer = models_tab.use(ME, f" {path} ")
    assert "data-restart" in answer
    assert models_tab.restarted == [str(path)]


def test_the_key_is_chosen_or_random(monkeypatch):
    options = app.arguments(["--host", "0.0.0.0", "--port", "7861"])
    monkeypatch.delenv(KEY, raising=False)
    keys = {Owner.of(options).key for _ in range(3)}
    assert len(keys) == 3
    assert min(map(len, keys)) >= 20
    monkeypatch.setenv(KEY, "chosen")
    assert Owner.of(options).address == "http://127.0.0.1:7861/?owner=chosen"


def test_a_page_without_an_owner_has_no_such_tab(model):
    labels = [b.label for b in page.build(model).blocks.values() if type(b).__name__ == "Tab"]
    assert "Models" not in labels


def test_the_classes_follow_the_classifier(guide, model, tmp_path):
    from ilo.ui.morphing import Morph

    other = SimpleNamespace(names=("goldfish", "otter"))
    morph = Morph(model, {"tiny": guide, "other": other}, SimpleNamespace(name="", image=None), None, tmp_path)
    wanted, second = morph.classes("other", "goldfish", "bullfrog")
    assert (wanted.value, second.value) == ("goldfish", "—")
    assert [choice for choice, _ in wanted.choices] == ["goldfish", "otter"]
    wanted, second = morph.classes("tiny", "otter", "—")
    assert wanted.value in guide.names
