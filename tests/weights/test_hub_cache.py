"""Downloads of files that huggingface_hub has in its own cache."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest

from ilo.weights import cache, download, registry, terminal
from ilo.weights.download import DownloadError
from ilo.weights.registry import Entry, Hub, Url
from tests.weights.server import COMMIT, CONTENT, HASH


@pytest.fixture(params=[COMMIT, "main"])
def preloaded(request, server):
    """A model whose file huggingface_hub has stored in its own cache; the server is not contacted again."""
    server.etag = f'"{HASH}"'
    entry = Entry(
        "thing", "generator", "A thing", "thing.bin", Hub("a/b", "c/f.bin", request.param, server.address), ""
    )
    huggingface_hub.hf_hub_download("a/b", "c/f.bin", revision=request.param, endpoint=server.address)
    server.asked.clear()
    return entry


@pytest.mark.parametrize("switch", ["", "ILO_OFFLINE"])
def test_what_the_hub_library_has_is_used_from_there(server, preloaded, monkeypatch, switch, capsys):
    if switch:
        monkeypatch.setenv(switch, "1")
    assert download.fetch(preloaded) == preloaded.path
    assert capsys.readouterr().out == "thing is used from the Hugging Face cache.\n"
    assert preloaded.path.read_bytes() == CONTENT
    assert preloaded.path.is_symlink()  # no second copy
    assert terminal.state(preloaded) == "Downloaded, 3.1 MB, in the Hugging Face cache"
    assert download.known_hash(preloaded) == HASH
    monkeypatch.setattr(cache, "sha256", lambda path: pytest.fail("it was checked when it was linked"))
    assert download.checked(preloaded) == download.fetch(preloaded) == preloaded.path
    assert server.asked == []


def test_verify_reads_the_file_in_the_hub_cache(server, preloaded):
    download.fetch(preloaded)
    assert download.verify(preloaded) == HASH
    with preloaded.path.open("r+b") as file:
        file.write(b"!")
    with pytest.raises(DownloadError, match="models remove thing, then fetch thing"):
        download.verify(preloaded)


def test_removing_leaves_the_hub_cache_alone(server, preloaded):
    where = download.preloaded(preloaded)
    download.fetch(preloaded)
    assert download.remove(preloaded) == [preloaded.path]
    assert where.read_bytes() == CONTENT
    assert not preloaded.here
    assert download.remove(preloaded) == []
    assert download.fetch(preloaded).read_bytes() == CONTENT
    assert server.asked == []


def test_a_hub_cache_that_was_emptied_leaves_no_trap(server, preloaded, tmp_path):
    download.fetch(preloaded)
    shutil.rmtree(tmp_path / "hub")
    assert not preloaded.here
    assert terminal.state(preloaded) == "Not downloaded"
    assert download.fetch(preloaded).read_bytes() == CONTENT
    assert not preloaded.path.is_symlink()
    shutil.rmtree(preloaded.path.parent)
    huggingface_hub.hf_hub_download("a/b", "c/f.bin", revision=preloaded.source.revision, endpoint=server.address)
    download.fetch(preloaded)
    shutil.rmtree(tmp_path / "hub")
    assert download.remove(preloaded) == [preloaded.path]  # the dangling link
    assert not preloaded.path.is_symlink()


@pytest.mark.parametrize("published", ["", HASH])
def test_a_damaged_file_in_the_hub_cache_is_downloaded_instead(server, preloaded, published, capsys):
    entry = replace(preloaded, sha256=published)
    where = download.preloaded(entry)
    where.write_bytes(CONTENT[:-1])
    assert download.fetch(entry).read_bytes() == CONTENT
    assert "In the Hugging Face cache, thing.bin is not the expected file" in capsys.readouterr().out
    assert not entry.path.is_symlink()
    assert where.read_bytes() == CONTENT[:-1]


def test_where_links_are_not_possible_a_copy_is_made(server, preloaded, monkeypatch):
    def refused(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refused)
    assert download.fetch(preloaded).read_bytes() == CONTENT
    assert not preloaded.path.is_symlink()
    assert server.asked == []


def test_a_space_uses_what_was_preloaded(server, preloaded, monkeypatch, capsys):
    other = replace(preloaded, id="other", source=Url(f"{server.address}/file"), file="other.bin")
    damaged = replace(preloaded, id="damaged", file="damaged.bin", sha256="0" * 64)
    monkeypatch.setattr(registry, "ENTRIES", (other, damaged, preloaded))
    monkeypatch.setenv("ILO_OFFLINE", "1")
    terminal.bring_preloaded()
    assert (other.here, damaged.here, preloaded.here) == (False, False, True)
    assert "damaged is not downloaded, and ILO_OFFLINE forbids downloads" in capsys.readouterr().err
    assert server.asked == []


def test_only_files_of_the_hub_can_be_preloaded(server):
    assert download.preloaded(registry.BY_ID["ffhq-256"]) is None
    assert download.preloaded(registry.BY_ID["yunet"]) is None
