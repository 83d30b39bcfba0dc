"""The server of downloads, and a model whose file it has."""

import threading
from http.server import ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from ilo.weights import download
from ilo.weights.registry import Entry, Hub, Url
from tests.weights.server import COMMIT, CONTENT, HASH, Handler


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAIT", 0.01)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.etag, made.plan, made.always, made.asked = CONTENT, '"v1"', [], None, []
    made.released = threading.Event()
    made.address = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()


@pytest.fixture(params=["url", "hub"])
def entry(request, server):
    if request.param == "url":
        source = Url(f"{server.address}/file")
    else:
        source = Hub("some/where", "file.bin", COMMIT, server.address)
        server.etag = f'"{HASH}"'
    return Entry("thing", "generator", "A thing", "thing.bin", source, "free")
