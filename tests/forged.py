"""A served page, and a client for requests that no browser would send."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import psutil

ROOT = Path(__file__).parents[1]
API = "gradio_api"
SERVED_WITHIN = 120.0  # seconds
SERVE = """
import json, sys
import ilo
from ilo.ui import page
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits
with temporary.files():
    limits = Limits(**json.loads(sys.argv[2]))
    page.serve([ilo.load("faces64")], None, limits, server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
"""


class Forged:
    """A page in a separate process, and a client that can send it any request."""

    def __init__(self, url, process):
        self.process = psutil.Process(process.pid)
        self.client = httpx2.Client(base_url=url, timeout=60)
        config = self.client.get("config").json()
        self._components = {c["id"]: c["props"] for c in config["components"]}
        self._functions = {f["api_name"]: f for f in config["dependencies"]}

    def memory(self):
        """Resident memory in MB."""
        return self.process.memory_info().rss / 1e6

    def data(self, name, **changes):
        """Initial values of a handler's inputs on the page, with changes given by their labels."""
        inputs = self._functions[name]["inputs"]
        values = {i: self._components[i].get("value") for i in inputs}
        for label, value in changes.items():
            meant = [i for i in inputs if self._components[i].get("label") == label.replace("_", " ")]
            assert meant, f"no input has the label {label}"
            values |= dict.fromkeys(meant, value)
        return list(values.values())

    def join(self, session, name="stream", data=None, query=None, **changes):
        """Send a request, such as a run, without reading the answer."""
        body = {"fn_index": self._functions[name]["id"], "session_hash": session}
        body["data"] = self.data(name, **changes) if data is None else data
        return self.client.post(f"{API}/queue/join", json=body, params=query)

    def read(self, session):
        """Yield all messages to a session."""
        stream = self.client.stream("GET", f"{API}/queue/data", params={"session_hash": session})
        with stream as answer, suppress(httpx2.RemoteProtocolError):  # Gradio ends an unknown session's stream so
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def ask(self, session, name="stream", **changes):
        """Send a request, and return the whole answer as one text."""
        answer = self.join(session, name, **changes)
        assert answer.status_code == 200, answer.text
        return json.dumps(list(self.read(session)))

    def upload(self, content, name="a.jpg"):
        return self.client.post(f"{API}/upload", files={"files": (name, content)})

    @contextmanager
    def heartbeat(self, session):
        with self.client.stream("GET", f"{API}/heartbeat/{session}") as answer:
            lines = answer.iter_lines()  # exhausting it would close the connection
            next(lines)
            yield


def served(folder, **limits):
    """Serve a page with these limits; it writes its files to `folder`."""
    return _process(folder, lambda port: ["-c", SERVE, port, json.dumps(limits)])


def app(folder, *arguments, **environment):
    """Serve a page with app.py."""
    return _process(folder, lambda port: ["app.py", "--port", port, *arguments], environment)


@contextmanager
def _process(folder, command, environment=()):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder), **dict(environment)}
    process = subprocess.Popen([sys.executable, *command(port)], cwd=ROOT, env=environment)
    try:
        yield _answering(f"http://127.0.0.1:{port}/", process)
    finally:
        process.terminate()
        process.wait(20)


def _answering(url, process):
    end = time.monotonic() + SERVED_WITHIN
    while True:
        try:
            return Forged(url, process)
        except httpx2.HTTPError:
            assert process.poll() is None, "the page has ended"
            assert time.monotonic() < end, "the page does not answer"
            time.sleep(0.2)


def wait_until(true, seconds):
    """Whether a condition becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
