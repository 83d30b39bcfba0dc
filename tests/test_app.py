"""The entry point: its arguments, and its messages when it cannot start."""

import socket

import pytest

import app


def test_it_listens_at_home_only_unless_it_is_a_space(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    options = app.arguments([])
    assert (options.host, options.port, options.share, options.model) == ("127.0.0.1", 7860, False, ["faces64"])
    monkeypatch.setenv("SPACE_ID", "someone/ilo-studio")
    assert app.arguments([]).host == "0.0.0.0"
    assert app.arguments(["--host", "127.0.0.1"]).host == "127.0.0.1"


def test_a_model_that_is_missing_or_broken_gives_one_line_and_code_2(root, tmp_path, capsys):
    (tmp_path / "cut.safetensors").write_bytes((root / "assets" / "faces64.safetensors").read_bytes()[:1000])
    for name in ("nothing", str(tmp_path / "none.safetensors"), str(tmp_path / "cut.safetensors")):
        assert app.main(["--model", name]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_operator_module_that_cannot_be_used_gives_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / "own.py").write_text("x = 1")
    for file in ("own.py", "nowhere.py"):
        assert app.main(["--operator-module", str(tmp_path / file)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_port_that_is_taken_gives_one_line_and_code_2(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert app.main(["--port", str(taken.getsockname()[1])]) == 2
    assert "port" in capsys.readouterr().err


def test_it_stays_short(root):
    assert len((root / "app.py").read_text().splitlines()) <= 60


def test_a_space_sets_the_most_steps_by_a_variable(monkeypatch, capsys):
    monkeypatch.setenv("ILO_MAX_STEPS", "300")
    assert app.arguments([]).max_steps == 300
    assert app.arguments(["--max-steps", "40"]).max_steps == 40
    monkeypatch.setenv("ILO_MAX_STEPS", "many")
    with pytest.raises(SystemExit) as ended:
        app.arguments([])
    assert ended.value.code == 2
    assert "invalid int value: 'many'" in capsys.readouterr().err
