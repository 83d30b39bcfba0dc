"""Downloads from a server on this machine, with all kinds of failures."""

import errno
import hashlib
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ilo.weights import cache, download, registry
from ilo.weights.download import DownloadError
from ilo.weights.registry import Entry, Hub, Url
from tests.weights.server import COMMIT, CONTENT, HASH, kept, known

ROOT = Path(__file__).parents[2]


def test_a_file_is_fetched_once_with_its_progress(server, entry):
    seen = []
    path = download.fetch(entry, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    asked = len(server.asked)
    assert download.fetch(entry) == path
    assert len(server.asked) == asked
    assert kept(entry) == ["thing.bin", "thing.bin.sha256"]


def test_the_first_hash_is_kept_and_later_files_must_have_it(server, entry):
    download.fetch(entry)
    assert (entry.path.parent / "thing.bin.sha256").read_text() == f"{HASH}  thing.bin\n"
    download.remove(entry)
    assert kept(entry) == ["thing.bin.sha256"]
    server.content = CONTENT[::-1]
    server.etag = f'"{hashlib.sha256(server.content).hexdigest()}"'
    with pytest.raises(DownloadError, match="not the expected file"):
        download.fetch(entry)
    assert kept(entry) == ["thing.bin.sha256"]


def test_a_wrong_hash_is_refused_before_the_file_has_its_name(server, entry):
    with pytest.raises(DownloadError, match=r"thing\.bin is not the expected file.* deleted"):
        download.fetch(replace(entry, sha256="0" * 64))
    assert kept(entry) == []
    assert download.fetch(known(entry)).read_bytes() == CONTENT


def test_the_beginning_of_a_hash_is_enough(server, entry):
    assert download.fetch(replace(entry, sha256=HASH[:8])).is_file()


def test_the_hash_that_the_hub_states_is_checked(server):
    server.etag = f'"{"ab" * 32}"'
    entry = Entry("t", "generator", "T", "t.bin", Hub("some/where", "file.bin", COMMIT, server.address), "free")
    with pytest.raises(DownloadError, match="abababab"):
        download.fetch(entry)


def test_a_broken_connection_goes_on_where_it_broke(server, entry):
    server.plan = ["break", "break"]
    assert download.fetch(known(entry)).read_bytes() == CONTENT
    ranges = [wanted for command, _, wanted in server.asked if command == "GET"]
    assert ranges[0] is None
    assert len(ranges) == 3
    assert all(int(wanted.strip("bytes=-")) > 0 for wanted in ranges[1:])


def test_a_new_version_on_the_server_is_not_mixed_with_a_part_of_the_old(server):
    entry = Entry("thing", "generator", "A thing", "thing.bin", Url(f"{server.address}/file"), "free")
    server.always = "break"
    server.plan = ["break", 404]
    with pytest.raises(DownloadError, match="404"):
        download.fetch(entry)
    assert kept(entry) == ["thing.bin.part", "thing.bin.part.etag"]
    server.always, server.content, server.etag = None, CONTENT[::-1], '"v2"'
    assert download.fetch(entry).read_bytes() == CONTENT[::-1]


def test_a_part_that_is_complete_or_too_long_is_begun_anew(server, monkeypatch):
    entry = Entry("thing", "generator", "A thing", "thing.bin", Url(f"{server.address}/file"), "free", sha256=HASH)
    entry.path.parent.mkdir()
    (entry.path.parent / "thing.bin.part").write_bytes(CONTENT)
    (entry.path.parent / "thing.bin.part.etag").write_text('"v1"')
    server.plan = [416]
    assert download.fetch(entry).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 .*no longer there"), (401, "401 .*login"), (403, "403 .*denied")]
)
def test_refusals_of_the_server_are_told_at_once(server, entry, status, words):
    server.always = status
    with pytest.raises(DownloadError, match=words) as told:
        download.fetch(entry)
    assert f"By hand: save {entry.source.address} as {entry.path}" in str(told.value)
    assert len(server.asked) <= 2


def test_a_faulty_server_is_asked_again(server):
    entry = Entry("thing", "generator", "A thing", "thing.bin", Url(f"{server.address}/file"), "free")
    server.plan = [500, 503]
    assert download.fetch(entry).is_file()
    download.remove(entry)
    server.always = 500
    with pytest.raises(DownloadError, match=r"answered 500 .*server error"):
        download.fetch(entry)


def test_a_server_that_stalls_is_given_up_and_the_part_is_kept(server, monkeypatch):
    monkeypatch.setattr(download, "STALL", 0.3)
    entry = Entry("thing", "generator", "A thing", "thing.bin", Url(f"{server.address}/file"), "free")
    server.always = "stall"
    server.content = CONTENT[:1_000_000]
    server.plan = ["stall", 500, 500, 500]
    with pytest.raises(DownloadError):
        download.fetch(entry)
    assert 0 < (entry.path.parent / "thing.bin.part").stat().st_size < len(server.content)
    server.plan, server.always = [], None
    assert download.fetch(entry).read_bytes() == server.content

    silent = socket.create_server(("127.0.0.1", 0))  # accepts connections and never answers
    mute = replace(entry, id="mute", file="mute.bin", source=Url(f"http://127.0.0.1:{silent.getsockname()[1]}/x"))
    with pytest.raises(DownloadError, match=r"sent nothing for .* the next attempt continues"):
        download.fetch(mute)
    silent.close()


@pytest.mark.parametrize("kind", ["url", "hub"])
def test_no_server_and_no_name(server, kind):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for address, words in ((f"http://127.0.0.1:{port}", "cannot be reached"), ("http://no.such.invalid", "not found")):
        source = Url(f"{address}/file") if kind == "url" else Hub("some/where", "file.bin", COMMIT, address)
        with pytest.raises(DownloadError, match=words):
            download.fetch(Entry("thing", "generator", "A thing", "thing.bin", source, "free"))


def test_a_full_disk_is_told_before_and_while_it_fills(server, entry, monkeypatch):
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
        with pytest.raises(DownloadError, match=r"the disk is full .*3 MB are needed and 1 MB are free"):
            download.fetch(entry)
    assert kept(entry) == []

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 1_000_000

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    opened = Path.open

    def opening(path, mode="r", *args, **kwargs):
        file = opened(path, mode, *args, **kwargs)
        return Full(file) if "b" in mode and ("a" in mode or "w" in mode) else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opening)
        with pytest.raises(DownloadError, match=r"the disk is full .*Make room"):
            download.fetch(entry)
    assert download.fetch(entry).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_names_the_variable(server, entry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DownloadError, match=r"cannot be written. Set ILO_CACHE"):
        download.fetch(entry)

    def refused(*args, **kwargs):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "read-only"))
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(DownloadError, match=r"cannot be written. Set ILO_CACHE"):
        download.fetch(entry)


def test_a_file_in_a_read_only_cache_can_be_used(server, entry, monkeypatch):
    download.fetch(entry)
    (entry.path.parent / "thing.bin.sha256").unlink()

    def refused(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refused)
    assert download.checked(entry).read_bytes() == CONTENT


@pytest.mark.parametrize("switch", download.OFFLINE)
def test_downloads_can_be_switched_off(server, entry, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    with pytest.raises(DownloadError, match=f"{switch} forbids downloads. By hand: save http.* as .*thing.bin"):
        download.fetch(entry)
    assert server.asked == []


def test_a_file_put_there_by_hand_is_checked_once(server, entry):
    entry = known(entry)
    entry.path.parent.mkdir()
    entry.path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="is not the expected file"):
        download.checked(entry)
    entry.path.write_bytes(CONTENT)
    assert download.fetch(entry) == entry.path
    assert server.asked == []
    assert kept(entry) == ["thing.bin", "thing.bin.sha256"]


def test_verify_reads_the_file_again(server, entry):
    download.fetch(entry)
    assert download.verify(entry) == HASH
    with entry.path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with pytest.raises(DownloadError, match="models remove thing, then fetch thing"):
        download.verify(entry)


def test_a_file_that_was_changed_or_put_in_place_of_a_removed_one_is_checked_again(server, entry, monkeypatch):
    path = download.fetch(entry)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "sha256", None)
        assert download.checked(entry) == path  # known since it was fetched
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DownloadError, match="is not the expected file"):
        download.checked(entry)
    download.remove(entry)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(DownloadError, match="is not the expected file"):
        download.checked(entry)
    path.write_bytes(CONTENT)
    assert download.checked(entry) == path


def test_a_generator_is_removed_with_what_was_made_of_it(server, entry):
    path = download.fetch(entry)
    made = [path.parent / f"{HASH}{end}" for end in (".safetensors", ".latents.safetensors")]
    for file in made:
        file.touch()
    assert set(download.remove(entry)) == {path, *made}
    assert kept(entry) == ["thing.bin.sha256"]


def test_an_empty_hash_file_is_as_none(server, entry):
    path = download.fetch(entry)
    (path.parent / "thing.bin.sha256").write_text("")
    assert download.verify(entry) == HASH
    assert (path.parent / "thing.bin.sha256").read_text().startswith(HASH)


def test_the_embedded_models_are_not_removed():
    with pytest.raises(DownloadError, match="part of the studio"):
        download.remove(registry.BY_ID["faces64"])


CHILD = """
import sys
from ilo.weights import download
from ilo.weights.registry import Entry, Hub, Url
kind, address, commit = sys.argv[1:]
source = Url(address + "/file") if kind == "Url" else Hub("some/where", "file.bin", commit, address)
entry = Entry("thing", "generator", "A thing", "thing.bin", source, "free")
print("ready", flush=True)
def tell(done, total):
    print(done, flush=True)
path = download.fetch(entry, tell, lambda sentence: print(sentence, flush=True))
print("fetched", path.stat().st_size, flush=True)
"""


def child(entry, server):
    arguments = [sys.executable, "-c", CHILD, type(entry.source).__name__, server.address, COMMIT]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def test_two_processes_fetch_a_file_once(server, entry):
    server.always = "slow"
    both = [child(entry, server) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert all(f"fetched {len(CONTENT)}" in output for output in outputs), outputs
    assert sum(command == "GET" for command, *_ in server.asked) == 1
    assert entry.path.read_bytes() == CONTENT


def test_a_killed_download_is_resumed(server, entry):
    server.always = "slow"
    process = child(entry, server)
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= (1 << 20):
            process.send_signal(signal.SIGKILL)
            break
        if line.strip() == "0":
            with pytest.raises(DownloadError, match="thing is being downloaded; wait for"):
                download.remove(entry)
    process.wait(timeout=20)
    assert not entry.path.exists()
    server.always, server.asked[:] = None, []
    seen = []
    download.fetch(known(entry), lambda done, total: seen.append(done))
    assert entry.path.read_bytes() == CONTENT
    assert [wanted for command, _, wanted in server.asked if command == "GET"] != [None]
    assert seen[0] > 0
