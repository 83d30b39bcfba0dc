"""Check for every supported Python on this machine whether the packages can be installed and the code compiles.

    python tests/interpreters.py resolve   # requirements-dev.txt with constraints.txt; nothing is installed
    python tests/interpreters.py compile   # the syntax of every file
    python tests/interpreters.py pin       # rewrite constraints.txt with the newest versions

The pip of the Python that runs this script resolves the packages; the others need no pip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
CODE = ("app.py", "ilo", "benchmarks", "training", "tests")
HEADER = """\
# The versions that the tests run with: the newest of every package, for each Python that is supported.
# `make pins` writes this file anew; all interpreters have to be on the machine.
"""


def find(version: str) -> str | None:
    """The interpreter of a version: the one running this script, one on the path, or pyenv's newest."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/python3"), key=lambda p: int("0" + p.parts[-3].split(".")[2]))
    for path in (sys.executable, shutil.which(f"python{version}"), *map(str, reversed(kept))):
        if path and _version(path) == version:
            return path
    return None


def _version(path: str) -> str:
    """The version that an interpreter reports; pyenv's shim fails for a version that is not selected."""
    asked = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _pip(python: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Resolve the requirements for another Python, from wheels only; only their metadata is downloaded."""
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "-r", "requirements-dev.txt", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def resolve(python: str) -> str:
    """Check whether the requirements can be installed. Returns pip's error, or an empty string."""
    done = _pip(python, "-c", "constraints.txt")
    return done.stderr if done.returncode else ""


def compiles(python: str) -> str:
    """Check whether every file compiles, writing nothing. Returns the compiler's error, or an empty string."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        command = [python, "-m", "compileall", "-q", *CODE]
        done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def check(what: Callable[[str], str], done: str) -> int:
    """Check all interpreters in parallel and print a line for each. Returns 1 if one fails."""
    begun = time.monotonic()
    with ThreadPoolExecutor() as pool:
        pythons = {version: find(version) for version in VERSIONS}
        problems = {version: pool.submit(what, python) for version, python in pythons.items() if python}
        for version in VERSIONS:
            if version not in problems:
                print(f"Python {version}: not on this machine, left out")
            elif problem := problems[version].result():
                print(f"Python {version}: failed\n{problem}")
            else:
                print(f"Python {version}: {done} ({time.monotonic() - begun:.0f} s)")
    return int(any(problem.result() for problem in problems.values()))


def pin() -> int:
    """Write the newest versions to the constraints file. Returns 1 if a Python is missing or fails."""
    found: dict[str, dict[str, str]] = {}
    for version in VERSIONS:
        python = find(version)
        if python is None:
            print(f"Python {version} is not on this machine; it is needed.")
            return 1
        done = _pip(python, "--report", "-")
        if done.returncode:
            print(f"Python {version}: failed\n{done.stderr}")
            return 1
        for package in json.loads(done.stdout)["install"]:
            about = package["metadata"]
            found.setdefault(about["name"].lower().replace("_", "-"), {})[version] = about["version"]
    lines = [line for name in sorted(found) for line in _pins(name, found[name])]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return 0


def _pins(name: str, versions: dict[str, str]) -> list[str]:
    """The lines for one package: a single one if all Pythons that need it use the same version."""
    if len(set(versions.values())) == 1:
        return [f"{name}=={next(iter(versions.values()))}"]
    lines = []
    for taken in dict.fromkeys(versions.values()):
        pythons = [python for python, version in versions.items() if version == taken]
        first, last = pythons[0], pythons[-1]
        bounds = [f'python_version >= "{first}"'] if first != VERSIONS[0] else []
        bounds += [f'python_version <= "{last}"'] if last != VERSIONS[-1] else []
        lines.append(f"{name}=={taken}; " + (" and ".join(bounds) if first != last else f'python_version == "{first}"'))
    return lines


if __name__ == "__main__":
    commands: dict[str, Callable[[], int]] = {
        "resolve": lambda: check(resolve, "the packages can be installed"),
        "compile": lambda: check(compiles, "the code compiles"),
        "pin": pin,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"{__doc__}")
    sys.exit(commands[sys.argv[1]]())
