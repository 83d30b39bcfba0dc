"""Fixtures shared by all tests, and the rule that no test opens a connection to another host."""

import socket
from pathlib import Path

import pytest
import torch

from ilo.models import load

ROOT = Path(__file__).parent.parent
_connect = socket.socket.connect


def _local_only(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test tried to reach {address}")
    return _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def no_outside_sockets():
    socket.socket.connect = _local_only
    yield
    socket.socket.connect = _connect


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)  # small tensors on busy cores: a second thread is mostly waited for
    torch.manual_seed(0)


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
def generator(model):
    return model.generator
