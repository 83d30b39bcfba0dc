"""Imports go one way; gradio stays in ilo/ui."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each module may import those of its own level's left side only.
LEVELS = [
    {"ilo.cache", "ilo.words"},
    {"ilo.settings", "ilo.jsontext"},
    {"ilo.lazy"},
    {"ilo.budget", "ilo.description", "ilo.safefile"},
    {"ilo.archive"},
    {"ilo.pickled"},
    {"ilo.unpickle"},
    {"ilo.torchfile", "ilo.registry"},
    {"ilo.download"},
    {"ilo.projection", "ilo.stylegan2", "ilo.metrics", "ilo.masks", "ilo.video"},
    {"ilo.memory"},
    {"ilo.operators", "ilo.models", "ilo.engine"},
    {"ilo.problem", "ilo.classical", "ilo.resnet"},
    {"ilo.classifier"},
    {"ilo.weightsfile"},
    {"ilo.guidance"},
    {"ilo.losses"},
    {"ilo.state"},
    {"ilo.pictures", "ilo.faces"},
    {"ilo.tasks", "ilo.portraits"},
    {"ilo.search"},
    {"ilo.solver"},
    {"ilo.morph"},
    {"ilo"},
    {"ilo.recipe"},
    {"ilo.recorder"},
    {"ilo.bundle"},
    {"ilo.cli", "ilo.cli_models", "ilo.cli_options", "ilo.cli_pictures", "ilo.ui"},
    {"ilo.__main__", "app", "benchmarks"},
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}
SOURCES = [*sorted((ROOT / "ilo").rglob("*.py")), ROOT / "app.py"]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def level(module):
    """The level of the longest known prefix of a module's name."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        name = ".".join(parts[:n])
        if name in LEVEL and (name != "ilo" or n == len(parts)):
            return LEVEL[name]
    raise AssertionError(f"{module} has no level: add it to LEVELS")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" if node.module == "ilo" else node.module for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    own = level(module_of(path))
    for name in imports(path):
        if name.split(".")[0] == "ilo":
            try:
                other = level(name)
            except AssertionError:
                other = level("ilo")  # a name of the public API
            assert other <= own, f"{module_of(path)} imports {name}, which is above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_gradio_is_imported_by_the_page_alone(path):
    if not module_of(path).startswith("ilo.ui"):
        assert not any(name.split(".")[0] == "gradio" for name in imports(path))


def test_network_imports_ops_and_never_the_reverse():
    assert not any("network" in name for name in imports(ROOT / "ilo/stylegan2/ops.py"))
