"""Versions stated in several places agree."""

import re

import pytest
from packaging.requirements import Requirement

from tests import interpreters

ZEROGPU = ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0")  # torch, as of September 2026


def lines(path):
    return [Requirement(line) for line in path.read_text().splitlines() if line and line[0] not in "#-"]


@pytest.fixture(scope="module")
def ranges(root):
    return {wanted.name: wanted.specifier for wanted in lines(root / "requirements.txt")}


def test_a_space_takes_the_gradio_of_the_tests(root, ranges):
    (version,) = re.findall(r"(?m)^sdk_version: (\S+)$", (root / "README.md").read_text())
    (pinned,) = [str(wanted.specifier) for wanted in lines(root / "constraints.txt") if wanted.name == "gradio"]
    assert pinned == f"=={version}"
    assert version in ranges["gradio"]


def test_a_space_takes_a_torch_that_zerogpu_accepts(root, ranges):
    taken = {wanted.name: str(wanted.specifier)[2:] for wanted in lines(root / "pre-requirements.txt")}
    assert taken["torch"] in ZEROGPU
    assert all(version in ranges[name] for name, version in taken.items())


@pytest.mark.parametrize("python", interpreters.VERSIONS)
def test_every_python_has_one_version_of_a_package(root, ranges, python):
    asked = {"python_version": python}
    taken = [wanted for wanted in lines(root / "constraints.txt") if not wanted.marker or wanted.marker.evaluate(asked)]
    assert len({wanted.name for wanted in taken}) == len(taken)
    versions = {wanted.name: str(wanted.specifier)[2:] for wanted in taken}
    assert all(versions[name.replace("_", "-")] in allowed for name, allowed in ranges.items())


@pytest.mark.parametrize(
    ("versions", "written"),
    [
        (["1", "1", "1", "1"], ["x==1"]),
        (["1", "2", "2", "2"], ['x==1; python_version == "3.10"', 'x==2; python_version >= "3.11"']),
        (["1", "1", "2", "3"], ['x==1; python_version <= "3.11"', 'x==2; python_version == "3.12"',
                                'x==3; python_version == "3.13"']),
        (["1", "2", "2", "3"], ['x==1; python_version == "3.10"',
                                'x==2; python_version >= "3.11" and python_version <= "3.12"',
                                'x==3; python_version == "3.13"']),
    ],
)  # fmt: skip
def test_pins_are_written_for_ranges_of_pythons(versions, written):
    assert interpreters._pins("x", dict(zip(interpreters.VERSIONS, versions, strict=True))) == written


def test_what_is_missing_is_left_out_and_what_fails_is_told(monkeypatch, capsys):
    monkeypatch.setattr(interpreters, "find", {"3.10": "old", "3.11": "good", "3.12": "bad"}.get)
    assert interpreters.check(lambda python: "it does not work" if python == "bad" else "", "it works") == 1
    assert capsys.readouterr().out.splitlines() == [
        "Python 3.10: it works (0 s)",
        "Python 3.11: it works (0 s)",
        "Python 3.12: failed",
        "it does not work",
        "Python 3.13: not on this machine, left out",
    ]


def test_what_the_documents_import_is_there(root):
    documents = (root / "README.md").read_text() + (root / "docs" / "python.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", documents, re.S))
    lines = re.findall(r"(?m)^(?:from ilo|import ilo).*$", code)
    assert len(lines) >= 7  # two in the README, five in docs/python.md
    for line in lines:
        exec(line, {})
