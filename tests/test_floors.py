"""The architecture: imports run downward only, and no two files import each other, directly or in a circle."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import mixgan_cli

PACKAGE = Path(mixgan_cli.__file__).parent
FLOORS = [  # from the top; packages on one floor may import each other, file by file without a circle
    {"cli", "__main__"},
    {"commands"},
    {"api", "training", "evaluation", "reporting"},
    {"models", "sweeps"},
    {"data"},
    {"objectives", "optim", "tracking", "runs"},
    {"runtime"},
    {"config"},
    {"errors"},
]
LEVEL = {package: level for level, packages in enumerate(FLOORS) for package in packages}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


@cache
def imports_of(name: str) -> frozenset[str]:
    """Return the files that a file imports, also where only type checkers or a function's body do."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mixgan_cli":
            module = (node.module or "").removeprefix("mixgan_cli").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                found.add(inner if inner in FILES else module)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("mixgan_cli.") for alias in node.names if "mixgan_cli." in alias.name}
    return frozenset(found - {""})  # the top package holds the version and loads `load` on first use


def package_of(name: str) -> str:
    return name.partition(".")[0]


def only_circles(below: dict[str, set[str]]) -> set[str]:
    """Leave out the files that nothing in the circle imports."""
    left = set(below)
    while unused := {name for name in left if not any(name in below[other] for other in left)}:
        left -= unused
    return left


@pytest.mark.parametrize("name", sorted(set(FILES) - {""}))
def test_imports_run_downward(name):
    for imported in imports_of(name):
        assert imported in FILES, f"{name} imports {imported}, which is not a file"
        assert LEVEL[package_of(imported)] >= LEVEL[package_of(name)], f"{name} imports {imported}, a floor above"


def test_there_are_no_import_cycles():
    below = {name: set(imports_of(name)) for name in FILES}
    while below:
        ground = {name for name, needs in below.items() if not needs & below.keys()}
        assert ground, f"a circle among {sorted(only_circles(below))}"
        below = {name: needs for name, needs in below.items() if name not in ground}


def test_models_know_no_objective_and_objectives_no_network():
    pairs = {(package_of(name), package_of(imported)) for name in FILES for imported in imports_of(name)}
    assert ("models", "objectives") not in pairs
    assert ("evaluation", "training") not in pairs


def test_import_cycle_is_found(tmp_path, monkeypatch):
    for here, there in (("one", "two"), ("two", "one")):
        (tmp_path / f"{here}.py").write_text(f"from mixgan_cli import {there}\n")
    monkeypatch.setattr("tests.test_floors.FILES", {name: tmp_path / f"{name}.py" for name in ("one", "two")})
    imports_of.cache_clear()
    with pytest.raises(AssertionError, match="a circle among"):
        test_there_are_no_import_cycles()
    imports_of.cache_clear()


@pytest.mark.parametrize("title", ["From the command to the loss", "From the file to a metric"])
def test_paths_on_the_architecture_page_have_few_files(title):
    """docs/architecture.md: at most twelve files each, and all of them there."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    section = page.partition(f"## {title}")[2].partition("\n## ")[0]
    files = set(re.findall(r"`([\w/]+\.py)`", section))
    assert 8 <= len(files) <= 12
    assert all((PACKAGE / file).is_file() for file in files), files
