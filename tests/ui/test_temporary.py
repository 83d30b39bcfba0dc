"""The page's temporary folder: it is deleted however the page ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits

HOLD = """
import time
from ilo.ui.visitors import temporary
with temporary.files() as folder:
    (folder / "visitor.png").write_text("a face")
    print(folder, flush=True)
    time.sleep(60)
"""


def holding(parent):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, temporary.FOLDER: str(parent)},
    )
    return process, Path(process.stdout.readline().strip())


def test_it_is_there_while_a_page_is_served(tmp_path, monkeypatch):
    monkeypatch.setenv(temporary.FOLDER, str(tmp_path))
    with temporary.files() as folder:
        assert folder.parent == tmp_path
        assert os.environ[temporary.FOLDER] == str(folder)
        assert temporary.outside()[temporary.FOLDER] == str(tmp_path)
        (folder / "visitor.png").write_text("a face")
    assert list(tmp_path.iterdir()) == []
    assert os.environ[temporary.FOLDER] == str(tmp_path)
    monkeypatch.delenv(temporary.FOLDER)
    assert temporary.FOLDER not in temporary.outside()


def test_what_is_written_again_is_not_deleted(tmp_path):
    once, again = tmp_path / "once.png", tmp_path / "again.png"
    for path in (once, again, tmp_path / "never.png"):
        if path.stem != "never":
            path.write_text("a face")
        temporary.delete_later(path, 0.1, Limits())
    temporary.tidy(tmp_path, Limits())
    assert once.exists() is again.exists() is True
    again.write_text("the same from somebody else")
    time.sleep(0.2)
    temporary.tidy(tmp_path, Limits())
    assert not once.exists()
    assert again.exists()


def test_what_a_killed_page_left_is_deleted_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / f"{temporary.PREFIX}notes").mkdir()
    alive, other = holding(tmp_path)
    killed, left = holding(tmp_path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "visitor.png").exists()
        monkeypatch.setenv(temporary.FOLDER, str(tmp_path))
        with temporary.files():
            assert not left.exists()
            assert (other / "visitor.png").exists()
            assert (tmp_path / f"{temporary.PREFIX}notes").is_dir()
    finally:
        alive.kill()
        alive.wait()
