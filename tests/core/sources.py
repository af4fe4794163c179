"""Every module of the project by its name, and what it imports."""

import ast
from functools import cache
from importlib.util import resolve_name

from tests import ROOT

PACKAGES = ("cma", "explorer", "data_prep", "experiments")


PATHS = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PATHS
]


FILES = dict(zip(NAMES, PATHS, strict=True))


@cache
def imports(module: str, types: bool = True) -> set[str]:
    """The full names of the modules that a module imports, inside functions too.

    Without `types`, what it imports `if TYPE_CHECKING` is left out: that runs nowhere.
    """
    targets, file = set(), FILES[module]
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    tree = ast.parse(file.read_text("utf-8"))
    for node in [] if types else list(ast.walk(tree)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            below = {f"{base}.{alias.name}" for alias in node.names}
            targets |= below & FILES.keys() or {base}
    return targets - {module}
