"""The house: which module may import which, how deep that goes, and how much there is to read."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests import ROOT

CMA, DATA_PREP, EXPERIMENTS = ROOT / "cma", ROOT / "data_prep", ROOT / "experiments"
CORE = {"adapter", "backbone", "checkpoints", "config", "data", "files", "losses", "metrics", "model"}
CORE |= {"method", "patching", "plots", "recipes", "similarity"}
FLOORS = [{"files"}, {"media"}, {"core"}, {"methods"}, {"training", "search"}, {"explore"}]
ROOMS = set.union(*FLOORS) - {"files", "core"}


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package: file; `__init__` has the name of its folder."""
    found = {path.relative_to(package).with_suffix("").parts: path for path in package.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in found.items()}


@cache
def imports(package: Path) -> dict[str, set[str]]:
    """Which modules of the package each of its modules imports, inside functions too."""
    known, graph = modules(package), {}
    for name, path in known.items():
        found = set()
        here = name.split(".") if path.stem == "__init__" and name else name.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == package.name:
                        found.add(alias.name.partition(".")[2])
            elif isinstance(node, ast.ImportFrom):
                parts = (node.module or "").split(".") if node.module else []
                if node.level:
                    parts = here[: len(here) - node.level + 1] + parts
                elif parts[:1] == [package.name]:
                    parts = parts[1:]
                else:
                    continue
                base = ".".join(parts)
                for alias in node.names:
                    below = f"{base}.{alias.name}".strip(".")
                    found.add(below if below in known else base)
        graph[name] = found - {name}
    return graph


def room_of(module: str) -> str:
    first = module.split(".")[0]
    return first if first in ROOMS or first == "files" else "core"


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many imports lie below each module; raises RecursionError in a circle."""

    @cache
    def height(module: str) -> int:
        return 1 + max((height(below) for below in graph[module] if below in graph), default=-1)

    return {module: height(module) for module in graph}


# Lines of each room, of all of cma, and of what stands beside it. A room may be longer only by OVER:
# that is still to be taken away, so it may fall and never rise.
LIMITS = {"core": 1750, "training": 1600, "methods": 720, "media": 510, "search": 900, "explore": 1100}
LIMITS |= {"cma": 6600, "experiments": 1900, "data_prep": 3700}
OVER = {"core": 0, "training": 0, "search": 0, "explore": 0, "cma": 0}


def lines(name: str) -> int:
    """The lines of Python in a room of cma, in its core, or in a package."""
    if name == "core":
        files = [CMA / "__init__.py", *(CMA / f"{module}.py" for module in CORE)]
    else:
        files = ((CMA / name) if name in ROOMS else (ROOT / name)).rglob("*.py")
    return sum(len(path.read_text("utf-8").splitlines()) for path in files)


@pytest.mark.parametrize("name", LIMITS)
def test_there_is_no_more_to_read_than_was_agreed(name):
    assert lines(name) <= LIMITS[name] + OVER.get(name, 0)


def test_the_core_is_fourteen_modules():
    assert {name for name in modules(CMA) if name and "." not in name} - ROOMS == CORE


def test_one_run_is_read_in_seven_floors_at_most():
    graph = {name: found for name, found in imports(CMA).items() if name.startswith("training.")}
    assert max(floors({name: found & graph.keys() for name, found in graph.items()}).values()) < 7


@pytest.mark.parametrize("module", sorted(name for name in modules(CMA) if name))
def test_no_module_imports_from_a_higher_floor_or_past_a_door(module):
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    here = room_of(module)
    for target in imports(CMA)[module]:
        there = room_of(target) if target else None
        if there in (None, here):
            continue
        assert level[there] < level[here], f"{module} imports {target}"
        assert there in ("core", "files") or target == there, (
            f"{module} reaches past the door of {there}: {target}"
        )


def test_nothing_is_imported_in_a_circle():
    for package in (CMA, DATA_PREP, EXPERIMENTS):
        graph = {name: found for name, found in imports(package).items() if name}
        floors({name: {below for below in found if below} for name, found in graph.items()})


def test_the_core_is_five_floors_high_at_most():
    graph = {name: imports(CMA)[name] & CORE for name in CORE}
    assert max(floors(graph).values()) < 5
    assert not imports(CMA)["adapter"]


def imported_packages(path: Path) -> dict[str, set[str]]:
    """The packages that a file imports by their full names: {package: the names below it}."""
    seen: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            named += [f"{node.module}.{alias.name}" for alias in node.names]
        for name in named:
            package, _, below = name.partition(".")
            seen.setdefault(package, set()).add(below)
    return seen


def test_the_packages_import_downwards():
    """A wheel holds `cma` and `data_prep` alone; `cma` needs not even the latter."""
    above = {CMA: {"data_prep"}, DATA_PREP: set(), EXPERIMENTS: set()}
    for package, others in above.items():
        forbidden = others | {"notebooks", "tests"} | ({"experiments"} - {package.name})
        for path in package.rglob("*.py"):
            assert not forbidden & set(imported_packages(path)), path


def test_experiments_use_the_rooms_of_cma_by_their_doors():
    for path in EXPERIMENTS.rglob("*.py"):
        for name in imported_packages(path).get("cma", ()):
            room, *below = name.split(".")
            assert room not in ROOMS or len(below) < 2, f"{path} reaches past the door of {room}: {name}"
            assert f"{room}.{'.'.join(below)}" not in modules(CMA), f"{path} reaches past the door: {name}"


def test_no_two_modules_have_one_name():
    for package in (CMA, DATA_PREP, EXPERIMENTS):
        leaves = [name.split(".")[-1] for name in modules(package) if name]
        assert len(leaves) == len(set(leaves)), sorted(leaves)


def test_no_class_stands_twice():
    seen = {}
    for path in [path for package in (CMA, DATA_PREP, EXPERIMENTS) for path in package.rglob("*.py")]:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                assert seen.setdefault(node.name, path) == path, node.name
