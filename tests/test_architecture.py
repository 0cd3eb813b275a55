"""ARCHITECTURE.md, held: who imports whom, who knows what, and how long a function may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from sftrl_lib.places import ROOT

PACKAGES = (
    "commons", "worlds", "engine", "sftrl_lib", "examples", "study", "foundry", "teach",
)  # fmt: skip
# Whom each may import; the others may import everything.
MAY_IMPORT = {
    "commons": {"commons"},
    "worlds": {"commons", "worlds"},
    "engine": {"commons", "engine"},
    "sftrl_lib": {"commons", "worlds", "engine", "sftrl_lib"},
}
LINES = 3_500  # of the library, all told: it is thin
TREES = {
    path: ast.parse(path.read_text())
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
}
NAMES = {"gp-l", "gp-vl", "virl-l", "virl-vl"}
# A task's name is only ever a default there, to be replaced: {file: how often}.
DEFAULTS = {
    "cli.py": ["gp-vl"],  # of `plan`, for the largest tier
    "experiment.py": ["gp-l"],
}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in TREES}


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            yield from at_import(getattr(node, part, []))


def imported(path: Path, node: ast.stmt) -> Iterator[str]:
    """The modules that an import statement names, and what it takes out of them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        package = module(path).split(".")
        package = package if path.name == "__init__.py" else package[:-1]
        start = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*start, *filter(None, [node.module])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", TREES, ids=module)
def test_nobody_imports_what_stands_above_it(path):
    named = {name for node in ast.walk(TREES[path]) for name in imported(path, node)}
    ours = {name.split(".")[0] for name in named} & set(PACKAGES)
    assert ours <= MAY_IMPORT[module(path).split(".")[0]]


def test_no_module_of_the_library_imports_in_a_circle():
    needs = {
        name: {n for node in at_import(TREES[path].body) for n in imported(path, node)}
        for name, path in MODULES.items()
    }
    # A package's __init__ may gather what is in it, and needs no package around it.
    graph = {name: (needs[name] & set(MODULES)) - {*MAY_IMPORT, name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # or CycleError
    assert sum(map(len, graph.values())) > len(MODULES)


def test_nobody_but_the_tasks_asks_for_a_task_by_its_name():
    found = {}
    for path, tree in TREES.items():
        if "tasks" not in path.parts:
            texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
            asked = [text for text in texts if text in NAMES or text in ("-l", "-vl", "gp", "virl")]
            found |= {path.name: asked} if asked else {}
    assert found == DEFAULTS


def test_a_mistake_on_the_command_line_is_answered_without_torch():
    code = (
        "import sys; from sftrl_lib.cli import main; main(['sft', '--lr', 'x'])\n"
        "print(*{'torch', 'trl', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.startswith("error: lr is 'x'") and done.stdout == "\n"


def test_the_library_is_thin():
    texts = [path.read_text() for path in TREES if module(path).split(".")[0] == "sftrl_lib"]
    assert 0 < sum(text.count("\n") for text in texts) <= LINES


@pytest.mark.parametrize("path", TREES, ids=module)
def test_a_function_can_be_read_at_a_glance(path):
    functions = (n for n in ast.walk(TREES[path]) if isinstance(n, ast.FunctionDef))
    lines = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert {name: count for name, count in lines.items() if count > 60} == {}


def test_every_public_name_has_a_docstring():
    """Its own, or that of what it overrides; of a command's two functions `registry` says it."""
    trees = [ast.parse(p.read_text()) for d in PACKAGES for p in (ROOT / d).rglob("*.py")]
    classes = {n.name: n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}

    def documented(owner: ast.AST, name: str) -> bool:
        mine = next((n for n in owner.body if getattr(n, "name", "") == name), None)
        if mine is not None and ast.get_docstring(mine):
            return True
        bases = {ast.unparse(base) for base in getattr(owner, "bases", [])} & classes.keys()
        return any(documented(classes[base], name) for base in bases)

    missing, seen = [], 0
    for owner in (*trees, *classes.values()):
        command = "register_command" in map(_called, getattr(owner, "decorator_list", []))
        for node in owner.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and not getattr(owner, "name", "").startswith("_"):
                seen += 1
                told = documented(owner, node.name) or (command and node.name in ("options", "run"))
                missing += [] if told else [f"{getattr(owner, 'name', '')}.{node.name}"]
    assert seen > 300 and missing == []


def _called(decorator: ast.expr) -> str:
    return ast.unparse(getattr(decorator, "func", decorator))
