"""Loads weights files as a user would, each in a process of its own, and reports what became of it.

    python -m tests.hostile_run FILE…    (without files: each line of standard input is a JSON list of paths)

One line of JSON per file, in the files' order. A warmed-up parent forks for every file, so that hundreds take seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import pickle
import resource
import selectors
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import torch

from ilo import classifier, models
from ilo.classifier import ClassifierError
from ilo.masks import preset_mask
from ilo.stylegan2.checkpoint import CheckpointError

CPU_SECONDS = 20  # then a child is stopped
ADDRESSES = 3 << 30  # bytes that a child may map beyond what its parent has
AT_ONCE = 2
DEVICES = ("/dev/null", "/dev/tty")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What reading numbers from a file has no use for, by the beginnings of the interpreter's audit events.
FORBIDDEN = """
    code.__new__ compile cpython ctypes exec ftplib function.__new__ http imaplib import marshal nntplib os.chflags
    os.chmod os.chown os.exec os.fork os.kill os.link os.posix_spawn os.putenv os.spawn os.startfile os.symlink
    os.system os.truncate os.unsetenv pdb pickle.find_class poplib pty setopencodehook shutil signal smtplib socket
    sqlite3 subprocess sys.setprofile sys.settrace syslog telnetlib urllib webbrowser
""".split()
MOVING = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")  # only where files are kept between starts


def load(path: Path) -> str:
    """What a user who opens the file gets to see: 'loaded', or what goes wrong when what was loaded is used.

    Raises:
        CheckpointError, ClassifierError: the file is refused.
    """
    if path.suffix == ".control":  # shows that what is executed is noticed
        pickle.loads(path.read_bytes())
        return "loaded"
    if path.suffix == ".ckpt" or "classifier" in path.name:
        guide = classifier.load(str(path))
        guide.top(torch.zeros(1, 3, 32, 32))
        guide.index(guide.names[0])
        return "loaded"
    model = models.load(str(path))
    config, latents = model.generator.config, model.latents
    if latents.mean.shape != (config.w_dim,) or latents.factor.shape != (config.w_dim, config.w_dim):
        return f"unusable: latents of shapes {list(latents.mean.shape)}, {list(latents.factor.shape)}"
    if not latents.mean.isfinite().all() or not latents.factor.isfinite().all():
        return "unusable: latents that are not finite"
    ws = latents(torch.zeros(1, config.num_ws, config.w_dim))
    side = config.img_resolution
    if model.generator.suffix(None, ws, model.generator.noise_const(), 0).shape != (1, 3, side, side):
        return "unusable: a picture of another shape"
    try:
        preset_mask("eyes", 64, model.landmarks)
        for x, y in model.landmarks.values():
            if not (0 <= x <= 1 and 0 <= y <= 1):
                return "unusable: landmarks outside of the picture"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"unusable: landmarks that no mask can be made of ({type(error).__name__})"
    return "loaded"


def _status(name: str) -> int:
    """A size of this process in bytes, by its name in the kernel's account."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class _Watch:
    """Reports what the interpreter is asked to do and no reader should ask."""

    def __init__(self, pipe: int, folders: tuple[str, ...]):
        self.pipe, self.folders, self.on = pipe, folders, True

    def kept(self, path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return name in DEVICES or os.path.abspath(name).startswith(self.folders)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            wrong = bool((flags or 0) & WRITING) and not isinstance(path, int) and not self.kept(path)
        elif event in MOVING:
            wrong = not all(self.kept(a) for a in arguments if isinstance(a, (str, bytes)))
        else:
            wrong = event.startswith(tuple(FORBIDDEN))
        if wrong:
            self.on = False  # describing it may cause events itself
            self.report({"executed": f"{event} {ascii(arguments)[:200]}"})
            self.on = True

    def report(self, what: dict) -> None:
        os.write(self.pipe, (json.dumps(what) + "\n").encode())


def _child(path: Path, pipe: int, place: Path, seconds: int) -> None:
    """Loads one file and writes what became of it into the pipe."""
    os.chdir(place)
    output = os.open(place.parent / f"{place.name}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    room = _status("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # the peak begins anew
        Path("/proc/self/clear_refs").write_text("5")
    watch = _Watch(pipe, (os.environ["ILO_CACHE"],))
    sys.addaudithook(watch)
    before, shared, begin = _status("VmRSS"), _status("RssFile"), time.perf_counter()
    message = ""
    try:
        outcome = load(path)
    except (CheckpointError, ClassifierError) as error:
        outcome, message = "refused", str(error)
    except BaseException as error:
        outcome, message = f"other error: {type(error).__name__}", ascii(str(error)[:300])
    took = time.perf_counter() - begin
    watch.on = False
    # A fork has no pages of the libraries until it touches them; they are not what the file takes.
    grown = _peak() - before - max(0, _status("RssFile") - shared)
    watch.report(
        {
            "outcome": outcome,
            "message": message[:500].encode("ascii", "backslashreplace").decode(),
            "length": len(message),
            "printable": message.isprintable(),
            "seconds": round(took, 3),
            "cpu": round(time.process_time(), 3),
            "grown": grown,
        }
    )


def _start(path: Path, places: Path, number: int, seconds: int) -> dict:
    place = places / str(number)
    place.mkdir()
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reading)
            _child(path, writing, place, seconds)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    begin = time.perf_counter()
    return {"path": path, "number": number, "process": process, "pipe": reading, "place": place, "begin": begin, "text": b""}


def _finish(job: dict) -> dict:
    """What the child said, how it ended, and what it left behind."""
    status = os.waitpid(job["process"], 0)[1]
    os.close(job["pipe"])
    said: list[dict] = []
    for line in job["text"].decode().splitlines():
        with contextlib.suppress(ValueError):  # it was killed while it wrote
            said.append(json.loads(line))
    found = {"name": job["path"].name, "outcome": "", "executed": [], "message": ""}
    for part in said:
        if "executed" in part:
            found["executed"].append(part["executed"])
        else:
            found |= part
    if os.WIFSIGNALED(status):
        found["outcome"] = f"killed: {signal.Signals(os.WTERMSIG(status)).name}"
    elif not found["outcome"]:
        found["outcome"] = f"ended with {os.waitstatus_to_exitcode(status)}"
    found["executed"] += [f"left {left.name!r} behind" for left in job["place"].iterdir()]
    output = job["place"].parent / f"{job['place'].name}.out"
    if output.is_file():
        text = output.read_text(errors="replace")
        found["control"] = any(c != "\n" and c != "\t" and not c.isprintable() for c in text)
        found["printed"] = len(text)
        if "executed" in text:
            found["executed"].append("printed 'executed'")
        output.unlink()
    return {"wall": round(time.perf_counter() - job["begin"], 3), **found}


def warm(paths: list[Path]) -> None:
    """Loads some files first, so that nothing is imported or set up later."""
    torch.set_num_threads(1)  # a fork has one thread only
    for path in paths:
        with contextlib.suppress(CheckpointError, ClassifierError):
            load(path)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # what is free again must not hide what a child takes
        ctypes.CDLL(None).malloc_trim(0)


def serve(paths: list[str], limit: int) -> None:
    """Reports on every path, in that order."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder, selectors.DefaultSelector() as ready:
        waiting, running = deque(enumerate(paths)), []
        results: dict[int, dict] = {}
        shown = 0
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                number, path = waiting.popleft()
                job = _start(Path(path), Path(folder), number, limit)
                ready.register(job["pipe"], selectors.EVENT_READ, job)
                running.append(job)
            for key, _ in ready.select(1):
                job = key.data
                part = os.read(job["pipe"], 1 << 16)
                job["text"] += part
                if not part:
                    ready.unregister(job["pipe"])
                    running.remove(job)
                    results[job["number"]] = _finish(job)
            for job in running:
                if time.perf_counter() - job["begin"] > 3 * limit + 10:  # it sleeps, or waits for something
                    os.kill(job["process"], signal.SIGKILL)
            while shown in results:
                print(json.dumps(results.pop(shown)), flush=True)
                shown += 1


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hostile-cache-") as cache:
        os.environ["ILO_CACHE"] = os.path.abspath(cache)
        first = [Path(p) for p in os.environ.get("HOSTILE_WARM", "").split(os.pathsep) if p]
        limit = int(os.environ.get("HOSTILE_SECONDS", CPU_SECONDS))
        warm(first)
        for paths in [sys.argv[1:]] if len(sys.argv) > 1 else map(json.loads, sys.stdin):
            serve(paths, limit)


if __name__ == "__main__":
    main()
