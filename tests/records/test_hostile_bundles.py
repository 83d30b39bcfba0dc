"""Hostile bundles: each is refused with one line, quickly, and with little memory."""

import json
import os
import subprocess
import sys

import pytest

from ilo.records.saving import contents
from ilo.settings import RoundSettings, SolverSettings
from tests.records.hostile_bundles import CASES, MB, ODD
from tests.records.test_bundle import record

BESIDE = 64 * MB  # memory that a refusal may use, in addition to twice the bundle's size
SECONDS = 5

# Replays every path from its standard input in turn, and reports the outcome of each.
CHILD = """
import contextlib, gc, io, json, signal, sys, time, traceback
import torch
import ilo.perceptual.find, ilo.morph, ilo.records.recorder, ilo.solver
from ilo.records import bundle, saving
from ilo.cli import main as cli
from ilo.photos import faces
from ilo.priors import load as models
from ilo.weights import registry

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024

def late(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, late)
torch.set_num_threads(1)
ilo.perceptual.find.lpips_backbone = lambda: None
torch.fft.rfft(torch.rand(8, 8) @ torch.rand(8, 8))
gc.freeze()
for path in sys.stdin.read().split("\\n"):
    said = io.StringIO(), io.StringIO()
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before, began = status("VmRSS"), time.monotonic()
    signal.alarm(20)
    with contextlib.redirect_stdout(said[0]), contextlib.redirect_stderr(said[1]):
        try:
            code = cli.main(["replay", path])
        except BaseException:
            code = traceback.format_exc()[-1500:]
    signal.alarm(0)
    seconds, grown = time.monotonic() - began, status("VmHWM") - before
    print(json.dumps([code, said[0].getvalue(), said[1].getvalue(), seconds, grown]), flush=True)
"""


@pytest.fixture(scope="module")
def good(model):
    """The files of a bundle of one step."""
    made = record(model, "denoise", SolverSettings(rounds=(RoundSettings(steps=1),)), sigma=10.0)
    return contents(made, model)


@pytest.fixture(scope="module")
def came(good, root, tmp_path_factory):
    """The outcomes of replaying all bundles in turn in one process, and their sizes."""
    paths = []
    for write in {**CASES, **ODD}.values():
        folder = tmp_path_factory.mktemp("bundle")
        made = write(good, folder)
        paths.append(save(made, folder) if isinstance(made, dict) else made)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        cwd=root,
        # Freed memory is returned to the system, so that the next bundle's memory use is visible.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    lines += [[done.stderr[-2000:], "", "", 0, 0]] * (len(paths) - len(lines))  # the process has exited
    return {name: (*line, size(path)) for name, line, path in zip({**CASES, **ODD}, lines, paths, strict=True)}


def save(files, folder):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def size(path):
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(name, came):
    code, out, err, seconds, grown, given = came[name]
    assert code == 2, f"{code}: {err}"
    assert not out
    assert err.startswith("ilo: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert len(err) < 600
    assert seconds < SECONDS
    assert grown < 2 * given + BESIDE, f"{grown / MB:.0f} MB of {given / MB:.2f} MB"


@pytest.mark.parametrize("name", ODD)
def test_odd_but_replayed(name, came):
    code, out, err, *_ = came[name]
    assert code in (0, 1), f"{code}: {err}"
    assert all(line.isprintable() for line in (out + err).replace("\r", "\n").split("\n"))
    if name == "threads 1024":
        assert f"The run used 1,024 threads; this machine has {os.cpu_count()} cores" in err
    elif name == "a huge result":
        assert "cannot be compared" in out
    elif name == "nothing odd":
        assert "byte for byte" in out


def test_the_command_itself(good, root, tmp_path):
    """Replay one of them with the actual command."""
    path = save(CASES["compose 5 deep"](good, tmp_path), tmp_path)
    done = subprocess.run([sys.executable, "-m", "ilo", "replay", path], capture_output=True, text=True, cwd=root)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "allowed are 16 operators in all" in done.stderr
