"""Fixtures shared by all tests, and a guard against connections to other hosts."""

import copy
import functools
import socket
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from ilo.classifiers import classifier
from ilo.photos.yunet import path as yunet_path
from ilo.priors.load import Model, load
from ilo.priors.stylegan2 import checkpoint, latents
from ilo.priors.stylegan2.latents import GaussianW
from ilo.weights import registry

ROOT = Path(__file__).parent.parent
_connect = socket.socket.connect


def _local_only(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test tried to reach {address}")
    return _connect(self, address)


def pytest_collection_modifyitems(items):
    """Forked processes come first: none can compute gradients once this one has traced a backward pass."""
    items.sort(key=lambda item: item.path.name != "test_zerogpu.py")


@pytest.fixture(autouse=True, scope="session")
def no_outside_sockets():
    socket.socket.connect = _local_only
    yield
    socket.socket.connect = _connect


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)  # with small tensors on busy cores, a second thread only costs time
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def eager():
    """Compiled code that another program has left in the cache changes no test, and no page starts to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILO_ENGINE", "eager")
        yield


@pytest.fixture(scope="session")
def data():
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def model():
    return load("faces64")


@pytest.fixture(scope="session")
def golden_model(data):
    """The earlier faces64 network that produced the numbers in tests/data/faces64-golden.safetensors."""
    path = data / "faces64-golden-weights.safetensors"
    generator = checkpoint.build(checkpoint.read_safetensors(path), path.name).freeze()
    return Model("golden", generator, latents.fit(generator, 1000), path, "0" * 64)


@pytest.fixture(scope="session")
def double_model(model):
    """The model in float64: Adam's first steps have a fixed length for any gradient, which amplifies rounding."""
    generator = copy.deepcopy(model.generator).double().freeze(torch.float64)
    latents = GaussianW(model.latents.mean.double(), model.latents.factor.double())
    return Model("faces64", generator, latents, model.path, model.sha256)


@pytest.fixture(scope="session")
def generator(model):
    return model.generator


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """File of a small classifier with random weights, in the format of the embedded ones."""
    torch.manual_seed(7)
    network = classifier.ResidualNetwork(classifier.Shape(4, (8, 12), (1, 1), 32))
    names = [
        ("n1", "bullfrog, Rana catesbeiana"),
        ("n2", "goldfish"),
        ("n3", "brain coral"),
        ("n4", "tailed frog, toad"),
    ]
    path = tmp_path_factory.mktemp("classifier") / "tiny.safetensors"
    classifier.save(network, path, names, {"licence": "none"})
    return path


@pytest.fixture(scope="session")
def guide(classifier_file):
    return classifier.load(str(classifier_file))


@pytest.fixture
def yunet(monkeypatch):
    """Detects faces with YuNet, whose file lies beside the checkout."""
    path = ROOT.parent / "shared" / "models" / registry.YUNET_FILE
    if path.is_file():
        monkeypatch.setenv("ILO_YUNET", str(path))
    elif yunet_path() is None:
        pytest.skip("YuNet is not here")


@pytest.fixture
def no_yunet(monkeypatch, tmp_path):
    """Detects faces with the embedded network."""
    monkeypatch.delenv("ILO_YUNET", raising=False)
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def group(tmp_path_factory):
    """A photograph file of 900 × 600 pixels with two faces, the smaller one on the right; stored rotated (EXIF)."""
    large = astronaut()
    small = cv2.resize(large[20:240, 330:110:-1], (150, 150), interpolation=cv2.INTER_AREA)
    both = np.full((600, 900, 3), (150, 170, 190), np.uint8)
    both[88:, :512], both[180:330, 640:790] = large, small
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise for display
    path = tmp_path_factory.mktemp("group") / "group.jpg"
    Image.fromarray(np.rot90(both)).save(path, exif=exif, quality=95)
    return path


@pytest.fixture
def photo(tmp_path):
    """A picture file without a face."""
    x = np.linspace(0, 255, 80).astype(np.uint8)
    pixels = np.stack([np.broadcast_to(x, (70, 80)), np.broadcast_to(x[:70, None], (70, 80)), np.full((70, 80), 90)], 2)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


class _Unhurried(SimpleHTTPRequestHandler):
    """Sends files in pieces, so that a download shows progress."""

    def log_message(self, *args):
        pass

    def copyfile(self, source, output):
        while part := source.read(100_000):
            output.write(part)
            time.sleep(0.03)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address that serves its files; the studio's cache is an empty folder elsewhere."""
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "www"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Unhurried, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
