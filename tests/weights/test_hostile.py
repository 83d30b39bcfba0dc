"""Hostile weights files: refused with one sentence, quickly and in little memory, without executing code."""

import builtins
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import BOMBS, FAMILIES, GENUINE, HARMLESS
from tests.priors.test_published import Call

CPU_SECONDS = 6  # a file that takes longer is stopped
ALLOWED_SECONDS = 5
MOST_MEMORY = 64 << 20  # beyond twice the file's size
LONGEST_MESSAGE = 400
SHOWN = 60  # violations of a family


@pytest.fixture(scope="module")
def runner(tmp_path_factory, root):
    """A process that loads each file in a fork of itself and reports the outcomes."""
    folder = tmp_path_factory.mktemp("genuine")
    for name, write in GENUINE.items():
        write(folder / name)
    (folder / "empty.ckpt").write_bytes(b"")
    environment = {**os.environ, "HOSTILE_SECONDS": str(CPU_SECONDS)}
    environment["HOSTILE_WARM"] = os.pathsep.join(map(str, sorted(folder.glob("*.*"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile_run"],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(paths: list[Path]) -> list[dict]:
        process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in paths]
        assert all(lines), "the runner ended"
        results = [json.loads(line) for line in lines]
        assert [result["name"] for result in results] == [path.name for path in paths]
        return results

    yield run
    process.stdin.close()
    assert process.wait(60) == 0


def _size(path: Path) -> int:
    """Size of a file and of the files written beside it."""
    beside = path.with_suffix(".latents.safetensors")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _violations(result: dict, size: int, harmless: bool) -> list[str]:
    """Descriptions of everything forbidden that loading a file did."""
    found = [f"EXECUTED {event}" for event in result["executed"]]
    outcome = result["outcome"]
    if outcome != "refused" and not (harmless and outcome == "loaded"):
        found.append(f"{outcome} {result['message'][:100]}".strip())
    if result.get("grown", 0) > 2 * size + MOST_MEMORY:
        found.append(f"took {result['grown'] >> 20} MB for a file of {size / 2**20:.1f} MB")
    # CPU time, not wall-clock time, because other programs may be running.
    if result.get("cpu", 0) > ALLOWED_SECONDS:
        found.append(f"took {result['cpu']:.1f} s")
    if outcome == "refused" and result["length"] > LONGEST_MESSAGE:
        found.append(f"a message of {result['length']} characters")
    if outcome == "refused" and not result["printable"]:
        found.append(f"a message that cannot be shown: {result['message'][:100]!r}")
    if result.get("control"):
        found.append("control characters on the terminal")
    return found


def test_there_are_enough_of_them():
    assert len(BOMBS) >= 400
    assert len(BOMBS) == sum(len(table) for table, _ in FAMILIES.values())  # no name twice


def test_genuine_files_load(runner, tmp_path):
    paths = [tmp_path / name for name in GENUINE]
    for path in paths:
        GENUINE[path.name](path)
    wrong = {}
    for path, result in zip(paths, runner(paths), strict=True):
        found = _violations(result, path.stat().st_size, True)
        if found or result["outcome"] != "loaded":
            wrong[path.name] = found or [f"{result['outcome']}: {result['message']}"]
    assert wrong == {}


@pytest.mark.parametrize(
    "value",
    [
        Call(os.system, "touch executed"),
        Call(builtins.eval, "open('executed', 'w')"),
        Call(builtins.exec, "pass"),
        Call(subprocess.call, ["true"]),
        Call(__import__, "antigravity"),
        Call(print, "executed"),
        Call(os.mkdir, "executed"),
        Call(pickle.loads, pickle.dumps(os.getcwd)),
        Call(os.getcwd),  # harmless, but it imports a name
    ],
    ids=lambda value: value.what.__name__,
)
def test_what_runs_is_noticed(runner, tmp_path, value):
    path = tmp_path / "x.control"
    path.write_bytes(pickle.dumps(value))
    (result,) = runner([path])
    assert result["executed"]


@pytest.mark.timeout(1500)  # with readers that take all of it, hundreds of times
@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_files_do_no_harm(runner, tmp_path, family):
    names = [name for name in BOMBS if name.startswith(f"{family}-")]
    wrong = {}
    for begin in range(0, len(names), 50):  # number of files on the disk at the same time
        paths = [tmp_path / name for name in names[begin : begin + 50]]
        for path in paths:
            BOMBS[path.name](path)
        sizes = [_size(path) for path in paths]
        for path, size, result in zip(paths, sizes, runner(paths), strict=True):
            if found := _violations(result, size, path.name in HARMLESS):
                wrong[path.name] = found
        for path in tmp_path.iterdir():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    shown = [f"{name}: {'; '.join(found)}" for name, found in list(wrong.items())[:SHOWN]]
    assert not wrong, f"{len(wrong)} of {len(names)} files:\n" + "\n".join(shown)
