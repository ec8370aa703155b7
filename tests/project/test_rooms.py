"""The rooms of the house: their order, their faces, and the size of what is in them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "surgery"
TEMPLATES = HOUSE / "plugins" / "templates"
"""What `surgery plugins new` writes, as a stranger would."""
MODULES = sorted(path for path in HOUSE.rglob("*.py") if not path.is_relative_to(TEMPLATES))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))

ORDER = (
    "text",
    "errors",
    "addresses",
    "interrupts",
    "types",
    "graph",
    "rewriting",
    "eager",
    "observing",
    "tracing",
    "layouts",
    "page",
    "output",
    "stages",
    "plugins",
    "drawing",
    "inputs",
    "data",
    "models",
    "builtin",
    "editing",
    "extraction",
    "studies",
    "comparison",
    "diagnosis",
    "synthesis",
    "verification",
    "testing",
    "cli",
    "__init__",
    "__main__",
)
"""From the bottom to the top: a room imports from the rooms before it alone."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path, package: str = "surgery") -> Iterator[tuple[str, str]]:
    """Yield what a file imports from a package, in functions and for types too: the module, and the name."""
    return ((module, name) for module, name in all_imports(path) if module.partition(".")[0] == package)


@cache
def all_imports(path: Path) -> list[tuple[str, str]]:
    """What a file imports: the module, and the name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


@cache
def face(room: str) -> dict[str, str]:
    """The names that a room's stub has, and the modules that they are in."""
    stub = HOUSE / room / "__init__.pyi"
    names: dict[str, str] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body if stub.exists() else ():
        if isinstance(node, ast.ImportFrom):
            inside = f"surgery.{room}" + (f".{node.module}" if node.module else "")
            names |= {alias.name: inside if node.module else f"{inside}.{alias.name}" for alias in node.names}
    return names


def defining(module: str, name: str) -> str:
    """The module that an imported name is in, looked up in the stub where it comes from a room."""
    if module == "surgery":
        found = f"surgery.{name}" if name else "surgery"
        return found if name and ((HOUSE / f"{name}.py").exists() or (HOUSE / name).is_dir()) else "surgery"
    if module.count(".") == 1 and name in face(room_of(module)):
        return face(room_of(module))[name]
    beside = ROOT.joinpath(*module.split("."), f"{name}.py")
    return f"{module}.{name}" if beside.exists() or (beside.with_suffix("") / "__init__.py").exists() else module


@pytest.mark.parametrize("own", ORDER)
def test_modules_import_from_the_faces_of_the_rooms_below_their_own(own: str) -> None:
    for path in (path for path in MODULES if room_of(name_of(path)) == own):
        for module, name in imports(path):
            room = room_of(module if module != "surgery" else defining(module, name))
            if room == own or name == "__version__":
                continue
            assert ORDER.index(room) < ORDER.index(own), f"{path} imports {module}.{name}, which is not below it"
            assert module in ("surgery", f"surgery.{room}"), f"{path} imports from inside a room: {module}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name_of(path): {
            found
            for package in ("surgery", "benchmarks")
            for module, name in imports(path, package)
            if (found := defining(module, name)) != name_of(path)
        }
        for path in (*MODULES, *BENCHMARKS)
        if path.name != "__init__.py" or path.parent.parent != HOUSE
    }
    assert "benchmarks.tools" in graph["benchmarks.examination"]
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in graph and module not in done:
            for used in sorted(graph[module]):
                visit(used, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_every_module_is_in_a_room_of_the_order() -> None:
    """With ``-s`` it prints the rooms from the top to the bottom, with the number of their modules and lines."""
    sizes = {room: [0, 0] for room in ORDER}
    for path in MODULES:
        size = sizes[room_of(name_of(path))]
        size[0] += 1
        size[1] += len(path.read_text(encoding="utf-8").splitlines())
    for room, (modules, lines) in reversed(sizes.items()):
        print(f"{room:14}{modules:4} modules{lines:7} lines")  # noqa: T201
    assert all(modules > 0 for modules, _ in sizes.values())


def test_the_top_of_the_package_holds_rooms_and_little_else() -> None:
    assert {path.stem for path in HOUSE.glob("*.py")} == {
        "__init__",
        "__main__",
        "errors",
        "interrupts",
        "types",
    }
    rooms = {path.parent.name for path in HOUSE.glob("*/__init__.py")}
    assert rooms == set(ORDER) - {"errors", "interrupts", "types", "__init__", "__main__"}


def test_a_module_has_at_most_300_lines() -> None:
    assert not [path for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 300]


FACES = [room for room in ORDER if (HOUSE / room / "__init__.pyi").exists()]


# The names of `testing` are for the authors of plugins.
@pytest.mark.parametrize("room", [room for room in FACES if room != "testing"])
def test_each_name_of_a_face_is_used_by_another_room_or_is_public(room: str) -> None:
    public = (HOUSE / "__init__.pyi").read_text(encoding="utf-8")
    outside = [path for path in MODULES if room_of(name_of(path)) != room]
    outside += [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "examples").rglob("*.py"), *TEMPLATES.rglob("*.py")]
    used = {name for path in outside for module, name in imports(path) if module == f"surgery.{room}"}
    documented = {"ChannelsFirst", "ChannelsLast", "Flat", "Tokens"}
    documented |= {"Blend", "Blur", "Clamp", "Mean", "Noise", "Periodic", "Scale", "Shuffle", "THRESHOLDS", "Zero"}
    assert {name for name in face(room) if f" {name} as " not in public} - documented <= used


def test_the_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert rooms <= {*ORDER, "project", "conformance"}
