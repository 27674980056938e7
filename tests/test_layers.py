"""Who may import whom, and what only the command line does: read from the source, nothing is run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hat_sr

PACKAGE = Path(hat_sr.__file__).parent

RANKS = {
    "errors": 0,
    "files": 0,
    "allocator": 0,
    "model": 1,
    "image": 1,
    "checkpoints": 2,
    "runtime": 2,
    "export": 3,
    "inference": 4,
    "lam": 4,
    "degradation": 4,
    "batch": 5,
    "evaluate": 5,
    "train": 6,
    "serve": 6,
    "experiment": 7,
    "cli": 8,
}
"""A module imports from its own part and from parts of lower rank."""

ONLY = {
    **{
        f"hat_sr.model.{name}": ("torch", "hat_sr.errors", "hat_sr.model")
        for name in ("config", "window", "attention", "ops", "blocks", "hat", "banded", "initialise", "cost")
    },
    **{f"hat_sr.image.{name}": ("torch", "hat_sr.errors", "hat_sr.image") for name in ("color", "resize")},
    **{f"hat_sr.lam.{name}": ("torch", "hat_sr.errors", "hat_sr.lam") for name in ("attribution", "measures")},
    "hat_sr.model.native": ("torch", "hat_sr_native", "hat_sr.errors", "hat_sr.model"),
    "hat_sr.image.convert": ("torch", "numpy", "hat_sr.errors", "hat_sr.image"),
}
"""Modules that others may copy out: these imports and the standard library, nothing else."""


def _name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

PARTS = {name: tree for name, tree in MODULES.items() if name not in ("hat_sr", "hat_sr.__main__")}


def imports(tree):
    """Full names of all that a module imports, wherever in it; public names of hat_sr count as their homes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {_source(node.module, alias.name) for alias in node.names}
    return found


def _source(module, name):
    if module == "hat_sr" and name in hat_sr._HOME:
        return hat_sr._HOME[name]
    return f"hat_sr.{name}" if module == "hat_sr" and name != "__version__" else module


def part(module):
    """errors, model, …; None for hat_sr itself, which has only the version, and for other packages."""
    names = module.split(".")
    return names[1] if names[0] == "hat_sr" and len(names) > 1 else None


def wrong_imports(module, tree):
    own = part(module)
    return {
        name
        for name in imports(tree)
        if (other := part(name)) is not None and other != own and RANKS[other] >= RANKS[own]
    }


def within(module):
    """Modules of hat_sr that a module imports, lazily or not; `from hat_sr.model import hat` is hat_sr.model.hat."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return (found | imports(MODULES[module])) & PARTS.keys() - {module}


def reached(module, graph):
    """Modules that a module imports through any number of others; itself, too, where there is a circle."""
    found, pending = set(), [module]
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending += new
    return found


def test_no_circles():
    """Not through imports inside functions, either."""
    graph = {module: within(module) for module in PARTS}
    assert [module for module in PARTS if module in reached(module, graph)] == []


def test_the_check_of_circles_can_fail():
    assert reached("a", {"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {"a", "b", "c"}
    assert "hat_sr.model.config" in within("hat_sr.model.hat")


def test_the_network_reaches_no_files():
    graph = {module: within(module) for module in PARTS}
    assert {part(module) for module in reached("hat_sr.model.hat", graph)} == {"model", "errors"}


def test_every_part_has_a_rank():
    assert {part(module) for module in PARTS} <= set(RANKS)


@pytest.mark.parametrize("module", PARTS)
def test_imports_go_down(module):
    assert wrong_imports(module, PARTS[module]) == set()


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("hat_sr.model.hat", "import hat_sr.image.color", {"hat_sr.image.color"}),
        ("hat_sr.image.io", "def f():\n    from hat_sr.inference import pad", {"hat_sr.inference"}),
        ("hat_sr.model.hat", "from hat_sr import Upscaler", {"hat_sr.inference.upscaler"}),
        ("hat_sr.errors", "from hat_sr import model", {"hat_sr.model"}),
        ("hat_sr.model.hat", "from hat_sr import HATConfig, __version__\nimport hat_sr.errors, torch", set()),
        ("hat_sr.train.loop", "from hat_sr.evaluate import metrics\nfrom hat_sr.train import data", set()),
    ],
)
def test_the_check_of_ranks_can_fail(module, text, wrong):
    assert wrong_imports(module, ast.parse(text)) == wrong


@pytest.mark.parametrize("module", ONLY)
def test_modules_that_stand_alone(module):
    standard = sys.stdlib_module_names
    others = {name for name in imports(MODULES[module]) if name.partition(".")[0] not in standard}
    assert {name for name in others if not any(f"{name}.".startswith(f"{one}.") for one in ONLY[module])} == set()


def _speaks(tree):
    """Prints, writes to the standard streams, or configures logging."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    told = {"print", "sys.stdout", "sys.stderr", "logging.basicConfig", "warnings.warn"}
    return (names | attributes) & told | {name for name in imports(tree) if name.partition(".")[0] == "rich"}


@pytest.mark.parametrize("module", [module for module in PARTS if part(module) != "cli"])
def test_only_the_command_line_speaks(module):
    assert _speaks(MODULES[module]) == set()


def test_the_check_of_speech_can_fail():
    assert _speaks(MODULES["hat_sr.cli"]) == {"print", "sys.stdout", "logging.basicConfig"}
    assert _speaks(MODULES["hat_sr.cli.messages"]) == {"print", "sys.stderr"}


def test_one_module_knows_of_several_processes():
    assert {
        module for module, tree in MODULES.items() if any("torch.distributed" in name for name in imports(tree))
    } == {"hat_sr.train.distributed"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(MODULES[module])


@pytest.mark.parametrize("module", ["hat_sr", "hat_sr.cli"])
def test_importing_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_and_version_do_not_import_torch():
    code = """
import sys
from hat_sr.cli import app
for words in ('--help', '--version'):
    app([words])
sys.exit('torch' in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
