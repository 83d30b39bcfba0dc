"""User-defined operators: one file is enough, and mistakes get a one-line message."""

import ast
import json
import re
from importlib import metadata
from pathlib import Path

import gradio as gr
import pytest
import torch

from ilo.cli import main as cli
from ilo.cli import options as cli_options
from ilo.cli import tasks as cli_tasks
from ilo.methods import preset
from ilo.operators import OPERATORS, Operator, Setting, build, own, register
from ilo.records.recipe import Shared
from ilo.settings import SettingsError
from ilo.ui import examples
from ilo.ui.parts import controls, painter, tasks
from ilo.ui.studio.handlers import Studio
from tests.machines import plain_runs

FILE = Path(__file__).parent / "channel_mix.py"


@pytest.fixture(autouse=True)
def registry():
    """Undoes a test's registrations afterwards."""
    before = dict(OPERATORS)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


@pytest.fixture
def channel_mix():
    (kind,) = own.load_file(FILE)
    return kind


# One file is enough for an operator.


def test_it_can_be_built(channel_mix):
    x = torch.rand(1, 3, 8, 8)
    mixed = build("channel-mix", 8, direction="left")
    torch.testing.assert_close(mixed(x)[:, 0], 0.75 * x[:, 0] + 0.25 * x[:, 1])
    torch.testing.assert_close(mixed.adjoint(x)[:, 1], 0.75 * x[:, 1] + 0.25 * x[:, 0])
    assert mixed.settings() == {"amount": 0.25, "direction": "left"}
    with pytest.raises(SettingsError, match="amount must be a number from 0 to 1, not 2"):
        build("channel-mix", 8, amount=2)
    with pytest.raises(SettingsError, match="does not know the setting sigma; it has amount, direction"):
        build("channel-mix", 8, sigma=2)


def test_the_command_line_lists_solves_and_replays_it(photo, tmp_path, capsys):
    module = ["--operator-module", str(FILE)]
    assert cli.main(["tasks", *module]) == 0
    said = capsys.readouterr().out
    assert "channel-mix" in said
    assert re.search(r"--amount +a: how much of the other colour there is \(0 to 1, default 0.25\)", said)
    assert cli.main(["solve", "--help", *module]) == 0
    assert "--direction NAME" in capsys.readouterr().out

    run = tmp_path / "run"
    own_options = ["--task", "channel-mix", "--amount", "0.5", "--direction", "left", "--steps", "1"]
    assert cli.main(["solve", str(photo), "--out", str(run), *own_options, *module]) == 0
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["operator"] == {"amount": 0.5, "direction": "left"}
    del OPERATORS["channel-mix"]
    capsys.readouterr()
    assert cli.main(["replay", str(run)]) == 2
    assert "task is 'channel-mix', which the studio does not know" in capsys.readouterr().err
    assert cli.main(["replay", str(run), *module]) == 0
    assert "byte for byte" in capsys.readouterr().out

    for wrong in (["--amount", "much"], ["--amount", "2"], ["--direction", "up"], ["--sigma", "1"]):
        assert cli.main(["solve", str(photo), "--out", str(tmp_path / "no"), *own_options, *wrong, *module]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("channel_mix")
def test_the_page_has_its_controls_and_solves_it(model, tmp_path):
    with gr.Blocks(analytics_enabled=False):
        found = {name: made for name, made in tasks.controls(64).items() if name.startswith("channel-mix.")}
    amount, direction = found["channel-mix.amount"], found["channel-mix.direction"]
    assert (amount.minimum, amount.maximum, amount.value, amount.step) == (0, 100, 25, 5)
    assert amount.label == "Mixed, %"
    assert direction.choices == [("Next", "right"), ("Last", "left")]
    assert ".for-channel-mix" in tasks.style()

    studio = Studio(model, examples.load(), plain_runs(model), tmp_path)
    values = {
        "source": None, "painter": painter.first_value(model, studio.examples[0].name), "truth": "here",
        "task": "channel-mix", "method": "ilo", "preset": "Quick", "seed": 0, "channel-mix.amount": 50,
        "channel-mix.direction": "left", **controls.fields_of(preset(), 5), "rounds": 1, "0.steps": 2,
    }  # fmt: skip
    order, _ = studio.order(values)
    assert order.problem.operator.settings() == {"amount": 0.5, "direction": "left"}
    *_, last = studio.run(values, "s")
    assert "compare-cut" in last[0]
    studio.runs.close()


@pytest.mark.usefixtures("channel_mix")
def test_a_link_carries_it(model):
    shared = Shared.from_query('task=channel-mix&operator={"amount":0.5}', model)
    assert tasks.shown_values(shared.task, shared.operator) == {"channel-mix.amount": 50}
    with pytest.raises(SettingsError, match="does not know the setting speed"):
        Shared.from_query('task=channel-mix&operator={"speed":1}', model)


def test_an_installed_package_brings_its_operators(monkeypatch, capsys):
    class Entry:
        value = "their_operators"

        def load(self):
            own.load_file(FILE)

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Entry()] if group == "ilo.operators" else [])
    assert cli.main(["tasks"]) == 0
    assert "channel-mix" in capsys.readouterr().out
    monkeypatch.setattr(Entry, "load", lambda self: 1 / 0)
    assert cli.main(["tasks"]) == 2
    assert "their_operators of an installed package cannot be imported (ZeroDivisionError" in capsys.readouterr().err


# Mistakes get a one-line message.

HEAD = """
import ilo
from ilo import Setting

@ilo.register
class Own(ilo.Operator):
    name, title, formula = "own", "Own", "y = x"
    def forward(self, x):
        return x
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "registers no operator; put @register above its operator class"),
        ("def broken(:", "cannot be imported (SyntaxError"),
        ("import nothing_of_the_kind", "cannot be imported (ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be imported (SystemExit"),
        ("x = 1\0", "cannot be imported"),
        (HEAD.replace('"own", ', '"", '), "has no name"),
        (HEAD.replace('"own", ', '"Own One", '), "small letters"),
        (HEAD.replace('"own", ', '"morph", '), "other than morph"),
        (HEAD.replace('"own", ', '"denoise", '), "'denoise' belongs to Denoise"),
        (f"{HEAD}    gain: float = Setting.number(1.0, 2.0, 0.0, label='Gain', help='G.')", "low 2 above high 0"),
        (
            f"{HEAD}    gain: float = Setting.number(3.0, 0.0, 2.0, label='Gain', help='G.')",
            "gain must be a number",
        ),
        (f"{HEAD}    gain: float = Setting.number(None, 0.0, 2.0, label='Gain', help='G.')", "default that is not"),
        (f"{HEAD}    gain: float = Setting.number(1.0, 0.0, 2.0, step=0.0, label='Gain', help='G.')", "the step 0.0"),
        (f"{HEAD}    gain: float = Setting.number(1.0, 0.0, 2.0, label='', help='')", "no label or no help"),
        (f"{HEAD}    gain: float = Setting.number(1.0, 0.0, 1e999, label='Gain', help='G.')", "give finite numbers"),
        (f"{HEAD}    way: str = Setting.choice('a b', {{'a b': 'A'}}, label='Way', help='W.')", "the choice 'a b'"),
        (
            f"{HEAD}    size: float = Setting.number(1.0, 0.0, 2.0, label='Size', help='S.')",
            "name of an attribute of every operator",
        ),
        (f"{HEAD}    way: str = Setting.choice('up', {{}}, label='Way', help='W.')", "way is 'up'"),
        (
            f"{HEAD}    a: int = Setting.whole(1, 0, 2, label='A', help='A.')\n"
            "    b: int = Setting.whole(1, 0, 2, label='A', help='B.')",
            "setting b of Own has the label 'A' of another setting",
        ),
        (
            f"{HEAD}    a: int = Setting.whole(1, 0, 2, when=('b', 'c'), label='A', help='A.')",
            "but no earlier choice has this value",
        ),
        (f"{HEAD}    def __init__(self, *, resolution, gain=1): pass", "do one-time computations in prepare"),
    ],
)
def test_a_bad_module_gets_one_line(text, words, tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text(text)
    for argv in (["tasks"], ["solve", "p.png", "--task", "own", "--out", "o"], ["replay", "run"]):
        assert cli.main([*argv, "--operator-module", str(file)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert str(tmp_path) not in line
    assert "own" not in OPERATORS


def test_a_module_that_is_not_there(tmp_path, capsys):
    for file in (tmp_path / "nowhere.py", tmp_path):
        assert cli.main(["tasks", "--operator-module", str(file)]) == 2
        assert "There is no operator module" in capsys.readouterr().err
    assert cli.main(["tasks", "--operator-module"]) == 2


# One declaration each.


def test_a_name_of_an_option_that_exists_gets_a_longer_one():
    @register
    class Seeded(Operator):
        name, title, formula = "seeded", "Seeded", "y = x"
        steps: int = Setting.whole(1, 0, 5, label="Steps", help="Of its own.")
        seed: int = Setting.seed()

    options = cli_options.operator_options()
    assert (options["steps"], options["seed"], options["sigma"]) == ("--operator-steps", "--operator-seed", "--sigma")
    given = ["solve", "p.png", "--out", "o", "--task", "seeded", "--operator-steps", "3", "--steps", "7", "--seed", "1"]
    parsed = cli_options.parser().parse_args(given)
    assert cli_tasks.settings(parsed) == {"steps": 3}
    assert (parsed.steps, parsed.seed) == ([7], 1)


def test_a_setting_may_be_left_empty_on_the_page():
    @register
    class Half(Operator):
        name, title, formula = "half", "Half", "y = x"
        part: float | None = Setting.number(
            None, 0.0, 1.0, unit="%", optional="all", label="Part", help="How much of it."
        )

    with gr.Blocks(analytics_enabled=False):
        made = tasks.controls(64)["half.part"]
    assert (made.value, made.placeholder, made.label) == ("", "all", "Part, %")
    assert tasks.settings("half", {"half.part": ""}) == {"part": None}
    assert tasks.settings("half", {"half.part": "12,5"}) == {"part": 0.125}
    assert tasks.shown_values("half", {"part": 0.5}) == {"half.part": 50}


def test_settings_are_inherited():
    class Base(Operator):
        gain: float = Setting.number(1.0, 0.0, 2.0, label="Gain", help="Factor.")
        shift: float = Setting.number(0.0, -1.0, 1.0, label="Shift", help="Offset.")

    class Narrow(Base):
        gain: float = Setting.number(1.0, 0.5, 1.5, label="Gain", help="Factor.")

    assert [(setting.name, setting.low) for setting in Narrow.declared] == [("shift", -1.0), ("gain", 0.5)]


@pytest.mark.parametrize("task", OPERATORS)
def test_every_declaration_is_complete(task):
    kind = OPERATORS[task]
    assert kind.help.endswith(".")
    assert len(tasks.label(kind)) <= 20 or task not in tasks.offered()
    for setting in kind.declared:
        assert setting.help.endswith(".")
        assert not setting.complaint()


@pytest.mark.parametrize("resolution", [32, 64, 256, 1024])
def test_every_control_stands_for_what_the_operator_takes(resolution):
    with gr.Blocks(analytics_enabled=False):
        found = tasks.controls(resolution)
    for task, kind in tasks.offered().items():
        own_controls = {name: made for name, made in found.items() if name.startswith(f"{task}.")}
        values = {name: made.value for name, made in own_controls.items()}
        assert tasks.settings(task, values) == pytest.approx(kind.suggested(resolution))
        for name, made in own_controls.items():
            for end in ("minimum", "maximum"):
                if isinstance(made, gr.Slider):
                    given = tasks.settings(task, {**values, name: getattr(made, end)})
                    for setting in kind.declared:
                        if setting.kind != "mask":
                            setting.check(given, resolution)


def test_the_documented_table_is_what_is_declared(root):
    assert cli_tasks.table() in (root / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_the_documented_operator_works(root, tmp_path):
    page = (root / "docs" / "python.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(@ilo\.register.*?)\n\n\nproblem", page, re.DOTALL)
    (tmp_path / "dim.py").write_text(f"import ilo\n\n\n{block}\n")
    own.load_file(tmp_path / "dim.py")
    assert build("dim", 8, gain=0.3)(torch.ones(1, 3, 8, 8)).mean() == pytest.approx(0.3)


def test_no_other_file_names_an_operator(root):
    names, classes = set(OPERATORS), {kind.__name__ for kind in OPERATORS.values()}
    for path in sorted((root / "ilo").rglob("*.py")):
        if path.parent.name == "operators" or path.name == "download.py":  # HTTP knows an "identity", too
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in names, f"{path}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ilo.operators"):
                assert not classes & {alias.name for alias in node.names}, f"{path}:{node.lineno}"
