"""Load weights files as a user would, in disposable processes, and report the outcome of each.

    python -m tests.hostile_run FILE…    (without files: each line of standard input is a JSON list of paths)

The output is one line of JSON per file, in order. A warmed-up parent forks, and a child loads files until one of them
leaves traces in the process, so hundreds of files take seconds.
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
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import torch

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ClassifierError
from ilo.photos.masks import preset_mask
from ilo.priors import load as models
from ilo.priors.stylegan2.checkpoint import CheckpointError

CPU_SECONDS = 20  # CPU time after which a child is stopped
ADDRESSES = 3 << 30  # bytes of address space that a child may use in addition to its parent's
AT_ONCE = 2
CHUNK = 25  # maximum number of files per child, if they leave no traces
MUCH = 32 << 20  # bytes; a child that used more loads no further files
DEVICES = ("/dev/null", "/dev/tty")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Prefixes of the interpreter's audit events that reading numbers from a file must not cause.
FORBIDDEN = (
    "code.__new__", "compile", "cpython", "ctypes", "exec", "ftplib", "function.__new__", "http", "imaplib", "import",
    "marshal", "nntplib", "os.chflags", "os.chmod", "os.chown", "os.exec", "os.fork", "os.kill", "os.link",
    "os.posix_spawn", "os.putenv", "os.spawn", "os.startfile", "os.symlink", "os.system", "os.truncate",
    "os.unsetenv", "pdb", "pickle.find_class", "poplib", "pty", "setopencodehook", "shutil", "signal", "smtplib",
    "socket", "sqlite3", "subprocess", "sys.setprofile", "sys.settrace", "syslog", "telnetlib", "urllib",
    "webbrowser",
)  # fmt: skip
MOVING = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")  # only where files are kept between starts


def load(path: Path) -> str:
    """Load and use a file. Returns 'loaded', or what goes wrong when the loaded model is used.

    Raises:
        CheckpointError, ClassifierError: the file is refused.
    """
    if path.suffix == ".control":  # shows that executed code is detected
        pickle.loads(path.read_bytes())
        return "loaded"
    if path.suffix == ".ckpt" or "classifier" in path.name:
        guide = classifier.load(str(path))
        guide.top(torch.zeros(1, 3, 32, 32))
        shown = "".join(name for synonyms in guide.synonyms for name in synonyms)
        return "loaded" if shown.isprintable() else "unusable: names that cannot be shown"
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
    """A size of this process in bytes, by its name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class _Watch:
    """Reports audit events that no reader should cause."""

    folders: tuple[str, ...] = ()  # folders in which files may be written

    def __init__(self, pipe: int, seconds: int):
        self.pipe, self.seconds = pipe, seconds
        self.on = self.seen = False

    def kept(self, path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return name in DEVICES or os.path.abspath(name).startswith(self.folders)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            wrong = bool((flags or 0) & WRITING) and not isinstance(path, int) and not self.kept(path)
        elif event in MOVING:
            wrong = not all(self.kept(a) for a in arguments if isinstance(a, (str, bytes)))
        else:
            wrong = event.startswith(FORBIDDEN)
        if wrong:
            self.on, self.seen = False, True  # describing it may cause events itself
            self.report({"executed": [f"{event} {ascii(arguments)[:200]}"]})
            self.on = True

    def report(self, what: dict) -> None:
        os.write(self.pipe, (json.dumps(what) + "\n").encode())


def _try(path: Path, watch: _Watch, output: Path) -> dict:
    """Load one file with an empty cache. Returns the outcome."""
    os.ftruncate(1, 0)
    cache = output.with_name(f"{output.stem}-{path.name}.cache")
    os.environ["ILO_CACHE"], watch.folders = str(cache), (str(cache),)
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + watch.seconds, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError):  # reset the peak memory
        Path("/proc/self/clear_refs").write_text("5")
    before, shared, begin, worked = _status("VmRSS"), _status("RssFile"), time.perf_counter(), time.process_time()
    message = ""
    watch.on = True
    try:
        outcome = load(path)
    except (CheckpointError, ClassifierError) as error:
        outcome, message = "refused", str(error)
    except BaseException as error:
        outcome, message = f"other error: {type(error).__name__}", ascii(str(error)[:300])
    finally:
        watch.on = False
    # A fork maps the libraries' pages when it first uses them; these do not count as memory used by the file.
    grown = _peak() - before - max(0, _status("RssFile") - shared)
    printed = output.read_text(errors="replace")
    shutil.rmtree(cache, ignore_errors=True)
    return {
        "outcome": outcome,
        "message": message[:500].encode("ascii", "backslashreplace").decode(),
        "length": len(message),
        "printable": message.isprintable(),
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu": round(time.process_time() - worked, 3),
        "grown": grown,
        "control": any(c not in "\n\t" and not c.isprintable() for c in printed),
        "executed": ["printed 'executed'"] * ("executed" in printed)
        + [f"left {name!r} behind" for name in os.listdir()],
    }


def _child(paths: list[Path], pipe: int, place: Path, seconds: int) -> None:
    """Load files and write their outcomes to the pipe, until one of them leaves traces in the process."""
    os.chdir(place)
    output = place.with_suffix(".out")
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    room = _status("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = _Watch(pipe, seconds)
    sys.addaudithook(watch)
    for path in paths:
        watch.report({"begin": path.name})
        found = _try(path, watch, output)
        watch.report(found)
        if watch.seen or found["executed"] or found["grown"] > MUCH or found["outcome"].startswith("other"):
            return
        _tidy()


def _tidy() -> None:
    """Return free memory to the system, so that the memory use of the next file is visible."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Job:
    """A child process with files to load; files that it does not reach are loaded by another child."""

    def __init__(self, numbers: list[int], paths: list[Path], place: Path, seconds: int):
        self.numbers, self.paths, self.text, self.heard = numbers, paths, b"", time.perf_counter()
        place.mkdir()
        self.pipe, writing = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            code = 1
            try:
                os.close(self.pipe)
                _child(paths, writing, place, seconds)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)

    def hear(self) -> bool:
        """Whether the child is still there."""
        part = os.read(self.pipe, 1 << 16)
        self.text, self.heard = self.text + part, time.perf_counter()
        return bool(part)

    def finish(self) -> dict[int, dict]:
        """Outcomes of the files that it reached, by number."""
        status = os.waitpid(self.process, 0)[1]
        os.close(self.pipe)
        found: list[dict] = []
        for line in self.text.decode().splitlines():
            with contextlib.suppress(ValueError):  # it was killed while writing
                part = json.loads(line)
                if "begin" in part:
                    found.append({"name": part["begin"], "outcome": "", "executed": [], "message": ""})
                else:
                    found[-1] |= {**part, "executed": found[-1]["executed"] + part["executed"]}
        if not found or (status and found[-1]["outcome"]):  # before or between files
            raise RuntimeError(f"a child ended with {status} on its own")
        if os.WIFSIGNALED(status):
            found[-1]["outcome"] = f"killed: {signal.Signals(os.WTERMSIG(status)).name}"
        elif not found[-1]["outcome"]:
            found[-1]["outcome"] = f"ended with {os.waitstatus_to_exitcode(status)}"
        return dict(zip(self.numbers, found, strict=False))


def warm(paths: list[Path]) -> None:
    """Load some files first, so that nothing is imported or set up later."""
    torch.set_num_threads(1)  # a fork has only one thread
    for path in paths:
        with contextlib.suppress(CheckpointError, ClassifierError):
            load(path)
    _tidy()
    gc.freeze()


def serve(paths: list[str], limit: int) -> None:
    """Report on every path, in order."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder, selectors.DefaultSelector() as ready:
        waiting = deque(range(len(paths)))
        results: dict[int, dict] = {}
        running: list[_Job] = []
        shown = started = 0
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                numbers = [waiting.popleft() for _ in range(min(CHUNK, len(waiting)))]
                job = _Job(numbers, [Path(paths[n]) for n in numbers], Path(folder) / str(started), limit)
                started += 1
                ready.register(job.pipe, selectors.EVENT_READ, job)
                running.append(job)
            for key, _ in ready.select(1):
                job = key.data
                if not job.hear():
                    ready.unregister(job.pipe)
                    running.remove(job)
                    found = job.finish()
                    results |= found
                    waiting.extendleft(reversed(job.numbers[len(found) :]))
            for job in running:
                if time.perf_counter() - job.heard > 3 * limit + 10:  # it sleeps or blocks
                    os.kill(job.process, signal.SIGKILL)
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
