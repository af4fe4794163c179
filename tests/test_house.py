"""The house: which module may import which, how deep that goes, and how much there is to read."""

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests import ROOT

CORE = {
    "adapter",
    "backbone",
    "checkpoints",
    "config",
    "data",
    "families",
    "files",
    "hub",
    "losses",
}
CORE |= {"method", "metrics", "model", "patching", "plots", "recipes", "similarity"}
FLOORS = [{"files"}, {"media"}, {"core"}, {"methods"}, {"training", "search"}]
LEVELS = {room: level for level, floor in enumerate(FLOORS) for room in floor}
PACKAGES = ("cma", "explorer", "data_prep", "experiments")
# Python tokens of each room and package, without imports, comments and docstrings: a clear name, a
# step of its own and white space cost nothing. A limit is where a second reading found nothing more
# that no user would miss.
LIMITS = {
    "core": 16320,
    "training": 12520,
    "search": 15270,
    "media": 4640,
    "methods": 4400,
    "cma": 16320 + 12520 + 15270 + 4640 + 4400,
    "explorer": 16420,
    "data_prep": 43930,
    "experiments": 22070,
    "tests": 222260,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
UNCOUNTED = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "FSTRING_END"}


PATHS = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PATHS
]
# by dotted name; `__init__` has the name of its folder
FILES = dict(zip(NAMES, PATHS, strict=True))


@cache
def imports(module: str) -> set[str]:
    """The full names of the modules that a module imports, inside functions too."""
    targets, file = set(), FILES[module]
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            below = {f"{base}.{alias.name}" for alias in node.names}
            targets |= below & FILES.keys() or {base}
    return targets - {module}


def room_of(module: str) -> str:
    """The room of a module below `cma`."""
    first = module.split(".")[1]
    return first if first in LEVELS else "core"


def heights(names: set[str]) -> dict[str, int]:
    """How many imports among `names` lie below each; raises RecursionError in a circle."""

    @cache
    def height(module: str) -> int:
        return 1 + max((height(below) for below in imports(module) & names), default=-1)

    return {module: height(module) for module in names}


def test_the_core_is_sixteen_modules():
    below = {name.removeprefix("cma.") for name in FILES if name.startswith("cma.")}
    assert {name for name in below if "." not in name} == CORE | LEVELS.keys() - {"core"}


def unread_lines(tree: ast.Module) -> set[int]:
    """The numbers of the lines that hold an import or a docstring."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def size(path: Path) -> int:
    """The number of tokens of a file that a reader has to read.

    An f-string is one token, as in Python 3.11; later versions split it.
    """
    text = path.read_text("utf-8")
    unread = unread_lines(ast.parse(text))
    count = depth = 0
    for one in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[one.type]
        depth -= kind == "FSTRING_END"
        count += not depth and kind not in UNCOUNTED and one.start[0] not in unread
        depth += kind == "FSTRING_START"
    return count


def test_a_token_is_counted_once_and_prose_never(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        '"""Prose."""\nimport os\n\n\ndef f(x):  # said\n    """More."""\n    return f"{x}"\n'
    )
    assert size(path) == len(["def", "f", "(", "x", ")", ":", "return", 'f"{x}"'])


@pytest.mark.parametrize("part", LIMITS)
def test_there_is_no_more_to_read_than_was_agreed(part):
    folder = ROOT / ("cma" if part == "core" else f"cma/{part}" if part in LEVELS else part)
    paths = folder.glob("*.py") if part == "core" else folder.rglob("*.py")
    found = sum(size(path) for path in paths)
    assert found <= LIMITS[part], f"{part}: {found:,} tokens, expected at most {LIMITS[part]:,}"


def test_the_front_end_of_the_explorer_is_short():
    """95,000 characters of JavaScript and CSS, without white space and comments."""
    texts = [
        path.read_text("utf-8")
        for path in (ROOT / "explorer" / "static").iterdir()
        if path.suffix in (".js", ".css")
    ]
    comments = re.compile(r"/\*.*?\*/|(?:^|(?<=\s))//[^\n]*", re.DOTALL)
    assert len(texts) == 4
    assert sum(len("".join(comments.sub("", text).split())) for text in texts) <= 95_000


def test_one_run_is_read_in_seven_floors_at_most():
    assert max(heights({name for name in FILES if name.startswith("cma.training.")}).values()) < 7


@pytest.mark.parametrize(
    "module", sorted(name for name in FILES if name.startswith(("cma.", "explorer", "experiments")))
)
def test_no_module_imports_from_a_higher_floor_or_past_a_door(module):
    here = room_of(module) if module.startswith("cma.") else None
    for target in imports(module):
        there = room_of(target) if target.startswith("cma.") else here
        if there != here:
            assert here is None or LEVELS[there] < LEVELS[here], f"{module} imports {target}"
            assert there in ("core", "files") or target == f"cma.{there}", (
                f"{target} is past a door"
            )


def test_nothing_is_imported_in_a_circle_and_the_core_is_five_floors_high_at_most():
    heights(FILES.keys() - set(PACKAGES))
    assert max(heights({f"cma.{name}" for name in CORE}).values()) < 5
    assert not any(target.startswith("cma") for target in imports("cma.adapter"))


def test_the_packages_import_downwards():
    """A wheel holds `cma`, `explorer` and `data_prep`; `cma` needs neither of the others.

    `explorer.site` takes what a page runs from the cache of npm packages that `data_prep` fills.
    """
    above = {
        "cma": {"explorer", "data_prep", "experiments"},
        "explorer": {"experiments"},
        "data_prep": {"explorer", "experiments"},
        "experiments": {"explorer"},
    }
    for module in FILES:
        forbidden = above[module.partition(".")[0]] | {"notebooks", "tests"}
        assert not forbidden & {target.partition(".")[0] for target in imports(module)}, module


def test_no_two_modules_or_classes_have_one_name():
    leaves = Counter(
        (name.split(".")[0], name.split(".")[-1]) for name in FILES.keys() - set(PACKAGES)
    )
    assert max(leaves.values()) == 1, leaves.most_common(3)
    trees = [ast.parse(path.read_text("utf-8")) for path in FILES.values()]
    classes = Counter(
        node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)
    )
    assert max(classes.values()) == 1, classes.most_common(3)
