"""Imports go in one direction only; gradio is imported only in ilo/ui."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module may import only modules of its own level or the levels before it.
LEVELS = [
    {"ilo.weights.cache", "ilo.text.words"},
    {"ilo.settings", "ilo.text.jsontext"},
    {"ilo.weights.lazy"},
    {"ilo.weights.budget", "ilo.weights.description", "ilo.records.versions", "ilo.weights.safefile"},
    {"ilo.records.archive"},
    {"ilo.weights.pickled"},
    {"ilo.weights.unpickle"},
    {"ilo.weights.torchfile", "ilo.weights.registry"},
    {"ilo.weights.download"},
    {"ilo.weights.terminal", "ilo.weights.find"},
    {
        "ilo.projection",
        "ilo.engine.memory",
        "ilo.engine.devices",
        "ilo.engine.formats",
        "ilo.records.metrics",
        "ilo.photos.masks",
        "ilo.records.film",
    },
    {"ilo.priors.base"},
    {"ilo.priors.stylegan2", "ilo.priors.corrected", "ilo.engine.engine"},
    {"ilo.operators", "ilo.priors.load", "ilo.engine.compiling", "ilo.engine.background"},
    {"ilo.problem", "ilo.methods", "ilo.baselines.classical", "ilo.classifiers.resnet"},
    {"ilo.classifiers.classifier"},
    {"ilo.guidance", "ilo.perceptual"},
    {"ilo.objective"},
    {"ilo.state"},
    {"ilo.photos.pictures", "ilo.photos.faces", "ilo.photos.facenet"},
    {"ilo.photos.yunet", "ilo.photos.facesearch"},
    {"ilo.photos.detection"},
    {"ilo.photos.tasks", "ilo.photos.portraits"},
    {"ilo.variables"},
    {"ilo.search"},
    {"ilo.solver"},
    {"ilo.morph"},
    {"ilo"},
    {"ilo.records.recipe"},
    {"ilo.records.recorder", "ilo.records.recording", "ilo.records.script", "ilo.records.scores"},
    {"ilo.records.strip", "ilo.records.readme"},
    {"ilo.records.bundle"},
    {"ilo.records.saving"},
    {"ilo.cli", "ilo.ui"},
    {"ilo.__main__", "app", "benchmarks"},
]
# Modules in these packages without a level are at the bottom: a new module that imports others needs a level.
ROOMS = ("text", "weights", "priors", "classifiers", "engine", "photos", "records", "baselines")
LEVELS[0] |= {f"ilo.{room}" for room in ROOMS}
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
    tree = ast.parse(path.read_text())
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (_module(node.module, alias.name) for alias in node.names)


def _module(package, name):
    """What `from package import name` imports: a module of the package, or a name defined in the package itself."""
    inside = ROOT.joinpath(*package.split("."), name)
    return f"{package}.{name}" if package == "ilo" or inside.with_suffix(".py").exists() or inside.is_dir() else package


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


@pytest.mark.parametrize("room", ["ilo.ui", "ilo.cli"])
def test_nothing_imports_the_page_or_the_command_line(room):
    doors = ("app", "ilo.__main__")
    for path in SOURCES:
        own = module_of(path)
        if not own.startswith(room) and own not in doors:
            assert not any(name.startswith(room) for name in imports(path)), f"{own} imports {room}"


def test_there_is_no_circle():
    """Not even within a package; imports for type checking do not count."""
    arrows = {module_of(path): {n for n in imports(path) if n.startswith("ilo.")} for path in SOURCES}
    done, on_the_way = set(), []

    def visit(module):
        if module in on_the_way:
            raise AssertionError(" → ".join([*on_the_way[on_the_way.index(module) :], module]))
        if module in done or module not in arrows:
            return
        on_the_way.append(module)
        for other in sorted(arrows[module]):
            visit(other)
        done.add(on_the_way.pop())

    for module in sorted(arrows):
        visit(module)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_gradio_is_imported_by_the_page_alone(path):
    if not module_of(path).startswith("ilo.ui"):
        assert not any(name.split(".")[0] == "gradio" for name in imports(path))


@pytest.mark.parametrize("name", ["solver", "search", "state", "morph", "objective"])
def test_the_algorithm_knows_no_generator(name):
    assert not any("stylegan2" in other or other == "ilo.priors.load" for other in imports(ROOT / "ilo" / f"{name}.py"))


def test_network_imports_ops_and_never_the_reverse():
    assert not any("network" in name for name in imports(ROOT / "ilo/priors/stylegan2/ops.py"))
