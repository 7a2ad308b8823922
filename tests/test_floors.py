"""The house: imports run downward only."""

import ast
from pathlib import Path

import mixgan_cli

PACKAGE = Path(mixgan_cli.__file__).parent
FLOORS = [  # from the top; rooms on one floor may know each other, but not in a circle
    {"cli", "__main__"},
    {"commands"},
    {"training", "evaluation"},
    {"models", "reporting"},
    {"objectives", "data", "tracking", "sweeps", "runs", "config", "hardware", "composition"},
    {
        "parts",
        "files",
        "randomness",
        "ranks",
        "schedules",
        "secrecy",
        "renamed",
        "errors",
        "interrupt",
        "console",
        "benchmarking",
    },
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def imports():
    """Every (importing room, imported room) with the file it stands in."""
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("mixgan_cli.") and room != "__init__":
                    yield room, name.split(".")[1], path


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == LEVEL.keys()


def test_imports_run_downward():
    for room, imported, path in imports():
        assert LEVEL[imported] >= LEVEL[room], f"{path}: {room} imports {imported}, a floor above"


def test_no_circle_between_rooms():
    below = {room: {imported for importer, imported, _ in imports() if importer == room} - {room} for room in LEVEL}
    while below:
        ground = {room for room, needs in below.items() if not needs & below.keys()}
        assert ground, f"a circle among {sorted(below)}"
        below = {room: needs for room, needs in below.items() if room not in ground}


def test_models_know_no_objective_and_objectives_no_network():
    pairs = {(room, imported) for room, imported, _ in imports()}
    assert ("models", "objectives") not in pairs and ("objectives", "models") not in pairs
    assert ("evaluation", "training") not in pairs
